// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"fmt"
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// In version 1 a stripe holds the regions of neighbouring series, one each, and a region the pages of all times of
// its series, as package chunk writes them. So such a block has groups of one stripe.

// directoryOf1 makes a directory of the stripes of version 1.
func directoryOf1(spans []span) directory {
	var d directory
	for i, s := range spans {
		at := uint32(len(d.stripes))
		g := group{first: s.first, series: s.series, from: at, to: at}
		if s.minT <= s.maxT {
			g.to++
			d.stripes = append(d.stripes, stripe{off: spans[i].off, size: s.size, crc: s.crc, minT: s.minT, maxT: s.maxT})
		}
		d.groups = append(d.groups, g)
	}
	return d
}

// loadedRegions is a stripe of version 1 in memory, its checksum verified.
type loadedRegions struct {
	b     []byte
	start []uint32 // of the region of each series, and the end of the last
}

func (s *loadedRegions) bytes() int64 { return int64(cap(s.b)) + 4*int64(cap(s.start)) + 64 }

// parseRegions finds the regions in a stripe.
func parseRegions(b []byte, series uint32) (*loadedRegions, *cursor) {
	c := newCursor(b, 0)
	s := &loadedRegions{b: b}
	if int64(series) > int64(len(b)) {
		c.Fail("more series than bytes")
		return nil, c
	}
	s.start = make([]uint32, 0, series+1)
	at := uint64(0)
	for range series {
		s.start = append(s.start, uint32(at))
		at += uint64(c.atMost(len(b), "size of a region"))
		if at > uint64(len(b)) {
			c.Fail("regions beyond the end")
		}
	}
	if !c.Failed() && at != uint64(c.Left()) {
		c.Fail("regions do not fill the stripe")
	}
	if c.Failed() {
		return nil, c
	}
	s.start = append(s.start, uint32(at))
	for i := range s.start {
		s.start[i] += uint32(c.Off)
	}
	return s, c
}

// read appends the rows of the k-th series of the stripe in [mint, maxt] to dst. On error it returns where in
// the stripe the fault is, and dst may have some of the rows.
func (s *loadedRegions) read(k uint32, mint, maxt int64, withST bool, dst *column.Block) (at int, err error) {
	c := newCursor(s.b[:s.start[k+1]], int(s.start[k]))
	from := len(dst.T)
	n := c.Uvarint()
	for i := uint64(0); i < n && !c.Failed(); i++ {
		first, last := int64(math.MinInt64), int64(math.MaxInt64)
		if n > 1 {
			first = c.Varint()
			last = first + int64(c.Uvarint())
		}
		page := c.Sized()
		if last < mint || first > maxt || c.Failed() {
			continue
		}
		have := len(dst.T)
		if err := chunk.DecodePage(page, mint, maxt, withST, dst); err != nil {
			if bad, ok := errors.AsType[*chunk.CorruptError](err); ok {
				return c.Off - len(page) + bad.Off, &chunk.CorruptError{Msg: bad.Msg}
			}
			return 0, err
		}
		if len(dst.T) == have {
			continue
		}
		if have > from && dst.T[have] <= dst.T[have-1] || dst.T[have] < first || dst.T[len(dst.T)-1] > last {
			c.Fail("times do not ascend from page to page")
		}
	}
	if c.Finish(); c.Failed() {
		return c.Fault().Off, &chunk.CorruptError{Msg: c.Fault().Msg}
	}
	return 0, nil
}

// loadRegions reads the i-th stripe of a block of version 1.
func (b *Block) loadRegions(i, series uint32) (*loadedRegions, error) {
	info := &b.directory.stripes[i]
	raw, err := b.readChecked(info.off, int64(info.size), info.crc)
	if err != nil {
		return nil, err
	}
	s, c := parseRegions(raw, series)
	if c.Failed() {
		return nil, c.fault(b, info.off, "stripe")
	}
	return s, nil
}

// readRegion appends the rows of series id, whose group is held, from its stripe of version 1.
func (r *Reader) readRegion(id uint32, w wanted) error {
	b, g := r.block, &r.block.directory.groups[r.group]
	h := &r.held[0]
	if h.damage != nil {
		return h.damage
	}
	if h.regions == nil {
		size := int64(b.directory.stripes[g.from].size) + 4*int64(g.series)
		s, err := hold(r, cacheKey{block: b.number, part: g.from}, size, w.dst, func() (*loadedRegions, error) {
			return b.loadRegions(g.from, g.series)
		})
		if err != nil {
			if _, ok := errors.AsType[*CorruptError](err); ok {
				h.damage = err
			}
			return err
		}
		h.regions = s
	}
	at, err := h.regions.read(id-g.first, w.mint, w.maxt, w.withST, w.dst)
	if bad, ok := errors.AsType[*chunk.CorruptError](err); ok {
		return b.corrupt(b.directory.stripes[g.from].off+int64(at), fmt.Sprintf("series %d: %s", id, bad.Msg))
	}
	return err
}
