// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"io"
	"io/fs"
	"syscall"
)

// memHandle is an open file of a Crashable.
type memHandle struct {
	fs     *Crashable
	f      *memFile
	name   string
	write  bool
	closed bool
}

// use locks the file system; the caller unlocks it when the error is nil.
func (h *memHandle) use(op string, write bool) error {
	h.fs.mu.Lock()
	switch {
	case h.closed:
		h.fs.mu.Unlock()
		return &fs.PathError{Op: op, Path: h.name, Err: fs.ErrClosed}
	case write && !h.write:
		h.fs.mu.Unlock()
		return &fs.PathError{Op: op, Path: h.name, Err: syscall.EBADF}
	}
	return nil
}

func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	if err := h.use("read", false); err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: h.name, Err: syscall.EINVAL}
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	if err := h.use("write", true); err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if off < 0 {
		return 0, &fs.PathError{Op: "write", Path: h.name, Err: syscall.EINVAL}
	}
	if len(p) == 0 {
		return 0, nil // it does not lengthen the file, wherever it is
	}
	end := off + int64(len(p))
	if err := h.grow("write", end); err != nil {
		return 0, err
	}
	h.f.touch(off, end)
	return copy(h.f.data[off:end], p), nil
}

// grow makes the file at least size bytes long.
func (h *memHandle) grow(op string, size int64) error {
	more := size - int64(len(h.f.data))
	if more <= 0 {
		return nil
	}
	if err := h.reserve(op, more); err != nil {
		return err
	}
	h.f.resize(size)
	return nil
}

func (h *memHandle) reserve(op string, n int64) error {
	if h.f.links == 0 {
		return nil
	}
	return h.fs.reserve(op, h.name, n)
}

func (h *memHandle) SyncData() error {
	if err := h.use("fdatasync", false); err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	h.f.before = nil
	h.f.syncedSize = int64(len(h.f.data))
	return nil
}

func (h *memHandle) Preallocate(size int64) error {
	if err := h.use("fallocate", true); err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	return h.grow("fallocate", size)
}

func (h *memHandle) Truncate(size int64) error {
	if err := h.use("truncate", true); err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	if size < 0 {
		return &fs.PathError{Op: "truncate", Path: h.name, Err: syscall.EINVAL}
	}
	if err := h.reserve("truncate", size-int64(len(h.f.data))); err != nil {
		return err
	}
	h.f.resize(size)
	return nil
}

func (h *memHandle) Size() (int64, error) {
	if err := h.use("stat", false); err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	return int64(len(h.f.data)), nil
}

func (h *memHandle) Close() error {
	if err := h.use("close", false); err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	h.closed = true
	return nil
}
