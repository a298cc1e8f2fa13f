// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package arena

import "unsafe"

// Prefetch asks for the cache lines at these addresses and waits for none of them. Loads would do the same, but each of
// them holds up what the core has begun behind it.
//
//go:noescape
func Prefetch(lines []unsafe.Pointer)
