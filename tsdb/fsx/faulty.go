// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"io"
	"io/fs"
	"path"
	"sync"
	"time"
)

// Op is a kind of operation, or a set of kinds.
type Op uint16

// The kinds of operation that a Faulty tells apart.
const (
	OpCreate Op = 1 << iota
	OpOpen
	OpRead
	OpWrite
	OpSync // SyncData
	OpSyncDir
	OpRename
	OpRemove
	OpMkdir
	OpPreallocate
	OpTruncate
	OpLook // List, Stat, Size and Usage
	OpLock

	// OpChange is everything that changes the disk, and the syncs: where a power cut makes a difference.
	OpChange = OpCreate | OpWrite | OpSync | OpSyncDir | OpRename | OpRemove | OpMkdir | OpPreallocate | OpTruncate
)

// Fault says which operations go wrong, and how.
type Fault struct {
	Op    Op
	Path  string // pattern of path.Match for the last element of the path; empty: any
	After int    // so many matching operations go well first
	Times int    // how many fail then; 0: all
	Err   error  // what they answer, in an *fs.PathError; nil: they succeed, but for Short, Delay and Stall
	// Short is how many bytes a failing write or read leaves done.
	Short int
	// Delay is waited before the operation.
	Delay time.Duration
	// Stall is waited for before the operation, until it is closed.
	Stall <-chan struct{}
}

// Faulty wraps a file system and makes some operations fail. Tests use it; the zero number of faults is
// transparent.
type Faulty struct {
	inner FS
	mu    struct {
		sync.Mutex
		faults []*activeFault
		counts map[Op]int
		seen   func(op Op, name string)
		usage  *[2]uint64
	}
}

type activeFault struct {
	Fault
	hits int
}

// NewFaulty returns inner with the given faults.
func NewFaulty(inner FS, faults ...Fault) *Faulty {
	f := &Faulty{inner: inner}
	f.mu.counts = map[Op]int{}
	for _, fault := range faults {
		f.Inject(fault)
	}
	return f
}

// Inject adds a fault; its count starts now.
func (f *Faulty) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.faults = append(f.mu.faults, &activeFault{Fault: fault})
}

// Heal removes all faults.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.faults = nil
}

// Count returns how many operations of the kinds in ops were begun.
func (f *Faulty) Count(ops Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for op, c := range f.mu.counts {
		if op&ops != 0 {
			n += c
		}
	}
	return n
}

// Observe calls fn before each operation, until it is replaced. fn may use the wrapped file system, not f.
func (f *Faulty) Observe(fn func(op Op, name string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.seen = fn
}

// SetUsage makes Usage answer these figures.
func (f *Faulty) SetUsage(free, total uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.usage = &[2]uint64{free, total}
}

// enter counts the operation, waits as the faults say, and returns the first fault with an error, wrapped, and
// how many bytes are done nevertheless.
func (f *Faulty) enter(op Op, word, name string) (short int, err error) {
	f.mu.Lock()
	f.mu.counts[op]++
	seen := f.mu.seen
	var hit []Fault
	for _, a := range f.mu.faults {
		if a.matches(op, name) {
			hit = append(hit, a.Fault)
		}
	}
	f.mu.Unlock()
	if seen != nil {
		seen(op, name)
	}
	for _, a := range hit {
		if a.Delay > 0 {
			<-time.After(a.Delay)
		}
		if a.Stall != nil {
			<-a.Stall
		}
		if a.Err != nil {
			return a.Short, &fs.PathError{Op: word, Path: name, Err: a.Err}
		}
	}
	return 0, nil
}

func (a *activeFault) matches(op Op, name string) bool {
	if a.Op&op == 0 {
		return false
	}
	if a.Path != "" {
		if ok, err := path.Match(a.Path, path.Base(name)); err != nil || !ok {
			return false
		}
	}
	a.hits++
	return a.hits > a.After && (a.Times == 0 || a.hits <= a.After+a.Times)
}

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) {
	return f.open(OpCreate, name, f.inner.Create)
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) { return f.open(OpOpen, name, f.inner.Open) }

// OpenReadWrite implements FS.
func (f *Faulty) OpenReadWrite(name string) (File, error) {
	return f.open(OpOpen, name, f.inner.OpenReadWrite)
}

func (f *Faulty) open(op Op, name string, open func(string) (File, error)) (File, error) {
	if _, err := f.enter(op, "open", name); err != nil {
		return nil, err
	}
	inner, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{fs: f, inner: inner, name: name}, nil
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	if _, err := f.enter(OpRemove, "remove", name); err != nil {
		return err
	}
	return f.inner.Remove(name)
}

// Rename implements FS. Faults match the new name.
func (f *Faulty) Rename(oldname, newname string) error {
	if _, err := f.enter(OpRename, "rename", newname); err != nil {
		return err
	}
	return f.inner.Rename(oldname, newname)
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(dir string) error {
	if _, err := f.enter(OpMkdir, "mkdir", dir); err != nil {
		return err
	}
	return f.inner.MkdirAll(dir)
}

// List implements FS.
func (f *Faulty) List(dir string) ([]string, error) {
	if _, err := f.enter(OpLook, "list", dir); err != nil {
		return nil, err
	}
	return f.inner.List(dir)
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (Info, error) {
	if _, err := f.enter(OpLook, "stat", name); err != nil {
		return Info{}, err
	}
	return f.inner.Stat(name)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(dir string) error {
	if _, err := f.enter(OpSyncDir, "sync", dir); err != nil {
		return err
	}
	return f.inner.SyncDir(dir)
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if _, err := f.enter(OpLock, "lock", name); err != nil {
		return nil, err
	}
	return f.inner.Lock(name)
}

// Usage implements FS.
func (f *Faulty) Usage(dir string) (free, total uint64, err error) {
	if _, err := f.enter(OpLook, "statfs", dir); err != nil {
		return 0, 0, err
	}
	f.mu.Lock()
	usage := f.mu.usage
	f.mu.Unlock()
	if usage != nil {
		return usage[0], usage[1], nil
	}
	return f.inner.Usage(dir)
}

type faultyFile struct {
	fs    *Faulty
	inner File
	name  string
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if short, err := f.fs.enter(OpRead, "read", f.name); err != nil {
		n, _ := f.inner.ReadAt(p[:min(short, len(p))], off)
		return n, err
	}
	return f.inner.ReadAt(p, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if short, err := f.fs.enter(OpWrite, "write", f.name); err != nil {
		n := 0
		if short > 0 {
			n, _ = f.inner.WriteAt(p[:min(short, len(p))], off)
		}
		return n, err
	}
	return f.inner.WriteAt(p, off)
}

func (f *faultyFile) SyncData() error {
	if _, err := f.fs.enter(OpSync, "fdatasync", f.name); err != nil {
		return err
	}
	return f.inner.SyncData()
}

func (f *faultyFile) Preallocate(size int64) error {
	if _, err := f.fs.enter(OpPreallocate, "fallocate", f.name); err != nil {
		return err
	}
	return f.inner.Preallocate(size)
}

func (f *faultyFile) Truncate(size int64) error {
	if _, err := f.fs.enter(OpTruncate, "truncate", f.name); err != nil {
		return err
	}
	return f.inner.Truncate(size)
}

func (f *faultyFile) Size() (int64, error) {
	if _, err := f.fs.enter(OpLook, "stat", f.name); err != nil {
		return 0, err
	}
	return f.inner.Size()
}

func (f *faultyFile) Close() error { return f.inner.Close() }
