// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Overlay shows another file system and keeps every change in memory: what runs on it sees what it did, and the other
// file system stays as it is. A check of a directory that another process uses, and a rehearsal of a repair, are the
// real thing on an Overlay. Its memory grows with what is written, not with what is there. Directories can be made,
// not renamed or removed.
type Overlay struct {
	lower FS
	mu    sync.Mutex
	files map[string]*overlayNode // guarded by mu; nil: removed
	dirs  map[string]bool         // guarded by mu; those made here
}

// overlayNode is a file that is not in the lower file system as it is here.
type overlayNode struct {
	lower string // the file that shows through, none where empty
	shows int64  // up to here
	size  int64
	pages map[int64][]byte // those that were written, by number
}

const overlayPage = 4 << 10

// NewOverlay returns an overlay of lower without changes.
func NewOverlay(lower FS) *Overlay {
	return &Overlay{lower: lower, files: map[string]*overlayNode{}, dirs: map[string]bool{}}
}

func notThere(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// Create implements FS.
func (o *Overlay) Create(name string) (File, error) {
	name = path.Clean(name)
	if info, err := o.Stat(path.Dir(name)); err != nil || !info.Dir {
		return nil, notThere("open", name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	n := &overlayNode{pages: map[int64][]byte{}}
	o.files[name] = n
	return &overlayFile{fs: o, node: n}, nil
}

// Open implements FS.
func (o *Overlay) Open(name string) (File, error) {
	o.mu.Lock()
	n, ok := o.files[path.Clean(name)]
	o.mu.Unlock()
	if !ok {
		return o.lower.Open(name)
	}
	return o.handle(n, "open", name)
}

// OpenReadWrite implements FS.
func (o *Overlay) OpenReadWrite(name string) (File, error) {
	n, err := o.take("open", path.Clean(name))
	if err != nil {
		return nil, err
	}
	return o.handle(n, "open", name)
}

func (o *Overlay) handle(n *overlayNode, op, name string) (File, error) {
	if n == nil {
		return nil, notThere(op, name)
	}
	f := &overlayFile{fs: o, node: n}
	if n.lower == "" {
		return f, nil
	}
	var err error
	f.lower, err = o.lower.Open(n.lower)
	return f, err
}

// take makes a file of the lower file system one of the overlay.
func (o *Overlay) take(op, name string) (*overlayNode, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n, ok := o.files[name]; ok {
		if n == nil {
			return nil, notThere(op, name)
		}
		return n, nil
	}
	info, err := o.lower.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Dir {
		return nil, &fs.PathError{Op: op, Path: name, Err: syscall.EISDIR}
	}
	n := &overlayNode{lower: name, shows: info.Size, size: info.Size, pages: map[int64][]byte{}}
	o.files[name] = n
	return n, nil
}

// Remove implements FS.
func (o *Overlay) Remove(name string) error {
	name = path.Clean(name)
	if _, err := o.take("remove", name); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files[name] = nil
	return nil
}

// Rename implements FS.
func (o *Overlay) Rename(oldname, newname string) error {
	oldname, newname = path.Clean(oldname), path.Clean(newname)
	n, err := o.take("rename", oldname)
	if err != nil {
		return err
	}
	if info, err := o.Stat(path.Dir(newname)); err != nil || !info.Dir {
		return notThere("rename", newname)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files[oldname] = nil
	o.files[newname] = n
	return nil
}

// MkdirAll implements FS.
func (o *Overlay) MkdirAll(dir string) error {
	for dir = path.Clean(dir); ; dir = path.Dir(dir) {
		info, err := o.Stat(dir)
		if err == nil && !info.Dir {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		if err == nil || dir == path.Dir(dir) {
			return nil
		}
		o.mu.Lock()
		o.dirs[dir] = true
		o.mu.Unlock()
	}
}

// List implements FS.
func (o *Overlay) List(dir string) ([]string, error) {
	dir = path.Clean(dir)
	names, err := o.lower.List(dir)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || !o.dirs[dir]) {
		return nil, err
	}
	all := map[string]bool{}
	for _, n := range names {
		all[n] = true
	}
	for name, n := range o.files {
		if path.Dir(name) != dir {
			continue
		}
		if delete(all, path.Base(name)); n != nil {
			all[path.Base(name)] = true
		}
	}
	for name := range o.dirs {
		if path.Dir(name) == dir {
			all[path.Base(name)] = true
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// Stat implements FS.
func (o *Overlay) Stat(name string) (Info, error) {
	clean := path.Clean(name)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dirs[clean] {
		return Info{Dir: true}, nil
	}
	n, ok := o.files[clean]
	if !ok {
		return o.lower.Stat(name)
	}
	if n == nil {
		return Info{}, notThere("stat", name)
	}
	return Info{Size: n.size}, nil
}

// SyncDir implements FS. Nothing here survives the process.
func (o *Overlay) SyncDir(dir string) error {
	_, err := o.Stat(dir)
	return err
}

// Lock implements FS: the lock is taken by nobody else, because nobody else sees what is done under it.
func (o *Overlay) Lock(string) (io.Closer, error) { return io.NopCloser(strings.NewReader("")), nil }

// Usage implements FS.
func (o *Overlay) Usage(dir string) (free, total uint64, err error) { return o.lower.Usage(dir) }

// overlayFile is an open file of an Overlay.
type overlayFile struct {
	fs    *Overlay
	node  *overlayNode
	lower File // nil: nothing shows through
	// closed: as of a file that is closed, nothing can be read or written any more.
	closed bool
}

// ReadAt implements File.
func (f *overlayFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n := f.node
	if f.closed {
		return 0, &fs.PathError{Op: "read", Path: n.lower, Err: fs.ErrClosed}
	}
	want := min(int64(len(p)), n.size-off)
	if want <= 0 {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	for done := int64(0); done < want; {
		at := off + done
		piece := p[done:min(want, done+overlayPage-at%overlayPage)]
		if err := f.readPage(piece, at); err != nil {
			return int(done), err
		}
		done += int64(len(piece))
	}
	if want < int64(len(p)) {
		return int(want), io.EOF
	}
	return int(want), nil
}

// readPage reads a piece of one page.
func (f *overlayFile) readPage(p []byte, off int64) error {
	if page, ok := f.node.pages[off/overlayPage]; ok {
		copy(p, page[off%overlayPage:])
		return nil
	}
	clear(p)
	shown := min(int64(len(p)), f.node.shows-off)
	if f.lower == nil || shown <= 0 {
		return nil
	}
	if _, err := f.lower.ReadAt(p[:shown], off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// WriteAt implements File.
func (f *overlayFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, &fs.PathError{Op: "write", Path: f.node.lower, Err: fs.ErrClosed}
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		number := at / overlayPage
		page, ok := f.node.pages[number]
		if !ok {
			page = make([]byte, overlayPage)
			if err := f.readPage(page, number*overlayPage); err != nil {
				return done, err
			}
			f.node.pages[number] = page
		}
		done += copy(page[at%overlayPage:], p[done:])
	}
	if len(p) > 0 {
		f.node.size = max(f.node.size, off+int64(len(p)))
	}
	return len(p), nil
}

// SyncData implements File.
func (f *overlayFile) SyncData() error { return nil }

// Preallocate implements File.
func (f *overlayFile) Preallocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.size = max(f.node.size, size)
	return nil
}

// Truncate implements File.
func (f *overlayFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n := f.node
	for number, page := range n.pages {
		if from := size - number*overlayPage; from < overlayPage {
			clear(page[max(from, 0):])
		}
	}
	n.size, n.shows = size, min(n.shows, size)
	return nil
}

// Size implements File.
func (f *overlayFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.node.size, nil
}

// Close implements File.
func (f *overlayFile) Close() error {
	f.fs.mu.Lock()
	f.closed = true
	f.fs.mu.Unlock()
	if f.lower == nil {
		return nil
	}
	return f.lower.Close()
}
