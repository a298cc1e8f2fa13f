// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"cmp"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// A late row is compared with what is stored at its time, which may be in a part, and no lock may be held while a disk
// is read. So a work looks into the parts before it has a place in the order. What parts say never changes; a part that
// comes between the look and the application of the work, which is rare, is looked into under the shard's lock.

// look is what a part has of a row's series at the row's time.
type look struct {
	row   int // of the batch
	part  *attached
	kind  sample.Kind
	v     uint64
	found bool
}

// lookAhead looks into the parts that rows of the work may be in.
func (h *Head) lookAhead(w *Work) {
	x := aheadLooker{head: h}
	to := h.spilledTo.Load()
	for i, t := range w.batch.T {
		if t <= to {
			w.looks = x.look(w.batch.Ref[i], t, i, w.looks)
		}
	}
	x.close()
}

// looksOf returns what was found for a row.
func (w *Work) looksOf(row int) []look {
	from, _ := slices.BinarySearchFunc(w.looks, row, func(x look, row int) int { return cmp.Compare(x.row, row) })
	to := from
	for to < len(w.looks) && w.looks[to].row == row {
		to++
	}
	return w.looks[from:to]
}

// aheadLooker looks into parts outside of the shards' locks. Its pin, from the first part on, keeps them.
type aheadLooker struct {
	head    *Head
	pin     *Pin
	readers map[*attached]PartReader
	parts   []*attached
	scratch column.Block
}

// look appends what parts have of a series at t.
func (x *aheadLooker) look(ref sample.Ref, t int64, row int, dst []look) []look {
	s := x.head.shardOf(ref.ID())
	if !x.find(s, ref, t) {
		return dst
	}
	if x.pin == nil {
		x.pin, x.readers = x.head.pinParts(), map[*attached]PartReader{}
		x.find(s, ref, t) // some may have gone before
	}
	for _, p := range x.parts {
		r := x.readers[p]
		if r == nil {
			r = p.part.Reader(false)
			x.readers[p] = r
		}
		y := look{row: row, part: p}
		y.kind, y.v, y.found = lookInto(r, x.head.local(ref.ID()), t, &x.scratch)
		dst = append(dst, y)
	}
	return dst
}

// find sets parts to those that may have a row of a series at t that is not newer than its newest one, and reports
// whether there are any.
func (x *aheadLooker) find(s *shard, ref sample.Ref, t int64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	x.parts = x.parts[:0]
	if local, hd := s.findLocked(ref); hd != nil && t <= hd.lastT {
		x.parts = s.partsAtLocked(local, hd, t, x.parts)
	}
	return len(x.parts) > 0
}

func (x *aheadLooker) close() {
	if x.pin == nil {
		return
	}
	for _, r := range x.readers {
		r.Close()
	}
	x.pin.Close()
}

// pinParts returns a pin that keeps the parts that are alive. It is made without the sequencer lock, so that what it sees
// of a work that is being enqueued is not settled: it is good for nothing else.
func (h *Head) pinParts() *Pin { return h.Pin() }

// partsAtLocked appends the parts that may have a row of a series at t.
func (s *shard) partsAtLocked(local uint32, hd *header, t int64, dst []*attached) []*attached {
	if hd.flags&inPart == 0 && s.recovering == nil {
		return dst
	}
	slot := s.head.slotOf(t)
	for _, x := range s.parts {
		if x.Slot == slot && x.alive() && t >= x.MinT && t <= x.MaxT && !x.lacks(local) {
			dst = append(dst, x)
		}
	}
	return dst
}

// partAtLocked returns the sample of a series at t in the parts. looks is what was found already.
func (s *shard) partAtLocked(local uint32, hd *header, t int64, looks []look) (kind sample.Kind, v uint64, ok bool) {
	var stack [16]*attached
	for _, x := range s.partsAtLocked(local, hd, t, stack[:0]) {
		if i := slices.IndexFunc(looks, func(y look) bool { return y.part == x }); i >= 0 {
			kind, v, ok = looks[i].kind, looks[i].v, looks[i].found
		} else {
			r := x.part.Reader(false)
			kind, v, ok = lookInto(r, local, t, &s.scratch)
			r.Close()
		}
		if ok {
			return kind, v, true
		}
	}
	return 0, 0, false
}

func lookInto(r PartReader, local uint32, t int64, b *column.Block) (sample.Kind, uint64, bool) {
	b.Reset()
	if err := r.Read(local, t, t, false, b); err != nil || len(b.T) == 0 {
		return 0, 0, false
	}
	return firstRow(b)
}
