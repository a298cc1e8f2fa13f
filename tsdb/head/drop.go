// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Flushed tells that a block holds the rows of a slot up to lsn, so that they need not be stored when they come
// out of a checkpoint or the log; they only move what later rows are judged by. It belongs to the time before
// LoadSnapshot and the first Enqueue.
func (h *Head) Flushed(slot int64, lsn sample.LSN) {
	h.flushed[slot] = max(h.flushed[slot], lsn)
}

// DropSlot takes the rows of a slot up to lsn out of the head, because a block holds them. Rows that came later
// stay. The pin at lsn, from which the block was written, should still be open: without it chunks that got rows
// after lsn stay whole, which costs memory and is otherwise harmless, since the block's rows are the same.
//
// Pins that are open go on seeing the rows; new ones do not.
func (h *Head) DropSlot(slot int64, lsn sample.LSN) {
	h.maintain.Lock()
	defer h.maintain.Unlock()
	d := dropping{slot: slot, end: h.slotEnd(slot), lsn: lsn, number: h.drops.Load() + 1, pinned: h.pins.at(lsn) != nil}
	h.dropping.Store(d.number)
	for _, s := range h.shards {
		s.eachRun(func(from, to uint32) { d.runLocked(s, from, to) })
	}
	h.dropped(d.number, true)
	h.reclaimLocked()
}

// dropping is one call of DropSlot.
type dropping struct {
	slot, end int64
	lsn       sample.LSN
	number    uint32
	pinned    bool // the versions tell how many rows of a chunk came up to lsn

	inOrder, late, moved int // rows that went, and that became late, in the run at hand
}

// lockRun is how many series are gone through under one hold of a shard's lock: a few hundred microseconds.
const lockRun = 4096

// eachRun calls f with the local ids from <= local < to, in runs, with the lock held. Appends come in between.
func (s *shard) eachRun(f func(from, to uint32)) { s.eachRunOf(lockRun, f) }

func (s *shard) eachRunOf(run uint32, f func(from, to uint32)) {
	for from, end := uint32(0), uint32(1); from < end; from += run {
		s.mu.Lock()
		end = s.headers.len()
		f(from, min(from+run, end))
		s.mu.Unlock()
	}
}

// runLocked takes the rows of some series. What comes to a series before its turn came after d.lsn.
func (d *dropping) runLocked(s *shard, from, to uint32) {
	count := s.slots[d.slot]
	if count == nil {
		return
	}
	d.inOrder, d.late, d.moved = 0, 0, 0
	if from == 0 {
		d.inOrder = s.dropPartsLocked(d.slot, d.lsn, d.number)
	}
	for local := from; local < to; local++ {
		if hd := s.headers.at(local); hd.gen != 0 {
			d.seriesLocked(s, local, hd)
		}
	}
	if d.inOrder+d.late > 0 {
		s.unswept = true
	}
	count.inOrder -= d.inOrder
	count.late += d.moved - d.late
	if count.inOrder+count.late <= 0 {
		delete(s.slots, d.slot)
		s.current = nil
	}
}

func (d *dropping) seriesLocked(s *shard, local uint32, hd *header) {
	if hd.flags&hasLate != 0 {
		pages := s.late[local].in(d.slot)
		for i := range pages {
			d.late += pages[i].kill(d.lsn, d.number)
		}
	}
	if hd.n == 0 && hd.lastT >= d.slot && hd.lastT <= d.end {
		hd.flags &^= newestKept
	}
	chunks, n, ok := s.stateAtLocked(local, hd, d.lsn)
	if !ok {
		return // no row of the series is that old
	}
	ft := s.footers.at(local)
	if hd.n > 0 && ft.mint >= d.slot && ft.mint <= d.end && d.covers(ft.chunks, hd.n, hd.changed, chunks, n) {
		// From here on it is the newest of the closed ones. Where there is no memory to close it, it stays.
		if !s.closeLocked(local, hd) {
			return
		}
	}
	for number := ft.closed; number != 0; {
		c := s.chunkAt(number)
		if c.maxt < d.slot {
			return
		}
		if c.mint >= d.slot && c.mint <= d.end && c.dead == 0 && d.covers(c.number, c.n, c.changed, chunks, n) {
			d.chunkLocked(s, local, hd, c, chunks, n)
		}
		number = c.older
	}
}

// covers reports whether any row of a chunk came up to d.lsn, when the series had (chunks, n).
func (d *dropping) covers(number uint32, size uint16, changed sample.LSN, chunks uint32, n uint16) bool {
	if !d.pinned {
		return changed <= d.lsn
	}
	return number < chunks || number == chunks && n > 0 && size > 0
}

// chunkLocked takes a chunk. Rows that came after d.lsn become late ones: they no longer are at the end of a
// stream.
func (d *dropping) chunkLocked(s *shard, local uint32, hd *header, c *closedChunk, chunks uint32, n uint16) {
	if d.pinned && c.number == chunks && n < c.n {
		if !d.keepRowsLocked(s, local, hd, c, int(n)) {
			return
		}
	}
	s.dieLocked(c, d.number)
	d.inOrder += int(c.n)
}

