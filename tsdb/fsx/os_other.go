// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package fsx

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fdatasync asks for more than the data where the system has no call for the data alone. On macOS Sync is
// F_FULLFSYNC, the only call there that reaches the disk.
func fdatasync(f *os.File) error { return f.Sync() }

func fallocate(*os.File, int64) error { return unix.ENOTSUP }

func (osFS) Usage(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.FromSlash(dir), &st); err != nil {
		return 0, 0, pathError("statfs", dir, err)
	}
	return uint64(st.Bavail) * uint64(st.Bsize), uint64(st.Blocks) * uint64(st.Bsize), nil
}
