// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fsx

import (
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

func fdatasync(f *os.File) error {
	defer runtime.KeepAlive(f)
	return retry(func() error { return unix.Fdatasync(int(f.Fd())) })
}

// fallocate reserves [0, size) and lengthens the file. A size of zero is nothing to do; the call would refuse it.
func fallocate(f *os.File, size int64) error {
	if size <= 0 {
		return nil
	}
	defer runtime.KeepAlive(f)
	return retry(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
}

func (osFS) Usage(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(filepath.FromSlash(dir), &st) }); err != nil {
		return 0, 0, pathError("statfs", dir, err)
	}
	// Blocks are counted in fragments on Linux; Bavail leaves out what is reserved for root.
	return st.Bavail * uint64(st.Frsize), st.Blocks * uint64(st.Frsize), nil
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR { //nolint:errorlint // Plain errno of a system call.
			return err
		}
	}
}
