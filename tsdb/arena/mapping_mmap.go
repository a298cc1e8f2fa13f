// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !race && !invariants

package arena

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapRegion reserves size bytes of zeroed memory that is backed page by page when it is touched.
func mapRegion(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

func unmapRegion(b []byte) error { return unix.Munmap(b) }

// dropPages gives the memory behind b to the operating system; b stays mapped. Where pages are larger than b, or b is not
// of whole ones, it does nothing and answers an error: the system would take what is beside b too.
func dropPages(b []byte) error {
	if !wholePages(uintptr(unsafe.Pointer(unsafe.SliceData(b))), len(b), os.Getpagesize()) {
		return unix.EINVAL
	}
	return unix.Madvise(b, unix.MADV_DONTNEED)
}
