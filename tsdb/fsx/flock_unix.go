// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package fsx

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func flock(f *os.File) error {
	defer runtime.KeepAlive(f)
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
