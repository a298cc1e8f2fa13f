// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// PartSuffix ends the name of a part.
const PartSuffix = ".part"

// PartMeta is what a part says about itself. Times are Unix milliseconds.
type PartMeta struct {
	// Shard, SlotStart, Slot and LSN name the part: rows of one shard of the head in [SlotStart, SlotStart+Slot), up to
	// LSN.
	Shard     uint32     `json:"shard"`
	SlotStart int64      `json:"slotStart"`
	Slot      int64      `json:"slot"`
	LSN       sample.LSN `json:"lsn"`
	// MinT and MaxT are the times of the first and the last sample.
	MinT int64 `json:"minTime"`
	MaxT int64 `json:"maxTime"`
	// Series is how many series there are, those without rows included, Rows how many samples.
	Series uint64 `json:"series"`
	Rows   uint64 `json:"rows"`
	Writer string `json:"writer"`
}

// Part is a file of stripes like those of a block, but without labels: series are known by number. It is where rows of
// the head wait for the block of their slot. A Part is safe for concurrent use.
type Part struct {
	b       Block
	meta    PartMeta
	members section
	places  *places // nil until the members are read
	closed  atomic.Bool
}

// places tells where in the file each series is. Parts of one shard have one in common where they are the same.
type places struct {
	of    []uint32     // by number: 1 + the id of the series in the file, 0 for none
	parts atomic.Int32 // that use it

	account *budget.Account // charged for it
}

func newPlaces(account *budget.Account, n uint32) (*places, error) {
	if err := account.Reserve(4 * int64(n)); err != nil {
		return nil, err
	}
	x := &places{of: make([]uint32, n), account: account}
	x.parts.Store(1)
	return x, nil
}

// leave ends the use by one part.
func (x *places) leave() {
	if x.parts.Add(-1) == 0 {
		x.account.Release(4 * int64(len(x.of)))
	}
}

// OpenPart opens a part; the errors are those of Open.
func OpenPart(fsys fsx.FS, name string, cache *Cache, o Options) (*Part, error) {
	p, err := OpenPartUnread(fsys, name, cache, o)
	if err != nil {
		return nil, err
	}
	m, err := p.Members()
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	m.Free()
	return p, nil
}

// OpenPartUnread is OpenPart for who calls Members anyway, and does so before the part is read: it does not look at them.
func OpenPartUnread(fsys fsx.FS, name string, cache *Cache, o Options) (*Part, error) {
	if cache == nil {
		cache = NewCache(0, nil)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open part: %w", err)
	}
	p := &Part{}
	b := &p.b
	b.fs, b.name, b.file, b.cache, b.number, b.account, b.features = fsys, name, f, cache, cache.blocks.Add(1), o.Account, featurePart
	if err := p.load(); err != nil {
		b.account.Release(b.charged)
		return nil, errors.Join(err, f.Close())
	}
	b.mu.users, b.mu.owned = 1, true
	return p, nil
}

func (p *Part) load() error {
	b := &p.b
	var err error
	if b.size, err = b.file.Size(); err != nil {
		return fmt.Errorf("open part: %w", err)
	}
	foot, err := b.loadFooter()
	if err != nil {
		return err
	}
	var parts [sectionMembers + 1]section
	for _, kind := range []uint32{sectionStripes, sectionDirectory, sectionMembers, sectionMeta} {
		s, ok := foot.find(kind)
		if !ok || foot.mandatory != featurePart {
			return b.corrupt(b.size, fmt.Sprintf("no part, or section %d is missing", kind))
		}
		parts[kind] = s
	}
	meta := parts[sectionMeta]
	raw, err := b.readChecked(meta.off, meta.size, meta.crc)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &p.meta); err != nil {
		return b.corrupt(meta.off, fmt.Sprintf("meta: %v", err))
	}
	m := &p.meta
	if m.MinT > m.MaxT || m.MinT < m.SlotStart || m.Slot <= 0 || m.Slot > maxSlot || m.MaxT-m.SlotStart >= m.Slot || m.Series > maxMembers {
		return b.corrupt(meta.off, fmt.Sprintf("meta: %d series from %d to %d in the slot of %d at %d", m.Series, m.MinT, m.MaxT, m.Slot, m.SlotStart))
	}
	b.series, p.members = int(m.Series), parts[sectionMembers]
	return b.loadDirectory(parts[sectionDirectory], parts[sectionStripes])
}

// maxMembers bounds what a reader allocates for the series of a part.
const maxMembers = 1 << 26

// Meta returns what the part says about itself.
func (p *Part) Meta() PartMeta { return p.meta }

// Name returns the path of the file.
func (p *Part) Name() string { return p.b.name }

// Size returns the bytes of the file.
func (p *Part) Size() int64 { return p.b.size }

// Reader returns a reader of the part; Place tells its ids.
func (p *Part) Reader() Reader { return p.b.Reader() }

// ReaderOnce returns a reader for who reads the part once; see Block.ReaderOnce.
func (p *Part) ReaderOnce() Reader { return p.b.ReaderOnce() }

