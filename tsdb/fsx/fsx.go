// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package fsx is the one seam between the storage and a file system. Nothing else in the project renames or
// syncs a file of the store.
//
// There are four file systems behind the FS interface: OS, the operating system's; NewCrashable, in memory, whose
// Crash answers with a state that a power cut could have left; NewFaulty, which wraps another one and lets the
// n-th operation fail, stall or be seen; and NewVolatile, which keeps unsynced writes in the memory of the process,
// so that the end of the process loses them as the end of the power would.
//
// The contract is that of POSIX, no better: written bytes survive a crash only after SyncData of their file, a
// created, renamed or removed name only after SyncDir of its directory. Publish is the one way to make a
// finished file appear whole or not at all.
package fsx

import (
	"errors"
	"io"
	"syscall"
)

// FS is a file system. Paths are slash-separated and may be absolute. It is safe for concurrent use. Errors
// are *os.PathError, so that errors.Is(err, fs.ErrNotExist) and syscall errors work through them.
type FS interface {
	// Create makes an empty file for reading and writing, truncating one that is there.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing file for reading and writing, without truncating it.
	OpenReadWrite(name string) (File, error)
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// Rename moves oldname to newname, replacing what is there.
	Rename(oldname, newname string) error
	// MkdirAll makes a directory and its parents.
	MkdirAll(dir string) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
	// Stat returns the size of a file in bytes and whether it is a directory.
	Stat(name string) (Info, error)
	// SyncDir makes the names in a directory survive a crash.
	SyncDir(dir string) error
	// Lock takes the lock file name, making it where it is missing, until the Closer is closed or the process
	// ends. It does not wait: a lock held elsewhere is a *LockedError. The file stays when the lock goes.
	Lock(name string) (io.Closer, error)
	// Usage returns the bytes free to this process and the total of the disk that holds dir.
	Usage(dir string) (free, total uint64, err error)
}

// Info is what Stat tells.
type Info struct {
	Size int64
	Dir  bool
}

// File is an open file. ReadAt and WriteAt are safe for concurrent use on ranges that do not overlap.
type File interface {
	io.ReaderAt
	io.WriterAt
	// SyncData makes the bytes written so far, and the size, survive a crash (fdatasync).
	SyncData() error
	// Preallocate reserves disk for [0, size) without changing what a reader sees beyond making the file
	// at least that long, with zeros. Best effort: an error other than a full disk is not reported.
	Preallocate(size int64) error
	// Truncate sets the size.
	Truncate(size int64) error
	// Size returns the current size in bytes.
	Size() (int64, error)
	Close() error
}

// LockedError says that another process holds a lock.
type LockedError struct {
	Path string
	Err  error
}

// Error names the file and what to do.
func (e *LockedError) Error() string {
	return "lock " + e.Path + ": held by another process: stop the server that uses this directory"
}

// Unwrap returns the error of the system call.
func (e *LockedError) Unwrap() error { return e.Err }

// IsFull reports whether err says that a disk or a quota is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
