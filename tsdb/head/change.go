// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// endedSeries is a series that has left by the work of an LSN, but that a pin from before may still see.
type endedSeries struct {
	lsn   sample.LSN
	drops uint32 // number of the last drop begun when it left: a pin may see what that took
}

// tomb is a deleted range of a series: its in-order samples in it, and its late ones up to the LSN. Samples that
// are appended in order later are newer than maxt.
type tomb struct {
	mint, maxt int64
	lsn        sample.LSN
}

// changeLocked applies a change to the series of the shard that it names.
func (s *shard) changeLocked(w *Work) {
	for _, i := range w.rows.of(s.number) {
		ref := w.change.refs[i]
		if w.change.free {
			s.endLocked(ref, w.lsn)
			continue
		}
		local, hd := s.findLocked(ref)
		if hd == nil || !hd.hasSample() || w.change.mint > hd.lastT {
			continue
		}
		s.buryLocked(local, hd, tomb{w.change.mint, min(w.change.maxt, hd.lastT), w.lsn}, w.guard)
		if w.change.maxt >= hd.lastT {
			hd.flags |= newestGone
		}
	}
}

// buryLocked adds a deleted range. Earlier ones within it go, but for those that a pin, whose epoch is guard at most,
// sees without it.
func (s *shard) buryLocked(local uint32, hd *header, x tomb, guard sample.LSN) {
	all := slices.DeleteFunc(s.tombs[local], func(y tomb) bool {
		return x.mint <= y.mint && y.maxt <= x.maxt && y.lsn > guard
	})
	s.tombs[local] = append(all, x)
	hd.flags |= hasTombs
}

// forgetTombsLocked drops the deleted ranges before the oldest sample that is held.
func (s *shard) forgetTombsLocked(local uint32, hd *header) {
	oldest := int64(math.MaxInt64)
	ft := s.footers.at(local)
	if hd.n > 0 {
		oldest = ft.mint
	}
	for number := ft.closed; number != 0; {
		c := s.chunkAt(number)
		oldest, number = min(oldest, c.mint), c.older
	}
	if hd.flags&hasLate != 0 {
		oldest = min(oldest, s.late[local].pages[0].rows[0].t)
	}
	if t, ok := s.partsOldestLocked(); ok {
		oldest = min(oldest, t)
	}
	left := slices.DeleteFunc(s.tombs[local], func(x tomb) bool { return x.maxt < oldest })
	s.tombs[local] = left
	if len(left) == 0 {
		delete(s.tombs, local)
		hd.flags &^= hasTombs
	}
}

// deletedLocked returns the LSN of the last delete that took the samples at t, 0 for none.
func (s *shard) deletedLocked(local uint32, hd *header, t int64) sample.LSN {
	if hd.flags&hasTombs == 0 {
		return 0
	}
	for _, x := range slices.Backward(s.tombs[local]) {
		if x.mint <= t && t <= x.maxt {
			return x.lsn
		}
	}
	return 0
}

// endLocked lets a series leave. What it holds stays for older pins until reclaimLocked.
func (s *shard) endLocked(ref sample.Ref, lsn sample.LSN) {
	local, hd := s.findLocked(ref)
	if hd == nil {
		return
	}
	s.ended[local] = endedSeries{lsn: lsn, drops: s.head.dropping.Load()}
	hd.gen = 0
	s.counts.Series--
	s.head.members.note(NoSeries, lsn)
	s.head.dir.leave(ref)
	s.head.garbage.Store(true)
}

// Idle returns series that hold no sample: whose newest is older than before or a stale marker, or that got none at all
// between two calls. Whoever wants to free them asks StillIdle, under the sequencer lock, which of them may go.
func (h *Head) Idle(before int64) []sample.Ref {
	var out []sample.Ref
	stale := staleDigests()
	for _, s := range h.shards {
		s.eachRun(func(from, to uint32) {
			for local := from; local < to; local++ {
				hd := s.headers.at(local)
				if hd.gen == 0 || !s.emptyLocked(local, hd) {
					continue
				}
				if hd.flags&wasIdle != 0 || hd.hasSample() && (hd.lastT < before || stale.ends(hd)) {
					out = append(out, sample.MakeRef(hd.gen, s.id(local)))
				}
				if !hd.hasSample() {
					hd.flags |= wasIdle
				}
			}
		})
	}
	return out
}

// staleMarkers are the digests of the histograms that say that a series has ended, by kind.
type staleMarkers map[sample.Kind]uint64

func staleDigests() staleMarkers {
	out := staleMarkers{}
	for _, kind := range []sample.Kind{sample.Histogram, sample.FloatHistogram} {
		r := row{kind: kind}
		r.toStaleHistogram(kind)
		if r.digest() {
			out[kind] = r.v
		}
	}
	return out
}

// ends reports whether the newest sample of a series is a stale marker.
func (m staleMarkers) ends(hd *header) bool {
	if hd.kind == sample.Float {
		return value.IsStaleNaN(math.Float64frombits(hd.last))
	}
	digest, ok := m[hd.kind]
	return ok && hd.last == digest
}

// StillIdle returns those of refs that hold no sample after everything that is enqueued. The caller holds the
// sequencer lock, and passes the answer to Free before it lets go.
func (h *Head) StillIdle(ctx context.Context, refs []sample.Ref) ([]sample.Ref, error) {
	if err := h.order.await(ctx, sample.LSN(h.order.enqueued.Load())); err != nil {
		return nil, err
	}
	var out []sample.Ref
	for _, ref := range refs {
		s := h.shardOf(ref.ID())
		s.mu.RLock()
		local, hd := s.findLocked(ref)
		if hd != nil && s.emptyLocked(local, hd) {
			out = append(out, ref)
		}
		s.mu.RUnlock()
	}
	return out, nil
}

// emptyLocked reports whether a series holds no sample that a new pin would see.
func (s *shard) emptyLocked(local uint32, hd *header) bool {
	if hd.n > 0 {
		return false
	}
	for number := s.footers.at(local).closed; number != 0; {
		c := s.chunkAt(number)
		if c.dead == 0 {
			return false
		}
		number = c.older
	}
	if s.inPartsLocked(hd, (*attached).alive) {
		return false
	}
	if hd.flags&hasLate == 0 {
		return true
	}
	for _, page := range s.late[local].pages {
		if slices.ContainsFunc(page.rows, func(x lateRow) bool { return x.dead == 0 }) {
			return false
		}
	}
	return true
}
