// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// sectorSize is what a disk writes whole or not at all. A write of more may be torn at its multiples.
const sectorSize = 512

// Crashable is a file system in memory that knows what a power cut would leave of it. It is meant for tests:
// one lock serves everything.
type Crashable struct {
	mu       sync.Mutex
	root     *memDir
	locks    map[string]bool
	capacity int64 // bytes of file contents it takes; 0: no limit
	used     int64
}

// NewCrashable returns an empty file system.
func NewCrashable() *Crashable {
	return &Crashable{root: newMemDir(), locks: map[string]bool{}}
}

// SetFree makes the disk hold n bytes more than now, for tests of a full disk; a negative n lifts the limit.
func (c *Crashable) SetFree(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capacity = 0
	if n >= 0 {
		c.capacity = max(c.used+n, 1)
	}
}

// Crash returns a state in which a power cut at this moment could have left the disk; c itself goes on. What was
// synced is in it. Of the rest, each sector of 512 bytes and each change of a directory is in it with the given
// probability, alone: 0 leaves what was synced, 100 everything. Equal seeds give equal states.
func (c *Crashable) Crash(unsyncedPercent int, seed uint64) *Crashable {
	c.mu.Lock()
	defer c.mu.Unlock()
	cut := &crash{
		percent: unsyncedPercent,
		rng:     rand.New(rand.NewPCG(seed, 0x7469646d)),
		chosen:  map[*dirChange]bool{},
		files:   map[*memFile]*memFile{},
	}
	after := NewCrashable()
	after.root = cut.dir(c.root)
	for _, f := range cut.files {
		after.used += int64(len(f.data))
	}
	if c.capacity > 0 {
		after.capacity = max(c.capacity, after.used)
	}
	return after
}

// node is a *memDir or a *memFile.
type node any

// memDir is a directory. The changes since its last sync are kept in order.
type memDir struct {
	names   map[string]node
	synced  map[string]node
	pending []*dirChange
}

// dirChange is the removal of a name, the arrival of one, or both at once, as of a rename. A rename between two
// directories is one change in the lists of both.
type dirChange struct {
	from, to         *memDir
	removed, arrived string
	node             node
	durable          bool // one of its directories was synced, which takes the other side along
}

func newMemDir() *memDir { return &memDir{names: map[string]node{}, synced: map[string]node{}} }

func (d *memDir) add(name string, n node) {
	d.record(&dirChange{to: d, arrived: name, node: n})
	d.names[name] = n
}

func (d *memDir) remove(name string) {
	d.record(&dirChange{from: d, removed: name})
	delete(d.names, name)
}

func (d *memDir) record(ch *dirChange) { d.pending = append(d.pending, ch) }

// apply does to names what ch means for d.
func (d *memDir) apply(ch *dirChange, names map[string]node) {
	if ch.from == d {
		delete(names, ch.removed)
	}
	if ch.to == d {
		names[ch.arrived] = ch.node
	}
}

func (d *memDir) sync() {
	d.synced = maps.Clone(d.names)
	for _, ch := range d.pending {
		ch.durable = true
	}
	d.pending = nil
}

// memFile is the contents of a file. before holds, for each sector written since the last sync, what it held
// then, so that a sync costs nothing in proportion to the file.
type memFile struct {
	data       []byte
	before     map[int64][]byte
	syncedSize int64
	links      int
}

// touch keeps the old contents of the sectors of [from, to).
func (f *memFile) touch(from, to int64) {
	if f.before == nil {
		f.before = map[int64][]byte{}
	}
	for s := from / sectorSize; s*sectorSize < to; s++ {
		if _, ok := f.before[s]; ok {
			continue
		}
		lo := min(s*sectorSize, int64(len(f.data)))
		hi := min(lo+sectorSize, int64(len(f.data)))
		f.before[s] = slices.Clone(f.data[lo:hi])
	}
}

