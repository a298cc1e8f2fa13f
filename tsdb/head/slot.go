// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"cmp"
	"slices"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Slot tells what of a slot the head holds.
type Slot struct {
	Start         int64 // ms; the slot is [Start, Start+SlotMillis)
	InOrder, Late int   // samples
	MinT, MaxT    int64 // of them
	LastAppend    time.Time
}

// slotCount is the part of a slot that is in one shard.
type slotCount struct {
	start, end    int64      // ms, end is the last one in the slot
	flushed       sample.LSN // up to here a block holds the rows already, while the log is replayed
	covered       []covering // by local id: in-order rows that parts hold already, while the log is replayed
	inOrder, late int
	mint, maxt    int64
	last          time.Time
}

// covers reports whether a part holds the in-order row of a series at t.
func (c *slotCount) covers(local uint32, t int64) bool {
	return local < uint32(len(c.covered)) && t >= c.covered[local].first && t <= c.covered[local].last
}

// slotLocked returns the count of the slot that t is in.
func (s *shard) slotLocked(t int64) *slotCount {
	if c := s.current; c != nil && t >= c.start && t <= c.end {
		return c
	}
	start := s.head.slotOf(t)
	c := s.slots[start]
	if c == nil {
		c = &slotCount{start: start, end: s.head.slotEnd(start), flushed: s.head.flushed[start]}
		if s.recovering != nil {
			c.covered = s.recovering.covered[start]
		}
		s.slots[start] = c
	}
	s.current = c
	return c
}

// note counts a sample in; the caller counts which sort it is, afterwards.
func (c *slotCount) note(t int64, w *Work) {
	if c.inOrder+c.late == 0 {
		c.mint, c.maxt = t, t
	}
	c.mint, c.maxt, c.last = min(c.mint, t), max(c.maxt, t), w.now
}

// Slots returns the slots that hold samples, by time.
func (h *Head) Slots() []Slot {
	all := map[int64]Slot{}
	for _, s := range h.shards {
		s.mu.RLock()
		for start, c := range s.slots {
			if c.inOrder+c.late == 0 {
				continue
			}
			x, ok := all[start]
			if !ok {
				x = Slot{Start: start, MinT: c.mint, MaxT: c.maxt}
			}
			x.InOrder, x.Late = x.InOrder+c.inOrder, x.Late+c.late
			x.MinT, x.MaxT = min(x.MinT, c.mint), max(x.MaxT, c.maxt)
			if c.last.After(x.LastAppend) {
				x.LastAppend = c.last
			}
			all[start] = x
		}
		s.mu.RUnlock()
	}
	out := make([]Slot, 0, len(all))
	for _, x := range all {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Slot) int { return cmp.Compare(a.Start, b.Start) })
	return out
}

// SlotSeries returns the ids of the series of which the pin sees samples in a slot, in label order.
func (p *Pin) SlotSeries(slot int64) []uint32 {
	h := p.head
	end := h.slotEnd(slot)
	var ids []uint32
	for _, s := range h.shards {
		s.mu.RLock()
		for local := range s.headers.len() {
			if s.inSlotLocked(p, local, slot, end) {
				ids = append(ids, s.id(local))
			}
		}
		s.mu.RUnlock()
	}
	p.sortByLabels(ids)
	return ids
}

// inSlotLocked reports whether the pin sees samples of a series in [slot, end]. It does not look at deleted
// ranges, so that a slot may turn out to be empty.
func (s *shard) inSlotLocked(p *Pin, local uint32, slot, end int64) bool {
	hd := s.headers.at(local)
	if hd.gen == 0 && !s.seesEndedLocked(p, local) {
		return false
	}
	if hd.flags&hasLate != 0 {
		for _, page := range s.late[local].in(slot) {
			if slices.ContainsFunc(page.rows, p.seesLate) {
				return true
			}
		}
	}
	chunks, n, ok := s.stateAtLocked(local, hd, p.epoch)
	if !ok {
		return false
	}
	ft := s.footers.at(local)
	if hd.n > 0 && ft.chunks == chunks && n > 0 && ft.mint >= slot && ft.mint <= end {
		return true
	}
	for number := ft.closed; number != 0; {
		c := s.chunkAt(number)
		if c.maxt < slot {
			break
		}
		if c.mint <= end && p.seesClosed(c, chunks, n) > 0 {
			return true
		}
		number = c.older
	}
	return s.inPartsLocked(hd, func(x *attached) bool { return x.Slot == slot && p.seesPart(x) })
}

// sortByLabels brings series into label order. The texts are sorted once; the series are compared by the ranks
// of theirs.
func (p *Pin) sortByLabels(ids []uint32) {
	off := make([]int, 1, len(ids)+1)
	var pairs []uint32
	place := make(map[uint32]uint32, len(ids)/4) // symbol -> index into texts
	var texts []string
	for _, id := range ids {
		start := len(pairs)
		pairs = p.Pairs(id, pairs)
		for i := start; i < len(pairs); i++ {
			sym := pairs[i]
			at, ok := place[sym]
			if !ok {
				at = uint32(len(texts))
				place[sym] = at
				texts = append(texts, p.head.dir.index.Symbol(sym))
			}
			pairs[i] = at
		}
		off = append(off, len(pairs))
	}
	order := make([]uint32, len(texts))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(texts[a], texts[b]) })
	rank := make([]uint32, len(texts))
	for r, i := range order {
		rank[i] = uint32(r)
	}
	for i, at := range pairs {
		pairs[i] = rank[at]
	}
	perm := make([]int, len(ids))
	for i := range perm {
		perm[i] = i
	}
	slices.SortFunc(perm, func(a, b int) int {
		return slices.Compare(pairs[off[a]:off[a+1]], pairs[off[b]:off[b+1]])
	})
	sorted := make([]uint32, len(ids))
	for i, k := range perm {
		sorted[i] = ids[k]
	}
	copy(ids, sorted)
}
