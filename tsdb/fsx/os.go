// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	dirMode  = 0o755
	fileMode = 0o644
)

// OS returns the file system of the operating system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) Create(name string) (File, error) {
	return openOS(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (osFS) Open(name string) (File, error) { return openOS(name, os.O_RDONLY) }

func (osFS) OpenReadWrite(name string) (File, error) { return openOS(name, os.O_RDWR) }

func openOS(name string, flags int) (File, error) {
	f, err := os.OpenFile(filepath.FromSlash(name), flags, fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error { return os.Remove(filepath.FromSlash(name)) }

func (osFS) Rename(oldname, newname string) error {
	return os.Rename(filepath.FromSlash(oldname), filepath.FromSlash(newname))
}

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(filepath.FromSlash(dir), dirMode) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.FromSlash(dir))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) Stat(name string) (Info, error) {
	st, err := os.Stat(filepath.FromSlash(name))
	if err != nil {
		return Info{}, err
	}
	return Info{Size: st.Size(), Dir: st.IsDir()}, nil
}

func (osFS) SyncDir(dir string) error {
	f, err := os.Open(filepath.FromSlash(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// lockAttempts bounds how often Lock starts again because the file it locked had been removed meanwhile.
const lockAttempts = 10

// Lock takes an exclusive flock, as Prometheus does on the file "lock" of its data directory. Prometheus removes
// that file when it stops, so a lock counts only on the file that still has the name. We leave the file: to
// remove it would let a process that has it open already lock a file that nobody else finds any more.
func (osFS) Lock(name string) (io.Closer, error) {
	for range lockAttempts {
		f, err := os.OpenFile(filepath.FromSlash(name), os.O_RDWR|os.O_CREATE, fileMode)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			return nil, errors.Join(lockError(name, err), f.Close())
		}
		held, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if named, err := os.Stat(f.Name()); err == nil && os.SameFile(held, named) {
			return f, nil // Closing it gives the lock back.
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return nil, &LockedError{Path: name, Err: fs.ErrExist}
}

func lockError(name string, err error) error {
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EACCES) {
		return &LockedError{Path: name, Err: err}
	}
	return &fs.PathError{Op: "lock", Path: name, Err: err}
}

// osFile adds to *os.File what the interface has beyond it.
type osFile struct{ *os.File }

func (f osFile) SyncData() error {
	if err := fdatasync(f.File); err != nil {
		return pathError("fdatasync", f.Name(), err)
	}
	return nil
}

func (f osFile) Preallocate(size int64) error {
	err := fallocate(f.File, size)
	switch {
	case err == nil:
		return nil
	case IsFull(err), errors.Is(err, syscall.EIO):
		return pathError("fallocate", f.Name(), err)
	}
	// The file system cannot reserve: be as long as promised, at least.
	have, err := f.Size()
	if err != nil || have >= size {
		return err
	}
	return f.Truncate(size)
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func pathError(op, name string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