// Members is what a part says of its series, in the order of the file.
type Members struct {
	Number      []uint32 // by which the series is asked for
	Gen         []uint32 // the generation it was written with, 0 for one without rows
	First, Last []int64  // the times of its first and its last row

	account *budget.Account
	charged int64
}

// memberBytes is what a series takes in Members, and another time while they are read.
const memberBytes = 2 * (4 + 4 + 8 + 8)

// Free gives back what the members are charged for. They must not be used any more.
func (m *Members) Free() {
	m.account.Release(m.charged)
	*m = Members{}
}

// Members reads what the part says of its series; Free ends their use. The first call is not for more than one goroutine.
func (p *Part) Members() (Members, error) {
	m := Members{account: p.b.account, charged: memberBytes*int64(p.b.series) + p.members.size}
	if err := m.account.Reserve(m.charged); err != nil {
		return Members{}, fmt.Errorf("members of part %s: %w", p.b.name, err)
	}
	if err := p.readMembers(&m); err != nil {
		m.Free()
		return Members{}, err
	}
	return m, nil
}

func (p *Part) readMembers(m *Members) error {
	s := p.members
	raw, err := p.b.readChecked(s.off, s.size, s.crc)
	if err != nil {
		return err
	}
	n := p.b.series
	c := newCursor(raw, 0)
	m.Number, m.Gen, m.First, m.Last = c.narrow(n, "numbers"), c.narrow(n, "generations"), make([]int64, n), make([]int64, n)
	used := 0
	for _, g := range m.Gen {
		if g != 0 {
			used++
		}
	}
	begins, ends := c.ints(used, "begins of series"), c.ints(used, "ends of series")
	c.Finish()
	for i, g := range m.Gen {
		if g == 0 || c.Failed() {
			continue
		}
		m.First[i], m.Last[i] = p.meta.MinT+begins[0], p.meta.MaxT-ends[0]
		begins, ends = begins[1:], ends[1:]
		if m.First[i] < p.meta.MinT || m.First[i] > m.Last[i] || m.Last[i] > p.meta.MaxT {
			c.Fail("times of a series out of range")
		}
	}
	if c.Failed() {
		return c.fault(&p.b, s.off, "members")
	}
	if p.places != nil {
		return nil
	}
	return p.locate(m)
}

// narrow reads n integers of 32 bits.
func (c *cursor) narrow(n int, what string) []uint32 {
	out := make([]uint32, 0, n)
	for _, x := range c.ints(n, what) {
		if x < 0 || x > math.MaxUint32 {
			c.Fail(what + " out of range")
		}
		out = append(out, uint32(x))
	}
	return out
}

// locate finds out where each series is.
func (p *Part) locate(m *Members) error {
	top := uint32(0)
	for _, n := range m.Number {
		if n >= maxMembers {
			return p.b.corrupt(p.members.off, "members: numbers out of range")
		}
		top = max(top, n+1)
	}
	if top == 0 {
		return p.b.corrupt(p.members.off, "members: numbers out of range")
	}
	x, err := newPlaces(p.b.account, top)
	if err != nil {
		return fmt.Errorf("open part %s: %w", p.b.name, err)
	}
	for i, n := range m.Number {
		if x.of[n] != 0 {
			x.leave()
			return p.b.corrupt(p.members.off, fmt.Sprintf("members: number %d twice", n))
		}
		x.of[n] = uint32(i) + 1
	}
	p.places = x
	return nil
}

// Place returns the id, for a Reader, of the series with a number; ok is false where the part has none.
func (p *Part) Place(number uint32) (id uint32, ok bool) {
	of := p.places.of
	if number >= uint32(len(of)) || of[number] == 0 {
		return 0, false
	}
	return of[number] - 1, true
}

// Share lets the part have the table of places of another one in common, if they are the same: parts of one shard are as
// a rule, while no series comes. Neither may be in use.
func (p *Part) Share(other *Part) {
	if p.places != other.places && slices.Equal(p.places.of, other.places.of) {
		p.places.leave()
		other.places.parts.Add(1)
		p.places = other.places
	}
}

// leave gives back what the part holds beside its file.
func (p *Part) leave() {
	if !p.closed.Swap(true) && p.places != nil {
		p.places.leave()
	}
}

// Close closes the file.
func (p *Part) Close() error {
	p.leave()
	return p.b.Close()
}

// Delete removes the file's name, so that it survives no restart, and closes it.
func (p *Part) Delete() error {
	p.leave()
	return p.b.Delete()
}

// appendMembers adds what Members reads.
func (w *partWriter) appendMembers(dst []byte) []byte {
	for i := range w.ends {
		w.begins[i], w.ends[i] = w.begins[i]-w.meta.MinT, w.meta.MaxT-w.ends[i]
	}
	for _, x := range [][]int64{w.numbers, w.gens, w.begins, w.ends} {
		dst = appendColumn(dst, &w.stripes.encoder, x)
	}
	return dst
}
