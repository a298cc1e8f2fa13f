// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package arena

import "unsafe"

// Prefetch does nothing on processors that it is not written for.
func Prefetch([]unsafe.Pointer) {}
