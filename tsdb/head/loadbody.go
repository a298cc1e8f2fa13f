// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// bodyLoader reads what a frame says of the samples of series. Its cursor c keeps its first error; the loops look at it
// before they go on.
type bodyLoader struct {
	head    *Head
	off     int64 // of the frame
	c       decbuf.Buf
	upTo    sample.LSN // of which nothing in the frame is above
	now     time.Time
	scratch column.Block
	builder labels.ScratchBuilder
}

func (l *bodyLoader) corrupt(format string, args ...any) error {
	return &CorruptError{Off: l.off, Msg: fmt.Sprintf(format, args...)}
}

// bodyLocked reads what seriesLocked of the writer wrote.
func (l *bodyLoader) bodyLocked(s *shard, local uint32, hd *header) error {
	changed := sample.LSN(l.c.Uvarint())
	if changed > l.upTo {
		return l.corrupt("a series changed at %d, after %d", changed, l.upTo)
	}
	if changed > 0 {
		hd.changed, hd.lastT, hd.last, hd.kind = changed, l.c.Varint(), l.c.LE64(), l.kind()
		if l.c.AtMost(1, "flag") == 1 {
			hd.flags |= newestGone
		}
		if err := l.chunksLocked(s, local, hd); err != nil {
			return err
		}
	}
	if err := l.lateLocked(s, local, hd); err != nil {
		return err
	}
	for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
		x := tomb{l.c.Varint(), l.c.Varint(), sample.LSN(l.c.Uvarint())}
		s.tombs[local] = append(s.tombs[local], x)
		hd.flags |= hasTombs
	}
	return nil
}

func (l *bodyLoader) chunksLocked(s *shard, local uint32, hd *header) error {
	prev, ft := int64(math.MinInt64), s.footers.at(local)
	first := true
	for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
		c := closedChunk{
			kind: l.kind(), n: uint16(l.c.AtMost(maxSamples, "number of samples")), changed: sample.LSN(l.c.Uvarint()),
			mint: l.c.Varint(), maxt: l.c.Varint(), number: ft.chunks,
		}
		stream, starts := l.c.Sized(), l.c.Sized()
		if l.c.Failed() || c.n == 0 || c.mint > c.maxt || c.maxt > hd.lastT || !first && c.mint <= prev || s.head.slotOf(c.mint) != s.head.slotOf(c.maxt) {
			return l.corrupt("a chunk of %d samples from %d to %d out of place", c.n, c.mint, c.maxt)
		}
		prev, first = c.maxt, false
		slot := s.slotLocked(c.mint)
		if c.changed <= slot.flushed || slot.covers(local, c.maxt) {
			continue
		}
		if !s.addClosedLocked(ft, c, openBytes{body: stream, starts: starts}) {
			return l.noMemory()
		}
		ft.chunks++
		slot.restore(c.mint, c.maxt, l.now)
		slot.inOrder += int(c.n)
	}
	n := int(l.c.AtMost(maxSamples, "number of samples"))
	if n == 0 {
		return nil
	}
	mint, form, stream, starts := l.c.Varint(), l.c.Byte(), l.c.Sized(), l.c.Sized()
	if l.c.Failed() || form > streamLong || mint > hd.lastT || !first && mint <= prev || s.head.slotOf(mint) != s.head.slotOf(hd.lastT) {
		return l.corrupt("an open chunk of %d samples from %d to %d out of place", n, mint, hd.lastT)
	}
	slot := s.slotLocked(mint)
	if hd.changed <= slot.flushed || slot.covers(local, hd.lastT) {
		return nil
	}
	if err := l.openLocked(s, local, hd, openCopy{n, mint, form == streamLong, stream, starts}); err != nil {
		return err
	}
	slot.restore(mint, hd.lastT, l.now)
	slot.inOrder += n
	return nil
}

func (l *bodyLoader) noMemory() error {
	account := l.head.opts.Account
	return fmt.Errorf("the memory budget has no room for the head: %d of %d bytes in use", account.Used(), account.Limit())
}

// openCopy is an open chunk as the file has it.
type openCopy struct {
	n              int
	mint           int64
	long           bool
	stream, starts []byte
}

