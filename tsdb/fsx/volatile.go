// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"errors"
	"io"
	"path"
	"sync"
)

// NewVolatile returns inner with the volatile cache of a real disk moved into this process: written bytes reach
// inner only with SyncData of their file. A process that is killed on it loses what a power cut would lose of file
// contents, on a file system that orders names before contents: names are not held back. Only tests that kill a
// server run on it; its memory grows with what is never synced.
func NewVolatile(inner FS) FS {
	return &volatileFS{FS: inner, files: map[string]*volatileCache{}}
}

type volatileFS struct {
	FS
	mu    sync.Mutex
	files map[string]*volatileCache
}

// volatileCache is what was written to one file and not synced, in the order of the writes.
type volatileCache struct {
	mu     sync.Mutex
	writes []pendingWrite
}

// pendingWrite is a write, or with nil data a change of the size to off.
type pendingWrite struct {
	off  int64
	data []byte
}

// cache returns the cache of a name. fresh drops one that is there.
func (v *volatileFS) cache(name string, fresh bool) *volatileCache {
	v.mu.Lock()
	defer v.mu.Unlock()
	name = path.Clean(name)
	c := v.files[name]
	if c == nil || fresh {
		c = &volatileCache{}
		v.files[name] = c
	}
	return c
}

func (v *volatileFS) wrap(name string, fresh bool, open func(string) (File, error)) (File, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &volatileFile{inner: f, cache: v.cache(name, fresh)}, nil
}

func (v *volatileFS) Create(name string) (File, error) { return v.wrap(name, true, v.FS.Create) }

// Open opens for writing where it can: a sync through a handle opened for reading writes the cache back.
func (v *volatileFS) Open(name string) (File, error) {
	if f, err := v.FS.OpenReadWrite(name); err == nil {
		return &volatileFile{inner: f, cache: v.cache(name, false)}, nil
	}
	return v.wrap(name, false, v.FS.Open)
}

func (v *volatileFS) OpenReadWrite(name string) (File, error) {
	return v.wrap(name, false, v.FS.OpenReadWrite)
}

func (v *volatileFS) Remove(name string) error {
	if err := v.FS.Remove(name); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.files, path.Clean(name))
	return nil
}

func (v *volatileFS) Rename(oldname, newname string) error {
	if err := v.FS.Rename(oldname, newname); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	oldname, newname = path.Clean(oldname), path.Clean(newname)
	delete(v.files, newname)
	if c, ok := v.files[oldname]; ok && oldname != newname {
		v.files[newname] = c
		delete(v.files, oldname)
	}
	return nil
}

func (v *volatileFS) Stat(name string) (Info, error) {
	info, err := v.FS.Stat(name)
	if err != nil || info.Dir {
		return info, err
	}
	c := v.cache(name, false)
	c.mu.Lock()
	defer c.mu.Unlock()
	info.Size = c.sizeLocked(info.Size)
	return info, nil
}

func (c *volatileCache) sizeLocked(size int64) int64 {
	for _, w := range c.writes {
		if w.data == nil {
			size = w.off
		}
		size = max(size, w.off+int64(len(w.data)))
	}
	return size
}

type volatileFile struct {
	inner File
	cache *volatileCache
}

// ReadAt lays the cached writes over what the file holds.
func (f *volatileFile) ReadAt(p []byte, off int64) (int, error) {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	if len(f.cache.writes) == 0 || len(p) == 0 {
		return f.inner.ReadAt(p, off)
	}
	under, err := f.inner.Size()
	if err != nil {
		return 0, err
	}
	size := f.cache.sizeLocked(under)
	if off >= size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), size-off)]
	n, err := f.inner.ReadAt(want, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	clear(want[n:])
	for _, w := range f.cache.writes {
		overlay(want, off, w)
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// overlay does to p, which is the file from off on, what w does.
func overlay(p []byte, off int64, w pendingWrite) {
	if w.data == nil {
		if from := max(w.off-off, 0); from < int64(len(p)) {
			clear(p[from:])
		}
		return
	}
	if skip := off - w.off; skip >= 0 {
		if skip < int64(len(w.data)) {
			copy(p, w.data[skip:])
		}
	} else if -skip < int64(len(p)) {
		copy(p[-skip:], w.data)
	}
}

func (f *volatileFile) WriteAt(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.cache.writes = append(f.cache.writes, pendingWrite{off: off, data: append(make([]byte, 0, len(p)), p...)})
	return len(p), nil
}

// SyncData writes the cache to the file and syncs it. What could not be written is forgotten, as a kernel does.
func (f *volatileFile) SyncData() error {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	writes := f.cache.writes
	f.cache.writes = nil
	for _, w := range writes {
		var err error
		if w.data == nil {
			err = f.inner.Truncate(w.off)
		} else {
			_, err = f.inner.WriteAt(w.data, w.off)
		}
		if err != nil {
			return err
		}
	}
	return f.inner.SyncData()
}

func (f *volatileFile) Preallocate(size int64) error {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	if len(f.cache.writes) == 0 {
		return f.inner.Preallocate(size)
	}
	// A cached truncation would undo it: let the growth follow in its order.
	have, err := f.inner.Size()
	if err == nil && f.cache.sizeLocked(have) < size {
		f.cache.writes = append(f.cache.writes, pendingWrite{off: size})
	}
	return err
}

func (f *volatileFile) Truncate(size int64) error {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.cache.writes = append(f.cache.writes, pendingWrite{off: size})
	return nil
}

func (f *volatileFile) Size() (int64, error) {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	size, err := f.inner.Size()
	if err != nil {
		return 0, err
	}
	return f.cache.sizeLocked(size), nil
}

func (f *volatileFile) Close() error { return f.inner.Close() }
