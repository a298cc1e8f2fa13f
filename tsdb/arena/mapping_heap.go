// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix || race || invariants

package arena

// mapRegion returns memory of the Go heap, where the race detector and checkptr see what is done with it.
func mapRegion(size int) ([]byte, error) { return make([]byte, size), nil }

func unmapRegion([]byte) error { return nil }

func dropPages([]byte) error { return nil }
