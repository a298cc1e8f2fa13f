// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import "math"

// recoveredParts is what the parts of a shard hold, while the log is replayed.
//
// The parts of a slot hold all rows, from a first to a last one, of those that each of their series got in order there.
// So an in-order row that comes out of a checkpoint or the log at a time between the two is in a part; and a late one
// never is. Rows before the first are those that a block holds, and those that were in one chunk with them: they became
// late when the block took the others.
type recoveredParts struct {
	gens    []uint32             // by local id: generation of the series that has rows in parts, 0 for none
	covered map[int64][]covering // by slot and local id
}

// covering is the times of the first and the last row that parts of a slot have of a series.
type covering struct{ first, last int64 }

var coversNone = covering{math.MaxInt64, math.MinInt64}

// AttachRecovered makes a part that an earlier run wrote hold its rows, unless a block holds them: then the answer is
// false, and the part is not needed. It belongs to the time after Flushed and before LoadSnapshot and the first
// Enqueue. Parts come in the order of their LSN.
func (h *Head) AttachRecovered(part Part, info PartInfo, series PartSeries) bool {
	if info.LSN <= h.flushed[info.Slot] {
		return false
	}
	s := h.shards[info.Shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recovering == nil {
		s.recovering = &recoveredParts{covered: map[int64][]covering{}}
	}
	x := &attached{PartInfo: info, part: part}
	r := s.recovering
	n := 0
	for _, local := range series.Local {
		n = max(n, int(local)+1)
	}
	r.gens = padded(r.gens, n, 0)
	covered := padded(r.covered[info.Slot], n, coversNone)
	for i, gen := range series.Gen {
		local := series.Local[i]
		switch {
		case gen == 0:
			continue
		case gen < r.gens[local]:
			x.exclude(local) // the id has another series by now: a block that had this one's rows is gone
			continue
		case gen > r.gens[local] && r.gens[local] != 0:
			for _, y := range s.parts {
				y.exclude(local)
			}
			covered[local] = coversNone
		}
		r.gens[local] = gen
		c := &covered[local]
		c.first, c.last = min(c.first, series.First[i]), max(c.last, series.Last[i])
	}
	r.covered[info.Slot] = covered
	s.addPartLocked(x)
	slot := s.slotLocked(info.MinT)
	slot.covered = covered
	slot.restore(info.MinT, info.MaxT, slot.last)
	slot.inOrder += info.Rows
	return true
}

func padded[T any](s []T, n int, with T) []T {
	for len(s) < n {
		s = append(s, with)
	}
	return s
}

func (x *attached) exclude(local uint32) {
	if x.without == nil {
		x.without = map[uint32]struct{}{}
	}
	x.without[local] = struct{}{}
}

// Recovered ends the replay of the log, which began with Registered: series know from now on that they have rows in
// parts.
func (h *Head) Recovered() {
	h.loadedTo = 0
	for _, s := range h.shards {
		s.mu.Lock()
		s.forgetLoadedLocked()
		if r := s.recovering; r != nil {
			for local, gen := range r.gens {
				if gen != 0 {
					s.recoveredLocked(r, uint32(local), gen)
				}
			}
			s.recovering = nil
			for _, c := range s.slots {
				c.covered = nil
			}
		}
		s.mu.Unlock()
	}
}

// recoveredLocked tells a series that it has rows in parts.
func (s *shard) recoveredLocked(r *recoveredParts, local, gen uint32) {
	hd := s.headers.at(local)
	if hd.gen != gen {
		return
	}
	hd.flags |= inPart
	if c := r.covered[s.head.slotOf(hd.lastT)]; hd.n == 0 && local < uint32(len(c)) && hd.lastT == c[local].last {
		hd.flags |= newestKept
	}
}

// burn makes the next series with an id be of a generation above gen.
func (d *directory) burn(id, gen uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.entries.len() <= id {
		next, err := d.entries.take()
		if err != nil {
			return // what has no memory for its number has none for a series either
		}
		d.freeLocked(next)
	}
	if e := d.entries.at(id); e.state == vacant {
		e.gen = max(e.gen, gen)
	}
}
