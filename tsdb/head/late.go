// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"cmp"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// lateRows are the late samples of one series, in pages, so that inserting one moves the samples of a page at most,
// in whatever order a backfill comes, and dropping a slot is dropping its pages.
type lateRows struct {
	pages []latePage // by time
}

// latePage is some of the late samples of a slot. Those of one time are in one page.
type latePage struct {
	slot int64     // its start
	rows []lateRow // by (t, lsn); never empty
	dead int       // of them
}

// maxPage is how many rows a page has before it is split: inserting one moves 7 KiB at most.
const maxPage = 128

// lateRow is one late sample.
type lateRow struct {
	t, st      int64
	v          uint64 // bits of a float, digest of a histogram
	lsn        sample.LSN
	born, dead uint32 // numbers of the drops that made it late and that took it; 0: none
	kind       sample.Kind
	hist       *lateHist // nil for a float
}

// lateHist is the value of a late histogram: exactly one is not nil, and neither ever changes.
type lateHist struct {
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

const lateRowBytes = 64 // unsafe.Sizeof(lateRow{}) is 56; the rest is for the page

// in returns the pages of a slot.
func (l *lateRows) in(slot int64) []latePage {
	if l == nil {
		return nil
	}
	from := sort.Search(len(l.pages), func(i int) bool { return l.pages[i].slot >= slot })
	pages := l.pages[from:]
	return pages[:sort.Search(len(pages), func(i int) bool { return pages[i].slot > slot })]
}

// find returns the number of the page that t belongs into: the last of its slot that does not begin after t, or the
// first. Where the slot has none ok is false, and i is where its first one goes.
func (l *lateRows) find(slot, t int64) (i int, ok bool) {
	i = sort.Search(len(l.pages), func(i int) bool { return l.pages[i].rows[0].t > t })
	if i > 0 && l.pages[i-1].slot == slot {
		return i - 1, true
	}
	return i, i < len(l.pages) && l.pages[i].slot == slot
}

// search returns the place of the first row at or after t.
func (l *latePage) search(t int64) int {
	if n := len(l.rows); n == 0 || l.rows[n-1].t < t { // a backfill comes in order
		return n
	}
	i, _ := slices.BinarySearchFunc(l.rows, t, func(x lateRow, t int64) int { return cmp.Compare(x.t, t) })
	return i
}

// insert puts x behind the rows of its time and of lower ones.
func (l *latePage) insert(x lateRow) {
	i := l.search(x.t)
	for i < len(l.rows) && l.rows[i].t == x.t {
		i++
	}
	l.rows = slices.Insert(l.rows, i, x)
}

// kill marks the rows up to lsn as taken by a drop, and returns how many there were.
func (l *latePage) kill(lsn sample.LSN, drop uint32) (n int) {
	for i := range l.rows {
		if x := &l.rows[i]; x.dead == 0 && x.lsn <= lsn {
			x.dead = drop
			n++
		}
	}
	l.dead += n
	return n
}

// appendLateLocked stores a row that is older than the newest of its series, if its time is free.
func (s *shard) appendLateLocked(local uint32, hd *header, r *row, w *Work) sample.Reason {
	slot := s.slotLocked(r.t)
	if w.lsn <= slot.flushed {
		return sample.Accepted // a block holds it
	}
	if kind, v, ok := s.storedLocked(local, hd, r.t, w.looksOf(r.index)); ok {
		if kind == r.kind && v == r.v {
			return sample.Same
		}
		return sample.Conflict
	}
	x := lateRow{t: r.t, st: r.st, v: r.v, lsn: w.lsn, kind: r.kind}
	if r.kind != sample.Float {
		if s.head.opts.Account.Reserve(histBytes(r.h, r.fh)) != nil {
			return sample.OverLimit
		}
		x.hist = copyHist(r.h, r.fh)
	}
	joins := hd.n == 0 && s.emptyLocked(local, hd)
	if !s.addLateLocked(local, hd, slot.start, x) {
		if x.hist != nil {
			s.head.opts.Account.Release(histBytes(x.hist.h, x.hist.fh))
		}
		return sample.OverLimit
	}
	slot.note(r.t, w)
	slot.late++
	if joins {
		s.head.members.note(s.id(local), w.lsn)
	}
	return sample.Accepted
}

func copyHist(h *histogram.Histogram, fh *histogram.FloatHistogram) *lateHist {
	if h != nil {
		return &lateHist{h: h.Copy()}
	}
	return &lateHist{fh: fh.Copy()}
}

// addLateLocked stores a late row. It reports false where memory has run out.
func (s *shard) addLateLocked(local uint32, hd *header, slot int64, x lateRow) bool {
	l := s.late[local]
	if l == nil {
		l = &lateRows{}
	}
	page := s.latePageLocked(l, slot, x.t)
	if page == nil {
		return false
	}
	page.insert(x)
	s.late[local] = l
	hd.flags |= hasLate
	hd.flags &^= wasIdle
	return true
}

// latePageLocked returns the page that t belongs into, with room for one more row; nil where memory has run out.
func (s *shard) latePageLocked(l *lateRows, slot, t int64) *latePage {
	i, ok := l.find(slot, t)
	if ok && len(l.pages[i].rows) >= maxPage {
		rows := l.pages[i].rows
		if rows[len(rows)-1].t < t { // a backfill in order fills page after page
			i, ok = i+1, false
		} else if !s.splitLateLocked(l, i) {
			return nil
		} else {
			i, _ = l.find(slot, t)
		}
	}
	if ok {
		p := &l.pages[i]
		if len(p.rows) == cap(p.rows) && !s.growLateLocked(p, max(4, cap(p.rows)/2)) {
			return nil
		}
		return p
	}
	p := latePage{slot: slot}
	if !s.growLateLocked(&p, 4) {
		return nil
	}
	l.pages = slices.Insert(l.pages, i, p)
	return &l.pages[i]
}

// splitLateLocked moves the upper half of page i to one of its own; a page of one time stays as it is. It reports
// false where memory has run out.
func (s *shard) splitLateLocked(l *lateRows, i int) bool {
	rows := l.pages[i].rows
	k := len(rows) / 2
	for k < len(rows) && rows[k].t == rows[k-1].t {
		k++
	}
	if k == len(rows) {
		for k--; k > 0 && rows[k].t == rows[k-1].t; {
			k--
		}
	}
	if k == 0 {
		return true
	}
	upper := latePage{slot: l.pages[i].slot}
	if n := len(rows) - k; !s.growLateLocked(&upper, n+n/2) {
		return false
	}
	upper.rows = append(upper.rows, rows[k:]...)
	for _, x := range upper.rows {
		if x.dead != 0 {
			upper.dead++
		}
	}
	clear(rows[k:])
	l.pages[i].rows = rows[:k]
	l.pages[i].dead -= upper.dead
	l.pages = slices.Insert(l.pages, i+1, upper)
	return true
}

// growLateLocked makes room for more rows. It reports false where memory has run out.
func (s *shard) growLateLocked(p *latePage, more int) bool {
	if s.head.opts.Account.Reserve(int64(more)*lateRowBytes) != nil {
		return false
	}
	p.rows = append(make([]lateRow, 0, cap(p.rows)+more), p.rows...)
	return true
}

// lateAtLocked returns the live late row at t that came after an LSN, nil if there is none.
func (s *shard) lateAtLocked(local uint32, hd *header, t int64, after sample.LSN) *lateRow {
	if hd.flags&hasLate == 0 {
		return nil
	}
	l := s.late[local]
	i, ok := l.find(s.head.slotOf(t), t)
	if !ok {
		return nil
	}
	rows := l.pages[i].rows
	for k := l.pages[i].search(t); k < len(rows) && rows[k].t == t; k++ {
		if x := &rows[k]; x.dead == 0 && x.lsn > after {
			return x
		}
	}
	return nil
}

// storedLocked returns the live sample of a series at t, which is not above the time of its newest. looks is what parts
// have there.
func (s *shard) storedLocked(local uint32, hd *header, t int64, looks []look) (kind sample.Kind, v uint64, ok bool) {
	deleted, slot := s.deletedLocked(local, hd, t), s.head.slotOf(t)
	if x := s.lateAtLocked(local, hd, t, deleted); x != nil {
		return x.kind, x.v, true
	}
	if c := s.slots[slot]; deleted > 0 || c == nil || c.inOrder == 0 {
		return 0, 0, false
	}
	ft := s.footers.at(local)
	if hd.n > 0 && ft.mint <= t {
		o := s.openLocked(local, hd)
		if len(o.end) > 0 {
			s.joined = o.appendFrom(s.joined[:0], 0)
			o.body = s.joined
		}
		return s.lookLocked(o.body, int(hd.n), hd.kind, t)
	}
	if c := s.closedAtLocked(ft, t); c != nil && c.dead == 0 {
		return s.lookLocked(c.stream(), int(c.n), c.kind, t)
	}
	return s.partAtLocked(local, hd, t, looks)
}

// lookLocked looks for the sample at t in a stream.
func (s *shard) lookLocked(stream []byte, n int, kind sample.Kind, t int64) (sample.Kind, uint64, bool) {
	b := &s.scratch
	b.Reset()
	decode := chunk.DecodeFloats
	if kind != sample.Float {
		decode = chunk.DecodeHistograms
	}
	if err := decode(stream, n, t, t, b); err != nil || len(b.T) == 0 {
		return 0, 0, false
	}
	return firstRow(b)
}