// openLocked makes the open chunk, with the encoders as they were. Where the stream is longer than the chunk was, it is
// cut; one of histograms, or with start timestamps, is decoded and appended anew: the same samples make the same bytes.
func (l *bodyLoader) openLocked(s *shard, local uint32, hd *header, o openCopy) error {
	if len(o.starts) > 0 || o.long && hd.kind != sample.Float {
		return l.appendAnewLocked(s, local, hd, o)
	}
	ft := s.footers.at(local)
	if hd.kind != sample.Float {
		e, err := chunk.RestoreHistEncoder(o.stream, o.n)
		if err != nil || e.LastT() != hd.lastT {
			return l.corrupt("an open chunk that ends elsewhere than its series: %v", err)
		}
		charge := openHistBytes + int64(len(o.stream))
		if l.head.opts.Account.Reserve(charge) != nil {
			return l.noMemory()
		}
		s.hists[local] = &openHist{encoder: *e, stream: bytes.Clone(o.stream), charged: charge}
		hd.n, ft.mint = uint16(o.n), o.mint
		return nil
	}
	if len(o.stream) > maxStream {
		return l.corrupt("an open stream of %d bytes", len(o.stream))
	}
	state, size, err := chunk.RestoreFloatPrefix(o.stream, o.n)
	if err != nil || state.LastT() != hd.lastT || math.Float64bits(state.LastV()) != hd.last {
		return l.corrupt("an open chunk that ends elsewhere than its series: %v", err)
	}
	if o.long {
		o.stream = o.stream[:size]
	}
	end, body, ok := state.End(o.stream)
	if !ok {
		return l.corrupt("samples of an open chunk that are further apart than a slot is long")
	}
	hd.open, hd.size, hd.room = 0, 0, 0
	if !s.moveLocked(hd, o.stream[:body]) {
		return l.noMemory()
	}
	ft.mark = chunk.Mark{}
	hd.end, hd.n, ft.mint = end, uint16(o.n), o.mint
	return nil
}

func (l *bodyLoader) appendAnewLocked(s *shard, local uint32, hd *header, o openCopy) error {
	b := &l.scratch
	b.Reset()
	x := piece{n: o.n, kind: hd.kind}
	if err := x.decode(o.stream, o.starts, span{math.MinInt64, math.MaxInt64, true}, b); err != nil {
		return l.corrupt("an open chunk: %v", err)
	}
	if len(b.T) != o.n || b.T[0] != o.mint || b.T[o.n-1] != hd.lastT || hd.kind == sample.Float && math.Float64bits(b.V[o.n-1]) != hd.last {
		return l.corrupt("an open chunk of %d samples where %d were told", len(b.T), o.n)
	}
	slot := s.slotLocked(o.mint)
	newest, last := hd.lastT, hd.last
	defer func() { hd.lastT, hd.last = newest, last }()
	for i, t := range b.T {
		r := row{t: t, st: b.STAt(i), v: math.Float64bits(b.V[i]), kind: hd.kind}
		if hd.kind != sample.Float {
			r.h, r.fh = b.H.Int[i], b.H.Float[i]
			if (hd.kind == sample.Histogram) != (r.h != nil) {
				return l.corrupt("an open chunk with a histogram of the other kind")
			}
		}
		if !s.storeLocked(local, hd, &r, slot) {
			return l.noMemory()
		}
		hd.lastT, hd.last = r.t, r.v // what the next is coded by
	}
	return nil
}

func (l *bodyLoader) lateLocked(s *shard, local uint32, hd *header) error {
	for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
		x := lateRow{kind: l.kind(), t: l.c.Varint(), st: l.c.Varint(), lsn: sample.LSN(l.c.Uvarint())}
		if x.kind == sample.Float {
			x.v = l.c.LE64()
		} else if err := l.lateHistogram(&x, l.c.Sized()); err != nil {
			return err
		}
		if l.c.Failed() || x.lsn > l.upTo || x.t > hd.lastT { // equal: its chunk was dropped
			return l.corrupt("a late sample at %d of LSN %d, with %d the newest", x.t, x.lsn, hd.lastT)
		}
		slot := s.slotLocked(x.t)
		if x.lsn <= slot.flushed {
			continue
		}
		if x.hist != nil && l.head.opts.Account.Reserve(histBytes(x.hist.h, x.hist.fh)) != nil || !s.addLateLocked(local, hd, slot.start, x) {
			return l.noMemory()
		}
		slot.restore(x.t, x.t, l.now)
		slot.late++
	}
	return nil
}

func (l *bodyLoader) lateHistogram(x *lateRow, stream []byte) error {
	b := &l.scratch
	b.Reset()
	if err := chunk.DecodeHistograms(stream, 1, math.MinInt64, math.MaxInt64, b); err != nil || len(b.T) != 1 || b.T[0] != x.t || b.KindAt(0) != x.kind {
		return l.corrupt("a late histogram: %v", err)
	}
	r := row{kind: x.kind, h: b.H.Int[0], fh: b.H.Float[0]}
	r.digest()
	x.v, x.hist = r.v, &lateHist{r.h, r.fh}
	return nil
}

func (l *bodyLoader) kind() sample.Kind {
	return sample.Kind(l.c.AtMost(uint64(sample.FloatHistogram), "kind of sample"))
}

// restore widens the times of a slot.
func (c *slotCount) restore(mint, maxt int64, now time.Time) {
	if c.inOrder+c.late == 0 {
		c.mint, c.maxt = mint, maxt
	}
	c.mint, c.maxt, c.last = min(c.mint, mint), max(c.maxt, maxt), now
}
