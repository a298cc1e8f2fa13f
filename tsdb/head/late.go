// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"cmp"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// lateRows are the late samples of one series, by slot, so that inserting one moves the samples of a slot at most
// and dropping a slot is dropping a list.
type lateRows struct {
	slots []lateSlot // by start
}

type lateSlot struct {
	start int64
	rows  []lateRow // by (t, lsn)
}

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

const lateRowBytes = 64 // unsafe.Sizeof(lateRow{})

// slot returns the rows of a slot, nil if there are none.
func (l *lateRows) slot(start int64) *lateSlot {
	if l == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(l.slots, start, func(x lateSlot, start int64) int { return cmp.Compare(x.start, start) })
	if !ok {
		return nil
	}
	return &l.slots[i]
}

func (l *lateRows) makeSlot(start int64) *lateSlot {
	i, ok := slices.BinarySearchFunc(l.slots, start, func(x lateSlot, start int64) int { return cmp.Compare(x.start, start) })
	if !ok {
		l.slots = slices.Insert(l.slots, i, lateSlot{start: start})
	}
	return &l.slots[i]
}

// search returns the place of the first row at or after t.
func (l *lateSlot) search(t int64) int {
	if n := len(l.rows); n == 0 || l.rows[n-1].t < t { // a backfill comes in order
		return n
	}
	i, _ := slices.BinarySearchFunc(l.rows, t, func(x lateRow, t int64) int { return cmp.Compare(x.t, t) })
	return i
}

// insert puts x behind the rows of its time and of lower ones.
func (l *lateSlot) insert(x lateRow) {
	i := l.search(x.t)
	for i < len(l.rows) && l.rows[i].t == x.t {
		i++
	}
	l.rows = slices.Insert(l.rows, i, x)
}

// appendLateLocked stores a row that is older than the newest of its series, if its time is free.
func (s *shard) appendLateLocked(local uint32, hd *header, r *row, w *Work) sample.Reason {
	slot := s.slotLocked(r.t)
	if w.lsn <= slot.flushed {
		return sample.Accepted // a block holds it
	}
	if kind, v, ok := s.storedLocked(local, hd, r.t); ok {
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
	if !s.addLateLocked(local, hd, slot.start, x) {
		if x.hist != nil {
			s.head.opts.Account.Release(histBytes(x.hist.h, x.hist.fh))
		}
		return sample.OverLimit
	}
	slot.note(r.t, w)
	slot.late++
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
		s.late[local] = l
		hd.flags |= hasLate
	}
	rows := l.makeSlot(slot)
	if len(rows.rows) == cap(rows.rows) {
		more := max(4, cap(rows.rows)/2)
		if s.head.opts.Account.Reserve(int64(more)*lateRowBytes) != nil {
			return false
		}
		rows.rows = append(make([]lateRow, 0, cap(rows.rows)+more), rows.rows...)
	}
	rows.insert(x)
	hd.flags &^= wasIdle
	return true
}

// storedLocked returns the live sample of a series at t, which is not above the time of its newest.
func (s *shard) storedLocked(local uint32, hd *header, t int64) (kind sample.Kind, v uint64, ok bool) {
	deleted := s.deletedLocked(local, hd, t)
	if hd.flags&hasLate != 0 {
		if l := s.late[local].slot(s.head.slotOf(t)); l != nil {
			for i := l.search(t); i < len(l.rows) && l.rows[i].t == t; i++ {
				if x := &l.rows[i]; x.dead == 0 && x.lsn > deleted {
					return x.kind, x.v, true
				}
			}
		}
	}
	if deleted > 0 {
		return 0, 0, false
	}
	if hd.n > 0 && hd.mint <= t {
		stream, _ := s.openStreamsLocked(local, hd)
		return s.lookLocked(stream, int(hd.n), hd.kind, t)
	}
	for number := hd.closed; number != 0; {
		c := s.closed.at(number - 1)
		if c.mint <= t && t <= c.maxt && c.dead == 0 {
			return s.lookLocked(s.bytes.Bytes(c.stream)[:c.size], int(c.n), c.kind, t)
		}
		if c.maxt < t {
			break
		}
		number = c.older
	}
	return 0, 0, false
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
	if kind == sample.Float {
		return kind, math.Float64bits(b.V[0]), true
	}
	r := row{kind: kind, h: b.H.Int[0], fh: b.H.Float[0]}
	r.digest()
	return kind, r.v, true
}
