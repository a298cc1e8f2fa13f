// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Spilling takes closed chunks out of memory into parts, a shard and a slot at a time:
//
//	Seal     closes the open chunks that are worth it, so that the chunks that leave are whole
//	Settle   names the LSN up to which rows are in the chunks, which must be durable before they may leave
//	Spills   names the slots that the shard has chunks of; Rows yields what goes into a part
//	Attach   takes the part, and in one step the chunks that are in it
//
// No pin is needed: a closed chunk does not change, and only who spills takes one away. A row that comes meanwhile is in
// a chunk that was open, which stays.

// sealRun is how many series are sealed under one hold of a shard's lock: a few hundred microseconds.
const sealRun = 1024

// Load is what a shard holds in memory.
type Load struct {
	Shard  uint32
	Series int
	Bytes  int64 // of streams that a spill would take, and of open chunks
}

// Loads returns what each shard holds, by number.
func (h *Head) Loads() []Load {
	out := make([]Load, 0, len(h.shards))
	for _, s := range h.shards {
		s.mu.RLock()
		out = append(out, Load{Shard: s.number, Series: s.counts.Series, Bytes: s.bytes.Stats().InUse - s.deadBytes - s.versions.bytes()})
		s.mu.RUnlock()
	}
	return out
}

// IDs returns the series of a shard, ascending.
func (h *Head) IDs(shard uint32) []uint32 {
	s := h.shards[shard]
	s.mu.RLock()
	defer s.mu.RUnlock()
	ids := make([]uint32, 0, s.counts.Series)
	for local := range s.headers.len() {
		if s.headers.at(local).gen != 0 {
			ids = append(ids, s.id(local))
		}
	}
	return ids
}

// Seal closes the open chunks of a shard that have at least so many samples. Where memory runs out the others stay open.
func (h *Head) Seal(shard uint32, least int) {
	s := h.shards[shard]
	s.eachRunOf(sealRun, func(from, to uint32) {
		for local := from; local < to; local++ {
			hd := s.headers.at(local)
			if hd.gen == 0 || int(hd.n) < least || hd.n == 0 {
				continue
			}
			if !s.closeLocked(local, hd) {
				return
			}
			hd.flags |= newestKept
		}
	})
}

// Settle waits until all works that are enqueued are applied, and returns the LSN of the last.
func (h *Head) Settle(ctx context.Context) (sample.LSN, error) {
	lsn := sample.LSN(h.order.enqueued.Load())
	return lsn, h.order.await(ctx, lsn)
}

// outgoing is what of a series goes into a part: the chunks below a number. The zero value: nothing.
type outgoing struct{ gen, below uint32 }

// Spill is the chunks of one shard and one slot on their way into a part.
type Spill struct {
	shard  *shard
	end    int64 // last ms of the slot
	info   PartInfo
	series int
	leaves []outgoing // by local id
}

// Spills returns what the shard holds in closed chunks up to an LSN that is durable, by slot: of the slots with at least
// so many bytes of streams. No slot may be dropped before Attach.
func (h *Head) Spills(upTo sample.LSN, shard uint32, least int64) []*Spill {
	s := h.shards[shard]
	bytes := map[int64]int64{}
	end := uint32(1)
	for from := uint32(0); from < end; from += lockRun {
		s.mu.RLock()
		end = s.headers.len()
		for local := from; local < min(from+lockRun, end); local++ {
			s.eachClosedLocked(local, math.MinInt64, math.MaxInt64, func(c *closedChunk) {
				if c.changed <= upTo {
					bytes[h.slotOf(c.mint)] += int64(c.size)
				}
			})
		}
		s.mu.RUnlock()
	}
	var out []*Spill
	for _, slot := range slices.Sorted(maps.Keys(bytes)) {
		if bytes[slot] >= least {
			out = append(out, &Spill{
				shard: s, end: h.slotEnd(slot), series: int(end),
				info: PartInfo{Shard: shard, Slot: slot, LSN: upTo, MinT: math.MaxInt64, MaxT: math.MinInt64},
			})
		}
	}
	return out
}

// eachClosedLocked calls f with the closed chunks of a series that begin in [from, to] and that no drop has taken; the
// newest first.
func (s *shard) eachClosedLocked(local uint32, from, to int64, f func(*closedChunk)) {
	if s.headers.at(local).gen == 0 {
		return
	}
	for link := s.footers.at(local).closed; link != 0; {
		c := s.chunkAt(link)
		if c.maxt < from {
			return
		}
		if c.mint >= from && c.mint <= to && c.dead == 0 {
			f(c)
		}
		link = c.older
	}
}

// Info returns what the part is, complete when Rows has ended.
func (x *Spill) Info() PartInfo { return x.info }

// Series returns how many series Rows yields at most.
func (x *Spill) Series() int { return x.series }

