// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/json"
	"errors"
	"fmt"

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
	// Series is how many numbers there are, Rows how many samples.
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
}

// OpenPart opens a part; the errors are those of Open.
func OpenPart(fsys fsx.FS, name string, cache *Cache, o Options) (*Part, error) {
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

// Reader returns a reader of the part; its series are numbers.
func (p *Part) Reader() Reader { return p.b.Reader() }

// Members is what a part says of its series, by number.
type Members struct {
	Gen         []uint32 // the generation it was written with, 0 for one without rows
	First, Last []int64  // the times of its first and its last row
}

// Members reads what the part says of its series.
func (p *Part) Members() (Members, error) {
	s := p.members
	raw, err := p.b.readChecked(s.off, s.size, s.crc)
	if err != nil {
		return Members{}, err
	}
	n := p.b.series
	c := newCursor(raw, 0)
	wide := c.ints(n, "generations")
	if c.Failed() || len(wide) != n {
		return Members{}, c.fault(&p.b, s.off, "members")
	}
	used := 0
	m := Members{Gen: make([]uint32, n), First: make([]int64, n), Last: make([]int64, n)}
	for i, g := range wide {
		if m.Gen[i] = uint32(g); int64(m.Gen[i]) != g {
			c.Fail("generation out of range")
		}
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
		return Members{}, c.fault(&p.b, s.off, "members")
	}
	return m, nil
}

// Close closes the file.
func (p *Part) Close() error { return p.b.Close() }

// Delete removes the file's name, so that it survives no restart, and closes it.
func (p *Part) Delete() error { return p.b.Delete() }

// appendMembers adds what Members reads.
func (w *partWriter) appendMembers(dst []byte) []byte {
	dst = appendColumn(dst, &w.stripes.encoder, w.gens)
	for i := range w.ends {
		w.begins[i], w.ends[i] = w.begins[i]-w.meta.MinT, w.meta.MaxT-w.ends[i]
	}
	return appendColumn(appendColumn(dst, &w.stripes.encoder, w.begins), &w.stripes.encoder, w.ends)
}
