// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/index"
)

// Options of Open. The zero value is good.
type Options struct {
	// Account is charged for the index and the directory while the block is open; nil: unlimited.
	Account *budget.Account
}

// Block is an open block file.
type Block struct {
	fs      fsx.FS
	name    string
	size    int64
	cache   *Cache
	number  uint64 // in the cache
	account *budget.Account
	charged int64

	version   uint16
	meta      Meta
	index     *index.Reader // nil in a part
	series    int
	features  uint64 // mandatory ones that the file may have
	directory directory
	exemplars []span // their chunks; none where there are no exemplars
	families  []byte
	damage    error

	mu struct {
		sync.Mutex
		users  int // one for the owner until Close, and one for each Acquire
		owned  bool
		closed error // of closing the file
	}
	file fsx.File
}

// Open opens the block file name. cache keeps its stripes; nil keeps none. It returns a *CorruptError when the
// file's frame, directory, index or meta are damaged, and a *NewerVersionError when the file is of a version
// that it does not know.
func Open(fsys fsx.FS, name string, cache *Cache, o Options) (*Block, error) {
	if cache == nil {
		cache = NewCache(0, nil)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open block: %w", err)
	}
	b := &Block{fs: fsys, name: name, file: f, cache: cache, number: cache.blocks.Add(1), account: o.Account}
	if err := b.load(); err != nil {
		b.account.Release(b.charged)
		return nil, errors.Join(err, f.Close())
	}
	b.mu.users, b.mu.owned = 1, true
	return b, nil
}

// Times reads the time that a damaged block file, or part, was cut for, as far as its frame and its meta are sound; ok is
// false where they are not. The name does not matter.
func Times(fsys fsx.FS, name string) (first, last int64, ok bool) {
	f, err := fsys.Open(name)
	if err != nil {
		return 0, 0, false
	}
	defer func() { _ = f.Close() }() // it was only read
	b := &Block{fs: fsys, name: name, file: f, features: featurePart}
	if b.size, err = f.Size(); err != nil {
		return 0, 0, false
	}
	foot, err := b.loadFooter()
	if err != nil {
		return 0, 0, false
	}
	s, ok := foot.find(sectionMeta)
	if !ok {
		return 0, 0, false
	}
	raw, err := b.readSection(s)
	if err != nil || json.Unmarshal(raw, &b.meta) != nil || b.meta.MinT > b.meta.MaxT {
		return 0, 0, false
	}
	return b.meta.MinT, b.meta.MaxT, true
}

func (b *Block) corrupt(off int64, msg string) error {
	return &CorruptError{File: b.name, Off: off, Msg: msg}
}

// load reads and checks everything but stripes and exemplars.
func (b *Block) load() error {
	var err error
	if b.size, err = b.file.Size(); err != nil {
		return fmt.Errorf("open block: %w", err)
	}
	foot, err := b.loadFooter()
	if err != nil {
		return err
	}
	var parts [sectionMeta + 1]section
	for kind := uint32(sectionStripes); kind <= sectionMeta; kind++ {
		s, ok := foot.find(kind)
		if !ok {
			return b.corrupt(b.size, fmt.Sprintf("section %d is missing", kind))
		}
		parts[kind] = s
	}
	if err := b.loadMeta(parts[sectionMeta]); err != nil {
		return err
	}
	if err := b.loadIndex(parts[sectionIndex]); err != nil {
		return err
	}
	if err := b.loadDirectory(parts[sectionDirectory], parts[sectionStripes]); err != nil {
		return err
	}
	if b.exemplars, err = b.loadSpans(parts[sectionExDir], parts[sectionExemplars]); err != nil {
		return err
	}
	// Descriptions of metrics are no reason to be without the metrics.
	b.families, err = b.readSection(parts[sectionMetadata])
	if _, ok := errors.AsType[*CorruptError](err); ok {
		b.damage, err = err, nil
	}
	return err
}

// loadFooter reads the frame of the file: header, footer and trailer.
func (b *Block) loadFooter() (footer, error) {
	if b.size < headerBytes+footerBytes+trailerBytes {
		return footer{}, b.corrupt(b.size, "no block, or cut short: the file is too small")
	}
	tail, err := b.pread(b.size-trailerBytes, trailerBytes)
	if err != nil {
		return footer{}, err
	}
	t, msg := parseTrailer(tail)
	if msg != "" {
		return footer{}, b.corrupt(b.size-trailerBytes, msg)
	}
	if t.version > formatVersion {
		return footer{}, &NewerVersionError{File: b.name, Version: t.version, Writer: t.writer}
	}
	if b.version = t.version; t.version < firstVersion {
		return footer{}, b.corrupt(b.size-trailerBytes, fmt.Sprintf("version %d never was", t.version))
	}
	head, err := b.pread(0, headerBytes)
	if err != nil {
		return footer{}, err
	}
	if string(head) != string(appendHeader(nil, t.version)) {
		return footer{}, b.corrupt(0, "header is not that of a block of its version")
	}
	end := b.size - trailerBytes - int64(t.footerSize)
	if end < headerBytes {
		return footer{}, b.corrupt(b.size-trailerBytes, "footer is larger than the file")
	}
	raw, err := b.pread(end, int64(t.footerSize))
	if err != nil {
		return footer{}, err
	}
	if got := checksum(raw); got != t.footerCRC {
		return footer{}, b.corrupt(end, fmt.Sprintf("footer: checksum %08x, want %08x", got, t.footerCRC))
	}
	foot, msg := parseFooter(raw, end)
	if msg != "" {
		return foot, b.corrupt(end, msg)
	}
	if unknown := foot.mandatory &^ b.features; unknown != 0 {
		return foot, &NewerVersionError{File: b.name, Feature: unknown, Writer: t.writer}
	}
	return foot, nil
}

