// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// Page is a page of a block, to be copied as it is into another one: its rows are not decoded, its values not encoded
// again. It is good until the Reader that gave it goes on to another group.
type Page struct {
	stripe *loadedStripe
	times  *encoding.Times
	from   origin
}

// origin is where a page is, or was copied from.
type origin struct {
	key    cacheKey // of the stripe; zero: nowhere
	series uint32   // its place in the group
}

// Pages appends the pages of a series to dst, oldest first. ok is false where they cannot be copied: in a block of an old
// version or of the lowest level, whose columns are not of the smallest forms, where a page holds its times itself, and where something is damaged, which Read then tells. What the Reader holds is
// charged to charge.
func (r *Reader) Pages(ctx context.Context, id uint32, charge *column.Block, dst []Page) (pages []Page, ok bool, err error) {
	if r.block.version == 1 || r.block.meta.Level < coldLevel || int(id) >= r.block.series {
		return dst, false, nil
	}
	r.enter(id)
	g := &r.block.directory.groups[r.group]
	for i := range int(g.to - g.from) {
		p, ok, err := r.pageOf(ctx, i, id, charge)
		if _, bad := errors.AsType[*CorruptError](err); bad {
			return dst, false, nil
		}
		if err != nil || !ok {
			return dst, false, err
		}
		if p.stripe != nil {
			dst = append(dst, p)
		}
	}
	return dst, true, nil
}

// pageOf returns the page of a series in the i-th stripe of the group, an empty one where there is none.
func (r *Reader) pageOf(ctx context.Context, i int, id uint32, charge *column.Block) (p Page, ok bool, err error) {
	x, err := r.holdStripe(ctx, i, id, wanted{mint: math.MinInt64, maxt: math.MaxInt64, dst: charge})
	if err != nil {
		return p, false, err
	}
	h, part := x.held, r.block.directory.groups[r.group].from+uint32(i)
	switch at := &h.stripe.pages[x.series]; at.kind & kindMask {
	case kindNone:
		return p, true, nil
	case kindFloats, kindHistograms:
		if err := r.enterTimes(&x, at.time); err != nil {
			return p, false, err
		}
		p = Page{stripe: h.stripe, times: h.column, from: origin{cacheKey{block: r.block.number, part: part}, x.series}}
		return p, true, nil
	}
	return p, false, nil
}

func (p *Page) page() *page { return &p.stripe.pages[p.from.series] }

// InOrder sorts pages by time, and reports whether each comes after the one before.
func InOrder(pages []Page) bool {
	slices.SortFunc(pages, func(a, b Page) int { return cmp.Compare(a.times.First(), b.times.First()) })
	for i := 1; i < len(pages); i++ {
		if pages[i].times.First() <= pages[i-1].times.Last() {
			return false
		}
	}
	return len(pages) > 0
}

// copied is what is known of a page that is in the stripe being filled, by which later ones may be expressed that are
// copied.
type copied struct {
	from  origin // the same rows are there
	time  uint32
	chain uint8
}

const copiedBytes = 32 // unsafe.Sizeof(copied{})

// placed is a page on its way to its stripe.
type placed struct {
	key  cellKey
	ref  int64 // how many series before is the one that it is expressed by; 0: none
	time uint32
	// chain is how many references lead on from it.
	chain uint8
}

// copy makes the pages the next series and reports whether it could. Else fit tells whether each has a cell of its own:
// then the rows that they hold are those of the pages that are made of them, whatever kept them from being copied.
func (w *stripesWriter) copy(pages []Page) (done, fit bool, err error) {
	if w.series == 0 {
		w.grid.depth = 0
	}
	for !w.fit(pages) {
		if w.series > 0 || w.grid.depth == maxDepth {
			return false, false, nil
		}
		w.grid.depth++
	}
	for i := range pages {
		if !w.refer(&pages[i], &w.placed[i]) {
			return false, true, nil
		}
	}
	for i := range pages {
		if err := w.copyPage(&pages[i], &w.placed[i]); err != nil {
			return false, true, err
		}
	}
	return true, true, w.endSeries()
}

// fit finds the cells of pages, and tells whether each has one of its own and no rows beyond it.
func (w *stripesWriter) fit(pages []Page) bool {
	w.placed = slices.Grow(w.placed[:0], len(pages))[:len(pages)]
	for i := range pages {
		t := pages[i].times
		key, last := w.grid.cell(t.First())
		if t.Last() > last || i > 0 && w.placed[i-1].key == key {
			return false
		}
		w.placed[i] = placed{key: key}
	}
	return true
}

// refer finds the page by which another is expressed in the stripe that it goes to, and tells whether it is there.
func (w *stripesWriter) refer(p *Page, to *placed) bool {
	ref := p.page().ref
	if ref == 0 {
		return true
	}
	s, ok := w.stripes[to.key]
	if !ok {
		return false
	}
	base := origin{p.from.key, p.from.series - ref}
	// Series of other blocks may have come between the two.
	for i := len(s.copied) - 1; i >= max(0, w.series-int(ref)-groupSeries/8); i-- {
		if c := &s.copied[i]; c.from == base {
			to.ref, to.time, to.chain = int64(w.series-i), c.time, c.chain+1
			return c.chain < maxChain
		}
	}
	return false
}

func (w *stripesWriter) copyPage(p *Page, to *placed) error {
	s, ok := w.stripes[to.key]
	if !ok {
		s = w.stripe(to.key)
	}
	if to.ref == 0 { // else it is the column of what it is expressed by
		w.column = p.times.AppendTo(w.column[:0], 0, p.times.Len())
		var err error
		if to.time, err = w.times.number(s.cell, w.column); err != nil {
			return err
		}
	}
	from := p.page()
	had, size := s.bytes(), len(s.data)
	s.begin(w.series, p.times.First(), p.times.Last())
	s.data = append(s.data, p.stripe.b[from.off:from.off+from.size]...)
	s.times, s.refs = append(s.times, int64(to.time)), append(s.refs, to.ref)
	s.end(int64(from.kind), size)
	s.note(w.series, copied{from: p.from, time: to.time, chain: to.chain})
	w.memory += s.bytes() - had
	w.size += len(s.data) - size
	w.full = w.full || len(s.data) >= stripeTarget
	return nil
}

// note remembers the page of a series.
func (w *stripeWriter) note(series int, c copied) {
	for len(w.copied) < series {
		w.copied = append(w.copied, copied{})
	}
	w.copied = append(w.copied, c)
}

// noteSame remembers that the page of the last series holds the rows of one that could not be copied.
func (w *stripesWriter) noteSame(s *stripeWriter, times []int64) {
	i := slices.IndexFunc(w.same, func(p Page) bool { return p.times.First() == times[0] && p.times.Len() == len(times) })
	if i < 0 || s.kinds[len(s.kinds)-1]&kindMask != kindFloats {
		return
	}
	s.note(w.series, copied{from: w.same[i].from, time: uint32(s.times[len(s.times)-1]), chain: s.chain})
}