func (f *memFile) resize(size int64) {
	have := int64(len(f.data))
	f.touch(min(have, size), max(have, size))
	if size <= have {
		clear(f.data[size:])
		f.data = f.data[:size]
		return
	}
	f.data = append(f.data, make([]byte, size-have)...)
}

// crash makes the copy that Crash returns.
type crash struct {
	percent int
	rng     *rand.Rand
	chosen  map[*dirChange]bool
	files   map[*memFile]*memFile
}

func (c *crash) toss() bool { return c.rng.IntN(100) < c.percent }

func (c *crash) survives(ch *dirChange) bool {
	if ch.durable {
		return true
	}
	kept, ok := c.chosen[ch]
	if !ok {
		kept = c.toss()
		c.chosen[ch] = kept
	}
	return kept
}

func (c *crash) dir(d *memDir) *memDir {
	names := maps.Clone(d.synced)
	for _, ch := range d.pending {
		if c.survives(ch) {
			d.apply(ch, names)
		}
	}
	out := newMemDir()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		switch n := names[name].(type) {
		case *memDir:
			out.names[name] = c.dir(n)
		case *memFile:
			out.names[name] = c.file(n)
		}
	}
	out.synced = maps.Clone(out.names)
	return out
}

func (c *crash) file(f *memFile) *memFile {
	if out, ok := c.files[f]; ok {
		out.links++
		return out
	}
	size := f.syncedSize
	if c.toss() {
		size = int64(len(f.data))
	}
	data := make([]byte, max(int64(len(f.data)), f.syncedSize))
	copy(data, f.data)
	for _, s := range slices.Sorted(maps.Keys(f.before)) {
		lo := s * sectorSize
		hi := min(lo+sectorSize, int64(len(data)))
		if c.toss() {
			if hi = min(hi, int64(len(f.data))); int64(len(f.data)) > f.syncedSize {
				size = max(size, hi)
			}
			continue
		}
		clear(data[lo:hi])
		copy(data[lo:hi], f.before[s])
	}
	out := &memFile{data: data[:size], syncedSize: size, links: 1}
	c.files[f] = out
	return out
}

// find walks to the directory of name, which is cleaned and taken from the root.
func (c *Crashable) find(op, name string) (dir *memDir, leaf string, err error) {
	dir = c.root
	rest := strings.TrimPrefix(path.Clean("/"+name), "/")
	for {
		head, tail, more := strings.Cut(rest, "/")
		if !more {
			return dir, head, nil
		}
		switch n := dir.names[head].(type) {
		case *memDir:
			dir = n
		case nil:
			return nil, "", &fs.PathError{Op: op, Path: name, Err: syscall.ENOENT}
		default:
			return nil, "", &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		rest = tail
	}
}

func (c *Crashable) lookup(op, name string) (node, error) {
	dir, leaf, err := c.find(op, name)
	if err != nil {
		return nil, err
	}
	if leaf == "" {
		return c.root, nil
	}
	n, ok := dir.names[leaf]
	if !ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOENT}
	}
	return n, nil
}

func (c *Crashable) lookupDir(op, name string) (*memDir, error) {
	n, err := c.lookup(op, name)
	if err != nil {
		return nil, err
	}
	d, ok := n.(*memDir)
	if !ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	return d, nil
}

// reserve counts n more bytes of contents, or fewer where n is negative.
func (c *Crashable) reserve(op, name string, n int64) error {
	if n > 0 && c.capacity > 0 && c.used+n > c.capacity {
		return &fs.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
	}
	c.used += n
	return nil
}