func (b *Block) loadMeta(s section) error {
	raw, err := b.readSection(s)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &b.meta); err != nil {
		return b.corrupt(s.off, fmt.Sprintf("meta: %v", err))
	}
	if id := strings.TrimSuffix(path.Base(b.name), Suffix); id != b.meta.ULID {
		return b.corrupt(s.off, fmt.Sprintf("the file is block %s under another name", b.meta.ULID))
	}
	if b.meta.MinT > b.meta.MaxT {
		return b.corrupt(s.off, fmt.Sprintf("meta: first time %d after last %d", b.meta.MinT, b.meta.MaxT))
	}
	return nil
}

func (b *Block) loadIndex(s section) error {
	raw, err := b.readSection(s)
	if err != nil {
		return err
	}
	b.index, err = index.OpenReader(raw)
	if bad, ok := errors.AsType[*index.FormatError](err); ok {
		return b.corrupt(s.off+bad.Off, err.Error())
	}
	if uint64(b.index.N()) != b.meta.Series {
		return b.corrupt(s.off, fmt.Sprintf("%d series in the index, %d in the meta", b.index.N(), b.meta.Series))
	}
	b.series = b.index.N()
	b.index.ChargeTo(b.account)
	if b.cache != nil {
		b.index.KeepIn(answers{b.cache, b.number})
	}
	return b.charge(b.index.Bytes() - s.size)
}

// loadDirectory reads the directory s of the stripes in area.
func (b *Block) loadDirectory(s, area section) error {
	if b.version == 1 {
		spans, err := b.loadSpans(s, area)
		b.directory = directoryOf1(spans)
		return err
	}
	raw, err := b.readSection(s)
	if err != nil {
		return err
	}
	d, c := parseGroups(raw, b.series, area)
	if c.Failed() {
		return c.fault(b, s.off, "directory")
	}
	b.directory = d
	return b.charge(d.bytes() - s.size)
}

// loadSpans reads the directory s of the exemplars, or of the stripes of version 1, in area.
func (b *Block) loadSpans(s, area section) ([]span, error) {
	raw, err := b.readSection(s)
	if err != nil {
		return nil, err
	}
	n := b.series
	if area.kind == sectionExemplars && area.size == 0 {
		n = 0
	}
	spans, c := parseSpans(raw, n, area)
	if c.Failed() {
		return nil, c.fault(b, s.off, "directory")
	}
	return spans, nil
}

func (b *Block) charge(n int64) error {
	if err := b.account.Reserve(n); err != nil {
		return fmt.Errorf("open block %s: %w", b.name, err)
	}
	b.charged += n
	return nil
}

// readSection reads a section into memory that the block keeps, and checks it.
func (b *Block) readSection(s section) ([]byte, error) {
	if err := b.charge(s.size); err != nil {
		return nil, err
	}
	return b.readChecked(s.off, s.size, s.crc)
}

func (b *Block) readChecked(off, size int64, crc uint32) ([]byte, error) {
	raw, err := b.pread(off, size)
	if err != nil {
		return nil, err
	}
	if got := checksum(raw); got != crc {
		return nil, b.corrupt(off, fmt.Sprintf("checksum %08x, want %08x", got, crc))
	}
	return raw, nil
}

// pread reads bytes that the size of the file says are there.
func (b *Block) pread(off, size int64) ([]byte, error) {
	p := make([]byte, size)
	n, err := b.file.ReadAt(p, off)
	if int64(n) == size {
		return p, nil
	}
	if errors.Is(err, io.EOF) {
		return nil, b.corrupt(off+int64(n), "the file ends here")
	}
	return nil, fmt.Errorf("read block %s at byte %d: %w", b.name, off, err)
}

// Meta returns what the block says about itself.
func (b *Block) Meta() Meta { return b.meta }

// Index returns the label index. It stays readable after the block is closed.
func (b *Block) Index() *index.Reader { return b.index }

// Size returns the bytes of the file.
func (b *Block) Size() int64 { return b.size }

// Name returns the path of the file.
func (b *Block) Name() string { return b.name }

// Damage returns what was found damaged at Open that does not keep the samples from being read: the
// descriptions of metrics. nil: nothing.
func (b *Block) Damage() error { return b.damage }

// Acquire makes the caller a user of the block until its Release. It returns false when the block has been
// closed: then it must not be used.
func (b *Block) Acquire() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.users == 0 {
		return false
	}
	b.mu.users++
	return true
}

// Release ends one use. The last one closes the file.
func (b *Block) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.users == 0 {
		return
	}
	if b.mu.users--; b.mu.users > 0 {
		return
	}
	b.cache.forget(b.number)
	if b.index != nil {
		b.index.Release()
	}
	b.account.Release(b.charged)
	b.mu.closed = b.file.Close()
}

// Close gives up the ownership that Open gave. The file is closed at once or, while others use the block, when
// the last of them releases it. Closing again does nothing.
func (b *Block) Close() error {
	b.mu.Lock()
	owned := b.mu.owned
	b.mu.owned = false
	b.mu.Unlock()
	if !owned {
		return nil
	}
	b.Release()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.closed
}

// Delete removes the file's name, so that it survives no restart, and closes the block as Close does. Those who
// use the block go on reading; the disk space is free when the last of them releases it.
func (b *Block) Delete() error {
	err := b.fs.Remove(b.name)
	if err == nil {
		err = b.fs.SyncDir(path.Dir(b.name))
	}
	if err != nil {
		return fmt.Errorf("delete block: %w", errors.Join(err, b.Close()))
	}
	return b.Close()
}
