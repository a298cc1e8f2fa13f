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