// Create implements FS.
func (c *Crashable) Create(name string) (File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir, leaf, err := c.find("open", name)
	if err != nil {
		return nil, err
	}
	switch n := dir.names[leaf].(type) {
	case *memFile:
		c.used -= int64(len(n.data))
		n.resize(0)
		return &memHandle{fs: c, f: n, name: name, write: true}, nil
	case *memDir:
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	f := &memFile{links: 1}
	dir.add(leaf, f)
	return &memHandle{fs: c, f: f, name: name, write: true}, nil
}

// Open implements FS.
func (c *Crashable) Open(name string) (File, error) { return c.open(name, false) }

// OpenReadWrite implements FS.
func (c *Crashable) OpenReadWrite(name string) (File, error) { return c.open(name, true) }

func (c *Crashable) open(name string, write bool) (File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.lookup("open", name)
	if err != nil {
		return nil, err
	}
	f, ok := n.(*memFile)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return &memHandle{fs: c, f: f, name: name, write: write}, nil
}

// unlink counts a name of n as gone. The contents count until no name is left; handles that are still open then
// go on for free.
func (c *Crashable) unlink(n node) {
	if f, ok := n.(*memFile); ok {
		if f.links--; f.links == 0 {
			c.used -= int64(len(f.data))
		}
	}
}

// Remove implements FS.
func (c *Crashable) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.lookup("remove", name)
	if err != nil {
		return err
	}
	if d, ok := n.(*memDir); ok && len(d.names) > 0 || n == node(c.root) {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	dir, leaf, err := c.find("remove", name)
	if err != nil {
		return err
	}
	dir.remove(leaf)
	c.unlink(n)
	return nil
}

// Rename implements FS.
func (c *Crashable) Rename(oldname, newname string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.lookup("rename", oldname)
	if err != nil {
		return err
	}
	from, removed, err := c.find("rename", oldname)
	if err != nil {
		return err
	}
	to, arrived, err := c.find("rename", newname)
	if err != nil {
		return err
	}
	if from == to && removed == arrived {
		return nil
	}
	if old, ok := to.names[arrived]; ok {
		if _, isDir := old.(*memDir); isDir {
			return &fs.PathError{Op: "rename", Path: newname, Err: syscall.EEXIST}
		}
		c.unlink(old)
	}
	ch := &dirChange{from: from, to: to, removed: removed, arrived: arrived, node: n}
	from.record(ch)
	if to != from {
		to.record(ch)
	}
	delete(from.names, removed)
	to.names[arrived] = n
	return nil
}

// MkdirAll implements FS.
func (c *Crashable) MkdirAll(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.root
	for part := range strings.SplitSeq(strings.TrimPrefix(path.Clean("/"+dir), "/"), "/") {
		if part == "" {
			continue
		}
		switch n := d.names[part].(type) {
		case *memDir:
			d = n
		case nil:
			sub := newMemDir()
			d.add(part, sub)
			d = sub
		default:
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
	}
	return nil
}

// List implements FS.
func (c *Crashable) List(dir string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := c.lookupDir("open", dir)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(d.names)), nil
}

// Stat implements FS.
func (c *Crashable) Stat(name string) (Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.lookup("stat", name)
	if err != nil {
		return Info{}, err
	}
	if f, ok := n.(*memFile); ok {
		return Info{Size: int64(len(f.data))}, nil
	}
	return Info{Dir: true}, nil
}

// SyncDir implements FS.
func (c *Crashable) SyncDir(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := c.lookupDir("open", dir)
	if err != nil {
		return err
	}
	d.sync()
	return nil
}

// Lock implements FS. The lock is among the users of this file system, not among processes.
func (c *Crashable) Lock(name string) (io.Closer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dir, leaf, err := c.find("lock", name)
	if err != nil {
		return nil, err
	}
	name = path.Clean("/" + name)
	if c.locks[name] {
		return nil, &LockedError{Path: name, Err: syscall.EWOULDBLOCK}
	}
	if _, ok := dir.names[leaf]; !ok {
		dir.add(leaf, &memFile{links: 1})
	}
	c.locks[name] = true
	return memLock{c, name}, nil
}

type memLock struct {
	fs   *Crashable
	name string
}

func (l memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.name)
	return nil
}

// crashableSize is the size of the disk where no limit is set.
const crashableSize = 1 << 40

// Usage implements FS.
func (c *Crashable) Usage(string) (free, total uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := int64(crashableSize)
	if c.capacity > 0 {
		size = c.capacity
	}
	return uint64(max(size-c.used, 0)), uint64(size), nil
}