// keepRowsLocked makes the rows of a chunk from n on late ones, but for deleted ones and those that an earlier try made
// late before it ran out of memory.
func (d *dropping) keepRowsLocked(s *shard, local uint32, hd *header, c *closedChunk, n int) bool {
	b := &s.scratch
	b.Reset()
	p := piece{n: int(c.n), kind: c.kind}
	if err := p.decode(c.stream(), c.starts(), span{math.MinInt64, math.MaxInt64, true}, b); err != nil {
		return false
	}
	for i := n; i < len(b.T); i++ {
		if s.deletedLocked(local, hd, b.T[i]) > 0 || s.lateAtLocked(local, hd, b.T[i], 0) != nil {
			continue
		}
		x := lateRow{t: b.T[i], st: b.STAt(i), v: math.Float64bits(b.V[i]), lsn: c.changed, born: d.number, kind: c.kind}
		if c.kind != sample.Float {
			r := row{kind: c.kind, h: b.H.Int[i], fh: b.H.Float[i]}
			r.digest()
			x.v, x.hist = r.v, &lateHist{r.h, r.fh}
			if s.head.opts.Account.Reserve(histBytes(r.h, r.fh)) != nil {
				return false
			}
		}
		if !s.addLateLocked(local, hd, d.slot, x) {
			if x.hist != nil {
				s.head.opts.Account.Release(histBytes(x.hist.h, x.hist.fh))
			}
			return false
		}
		d.moved++
	}
	return true
}

// Reclaim gives back the memory of rows and series that no open pin can see any more. Closing the oldest pin
// does it too.
func (h *Head) Reclaim() {
	h.maintain.Lock()
	defer h.maintain.Unlock()
	h.reclaimLocked()
}

func (h *Head) reclaimLocked() {
	h.garbage.Store(false)
	drops, epoch := h.reclaimable()
	var gone []uint32
	var parts []*attached
	left := false
	for _, s := range h.shards {
		deadParts := false
		gone = s.releaseEnded(drops, epoch, gone)
		s.mu.Lock()
		parts, deadParts = s.takeDeadPartsLocked(drops, parts)
		left = left || len(s.ended) > 0 || deadParts
		unswept := s.unswept
		s.mu.Unlock()
		if unswept {
			left = s.sweep(drops) || left
		}
	}
	if left {
		h.garbage.Store(true)
	}
	slices.Sort(gone)
	h.dir.release(gone)
	for _, x := range parts {
		x.part.Discard()
	}
}

// emptySeriesLocked gives back all that a series holds.
func (s *shard) emptySeriesLocked(local uint32) {
	hd, ft := s.headers.at(local), s.footers.at(local)
	if hd.n > 0 {
		s.forgetOpenLocked(local, hd)
	}
	for number := ft.closed; number != 0; {
		older := s.chunkAt(number).older
		s.freeClosedLocked(number)
		number = older
	}
	if l := s.late[local]; l != nil {
		for i := range l.pages {
			s.freeLateLocked(&l.pages[i], func(*lateRow) bool { return true })
		}
		delete(s.late, local)
	}
	delete(s.tombs, local)
	s.examples.forget(local)
	*hd, *ft = header{}, footer{}
}

// sweep gives back the rows that were dropped by a drop of at most this number, and reports whether dropped ones
// are left.
func (s *shard) sweep(drops uint32) (left bool) {
	s.eachRun(func(from, to uint32) {
		if from == 0 {
			s.unswept = false
		}
		for local := from; local < to; local++ {
			if s.sweepSeriesLocked(local, drops) {
				left, s.unswept = true, true
			}
		}
	})
	return left
}

func (s *shard) sweepSeriesLocked(local, drops uint32) (left bool) {
	hd, ft := s.headers.at(local), s.footers.at(local)
	freed := false
	for link := &ft.closed; *link != 0; {
		number := *link
		c := s.chunkAt(number)
		switch {
		case c.dead == 0:
			link = &c.older
		case c.dead <= drops:
			*link = c.older
			s.freeClosedLocked(number)
			freed = true
		default:
			left = true
			link = &c.older
		}
	}
	if freed {
		s.rejumpLocked(ft)
	}
	if hd.flags&hasLate != 0 {
		left = s.sweepLateLocked(local, hd, drops) || left
	}
	if hd.flags&hasTombs != 0 {
		s.forgetTombsLocked(local, hd)
	}
	return left
}

// sweepLateLocked does so for late rows, and reports whether dead ones are left.
func (s *shard) sweepLateLocked(local uint32, hd *header, drops uint32) (left bool) {
	l := s.late[local]
	for i := range l.pages {
		page := &l.pages[i]
		if page.dead == 0 {
			continue
		}
		gone := s.freeLateLocked(page, func(x *lateRow) bool { return x.dead != 0 && x.dead <= drops })
		page.dead -= gone
		left = left || page.dead > 0
	}
	l.pages = slices.DeleteFunc(l.pages, func(x latePage) bool { return len(x.rows) == 0 })
	if len(l.pages) == 0 {
		delete(s.late, local)
		hd.flags &^= hasLate
	}
	return left
}

// freeLateLocked gives back the rows of a page that goes says, and returns how many.
func (s *shard) freeLateLocked(l *latePage, goes func(*lateRow) bool) (gone int) {
	had, before, hists := len(l.rows), cap(l.rows), int64(0)
	l.rows = slices.DeleteFunc(l.rows, func(x lateRow) bool {
		if !goes(&x) {
			return false
		}
		if x.hist != nil {
			hists += histBytes(x.hist.h, x.hist.fh)
		}
		return true
	})
	gone = had - len(l.rows)
	if len(l.rows) < before/2 {
		l.rows = slices.Clone(l.rows)
	}
	s.head.opts.Account.Release(hists + int64(before-cap(l.rows))*lateRowBytes)
	return gone
}