// SpillRows is all rows of Rows, those of one series, good until the next one is asked for. Of a series without rows the
// generation is 0.
type SpillRows struct {
	Local, Gen uint32
	Rows       *column.Block
}

// spillRun is how many series are copied under one hold of the shard's lock.
const spillRun = 256

// Rows yields the series of the shard, ids, in the order in which they are mostly read.
func (x *Spill) Rows(ids []uint32) iter.Seq2[SpillRows, error] {
	return func(yield func(SpillRows, error) bool) {
		r := &Reader{want: span{math.MinInt64, math.MaxInt64, true}} // for its buffers
		var b column.Block
		x.leaves = make([]outgoing, x.series)
		run := make([]spilledSeries, 0, spillRun)
		for len(ids) > 0 {
			n := min(spillRun, len(ids))
			run = x.copyRun(r, ids[:n], run[:0])
			ids = ids[n:]
			for _, y := range run {
				b.Reset()
				if err := x.decode(r, y, &b); err != nil {
					yield(SpillRows{}, fmt.Errorf("series %d of the head: %w", x.shard.id(y.local), err))
					return
				}
				if !yield(SpillRows{y.local, x.leaves[y.local].gen, &b}, nil) {
					return
				}
			}
		}
	}
}

// spilledSeries is the copies of the chunks of a series: pieces[from:to] of a reader.
type spilledSeries struct {
	outgoing
	local    uint32
	from, to int
}

// copyRun copies the chunks of some series and appends them to run.
func (x *Spill) copyRun(r *Reader, ids []uint32, run []spilledSeries) []spilledSeries {
	s := x.shard
	r.forget()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, id := range ids {
		local := s.head.local(id)
		if int(local) >= x.series {
			continue // it came since
		}
		y := spilledSeries{outgoing: outgoing{gen: s.headers.at(local).gen}, local: local, from: len(r.pieces)}
		s.eachClosedLocked(local, x.info.Slot, x.end, func(c *closedChunk) {
			if c.changed > x.info.LSN {
				return
			}
			y.below = max(y.below, c.number+1)
			r.add(c.stream(), c.starts(), piece{n: int(c.n), kind: c.kind, mint: c.mint})
		})
		y.to = len(r.pieces)
		slices.Reverse(r.pieces[y.from:])
		run = append(run, y)
	}
	return run
}

// decode decodes the rows of a series and notes that they go.
func (x *Spill) decode(r *Reader, y spilledSeries, b *column.Block) error {
	for _, c := range r.pieces[y.from:y.to] {
		if err := c.decode(r.buf[c.from:c.starts], r.buf[c.starts:c.to], r.want, b); err != nil {
			return err
		}
	}
	if n := len(b.T); n > 0 {
		x.info.Rows += n
		x.info.MinT, x.info.MaxT = min(x.info.MinT, b.T[0]), max(x.info.MaxT, b.T[n-1])
		x.leaves[y.local] = y.outgoing
	}
	return nil
}

// Attach puts a part that holds what Rows has yielded in the place of the chunks. Pins that are open go on seeing the
// chunks, new ones see the part.
func (x *Spill) Attach(part Part) {
	s, h := x.shard, x.shard.head
	h.maintain.Lock()
	defer h.maintain.Unlock()
	number := h.drops.Load() + 1
	h.dropping.Store(number)
	s.mu.Lock()
	s.addPartLocked(&attached{PartInfo: x.info, part: part, born: number})
	s.mu.Unlock()
	s.eachRun(func(from, to uint32) {
		for local := from; local < min(to, uint32(len(x.leaves))); local++ {
			y, hd := x.leaves[local], s.headers.at(local)
			if y.gen == 0 || y.gen != hd.gen {
				continue
			}
			hd.flags |= inPart
			s.eachClosedLocked(local, x.info.Slot, x.end, func(c *closedChunk) {
				if c.number < y.below {
					s.dieLocked(c, number)
				}
			})
		}
	})
	h.dropped(number, false)
	h.reclaimLocked()
}

// dieLocked makes a drop take a closed chunk.
func (s *shard) dieLocked(c *closedChunk, number uint32) {
	c.dead = number
	s.deadBytes += int64(c.size + c.startsSize)
	s.unswept = true
}

// dropped ends a drop: new pins see what it did. slot is whether series may have left by it.
func (h *Head) dropped(number uint32, slot bool) {
	h.pins.mu.Lock()
	h.drops.Store(number)
	if slot {
		h.pins.slotDrops++
	}
	h.pins.mu.Unlock()
	h.garbage.Store(true)
}

// firstRow returns kind and value of the first row of b as those of late rows are kept: of a histogram its digest.
func firstRow(b *column.Block) (sample.Kind, uint64, bool) {
	kind := b.KindAt(0)
	if kind == sample.Float {
		return kind, math.Float64bits(b.V[0]), true
	}
	r := row{kind: kind, h: b.H.Int[0], fh: b.H.Float[0]}
	r.digest()
	return kind, r.v, true
}
