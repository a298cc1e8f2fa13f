// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// CorruptError says that a checkpoint does not follow its format.
type CorruptError struct {
	Off int64 // of the frame, in bytes
	Msg string
}

// Error names the place and the fault.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt checkpoint: frame at byte %d: %s", e.Off, e.Msg)
}

// maxFrame is the largest frame that is read. A frame of 512 series with all that a slot can hold is far below.
const maxFrame = 1 << 30

// LoadSnapshot restores what Snapshot wrote, but for the rows that Flushed says are in blocks, and makes the LSN
// after its epoch the next. The head must be new. A *CorruptError, or another error, leaves it half loaded: good
// for Close only.
func (h *Head) LoadSnapshot(r io.Reader) error {
	l := snapshotLoader{head: h, r: r, now: time.Now()}
	for !l.ended {
		if err := l.next(); err != nil {
			return fmt.Errorf("load checkpoint: %w", err)
		}
	}
	h.order.start(l.epoch)
	return nil
}

// snapshotLoader reads the frames. Its cursor c keeps its first error; the loops look at it before they go on.
type snapshotLoader struct {
	head *Head
	r    io.Reader
	off  int64 // of the frame
	read int64 // bytes read
	c    decbuf.Buf
	buf  bytes.Buffer
	now  time.Time

	started, ended bool
	epoch          sample.LSN
	ids, series    uint32 // ids there are to be, series loaded so far
	nextID         uint32
	symbols        []string
	scratch        column.Block
	builder        labels.ScratchBuilder
}

func (l *snapshotLoader) corrupt(format string, args ...any) error {
	return &CorruptError{Off: l.off, Msg: fmt.Sprintf(format, args...)}
}

// next reads one frame.
func (l *snapshotLoader) next() error {
	l.off = l.read
	var lead [8]byte
	if n, err := io.ReadFull(l.r, lead[:]); err != nil {
		return l.short(err, n)
	}
	size := binary.LittleEndian.Uint32(lead[:])
	if size == 0 || size > maxFrame {
		return l.corrupt("a length of %d", size)
	}
	l.buf.Reset()
	if n, err := io.CopyN(&l.buf, l.r, int64(size)); err != nil {
		return l.short(err, int(n))
	}
	l.read += 8 + int64(size)
	payload := l.buf.Bytes()
	if sum := frameSum(lead[:4], payload); sum != binary.LittleEndian.Uint32(lead[4:]) {
		return l.corrupt("checksum %08x, want %08x", sum, binary.LittleEndian.Uint32(lead[4:]))
	}
	l.c = decbuf.Buf{B: payload, Off: 1}
	if err := l.frame(payload[0]); err != nil {
		return err
	}
	l.c.Finish()
	if f := l.c.Fault(); f != nil {
		return l.corrupt("a frame of kind %d: %v", payload[0], f)
	}
	return nil
}

func (l *snapshotLoader) short(err error, n int) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return l.corrupt("the file ends %d bytes into a frame", n)
	}
	return err
}

func (l *snapshotLoader) frame(kind byte) error {
	if l.started == (kind == frameHead) {
		return l.corrupt("a frame of kind %d out of place", kind)
	}
	switch kind {
	case frameHead:
		return l.headFrame()
	case frameSymbols:
		for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
			l.symbols = append(l.symbols, l.c.Text())
		}
		return nil
	case frameSeries:
		return l.seriesFrame()
	case frameExemplars:
		return l.exemplarFrame()
	case frameFamilies:
		return l.familyFrame()
	case frameEnd:
		if ids, series := l.c.Uvarint(), l.c.Uvarint(); ids != uint64(l.nextID) || l.nextID != l.ids || series != uint64(l.series) {
			return l.corrupt("it ends with %d of %d ids and %d series, %d were found", ids, l.ids, series, l.series)
		}
		l.ended = true
		return nil
	}
	return l.corrupt("a frame of kind %d, which there is not", kind)
}

func (l *snapshotLoader) headFrame() error {
	h := l.head
	if v := l.c.Byte(); v > snapshotVersion {
		return &NewerVersionError{Version: v}
	}
	shards, slot := l.c.Uvarint(), l.c.Uvarint()
	l.epoch = sample.LSN(l.c.Uvarint())
	ids := l.c.Uvarint()
	if ids > 1<<31 || shards == 0 {
		return l.corrupt("%d ids in %d shards", ids, shards)
	}
	if !l.c.Failed() && (shards != uint64(len(h.shards)) || slot != uint64(h.opts.SlotMillis)) {
		return fmt.Errorf("the checkpoint has %d shards and slots of %d ms, the store %d and %d",
			shards, slot, len(h.shards), h.opts.SlotMillis)
	}
	h.maxT.Store(l.c.Varint())
	l.ids, l.started = uint32(ids), true
	return nil
}

// seriesFrame reads the next ids: the order of the file is that of the ids, so that none can be named before
// those below it, and a file holds at least two bytes for each.
func (l *snapshotLoader) seriesFrame() error {
	from, n := l.c.Uvarint(), l.c.Uvarint()
	if from != uint64(l.nextID) || n > uint64(l.ids-l.nextID) {
		return l.corrupt("ids from %d on, %d are next", from, l.nextID)
	}
	for range n {
		gen := l.c.Uvarint()
		state := l.c.Byte()
		if l.c.Failed() || gen > math.MaxUint32 || state > idSeries || state == idSeries && gen == 0 {
			return l.corrupt("id %d: generation %d, state %d", l.nextID, gen, state)
		}
		var err error
		if state == idVacant {
			err = l.head.dir.skip(l.nextID, uint32(gen))
		} else {
			err = l.loadSeries(sample.MakeRef(uint32(gen), l.nextID))
		}
		if err != nil {
			return err
		}
		l.nextID++
	}
	return nil
}

func (l *snapshotLoader) loadSeries(ref sample.Ref) error {
	l.builder.Reset()
	prev := ""
	for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
		name, value := l.c.Uvarint(), l.c.Uvarint()
		if name >= uint64(len(l.symbols)) || value >= uint64(len(l.symbols)) {
			return l.corrupt("id %d: a symbol that is not there", ref.ID())
		}
		if l.symbols[name] <= prev {
			return l.corrupt("id %d: label %q out of order", ref.ID(), l.symbols[name])
		}
		prev = l.symbols[name]
		l.builder.Add(prev, l.symbols[value])
	}
	ls := l.builder.Labels()
	if l.c.Failed() || ls.IsEmpty() {
		return l.corrupt("id %d: no labels", ref.ID())
	}
	if _, ok := l.head.Lookup(ls); ok {
		return l.corrupt("series %s is there twice", ls)
	}
	if _, err := l.head.reserve(ls, ref); err != nil {
		return fmt.Errorf("series %s: %w", ls, err)
	}
	if err := l.head.publish(ref, 0); err != nil {
		return err
	}
	l.series++
	s := l.head.shardOf(ref.ID())
	s.mu.Lock()
	defer s.mu.Unlock()
	local, hd := s.findLocked(ref)
	return l.bodyLocked(s, local, hd)
}

// bodyLocked reads what seriesLocked of the writer wrote.
func (l *snapshotLoader) bodyLocked(s *shard, local uint32, hd *header) error {
	changed := sample.LSN(l.c.Uvarint())
	if changed > l.epoch {
		return l.corrupt("a series changed at %d, after the epoch %d", changed, l.epoch)
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

func (l *snapshotLoader) chunksLocked(s *shard, local uint32, hd *header) error {
	prev := int64(math.MinInt64)
	first := true
	for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
		c := closedChunk{
			kind: l.kind(), n: uint16(l.c.AtMost(maxSamples, "number of samples")), changed: sample.LSN(l.c.Uvarint()),
			mint: l.c.Varint(), maxt: l.c.Varint(), number: hd.chunks,
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
		if !s.addClosedLocked(hd, c, openBytes{body: stream, starts: starts}) {
			return l.noMemory()
		}
		hd.chunks++
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

func (l *snapshotLoader) noMemory() error {
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

// openLocked makes the open chunk, with the encoders as they were. Where the stream is longer than the chunk was,
// the samples are decoded and appended anew: the same samples make the same bytes.
func (l *snapshotLoader) openLocked(s *shard, local uint32, hd *header, o openCopy) error {
	if o.long || len(o.starts) > 0 {
		return l.appendAnewLocked(s, local, hd, o)
	}
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
		hd.n, hd.mint = uint16(o.n), o.mint
		return nil
	}
	if len(o.stream) > maxStream {
		return l.corrupt("an open stream of %d bytes", len(o.stream))
	}
	state, err := chunk.RestoreFloatState(o.stream, o.n)
	if err != nil || state.LastT() != hd.lastT || math.Float64bits(state.LastV()) != hd.last {
		return l.corrupt("an open chunk that ends elsewhere than its series: %v", err)
	}
	end, body, ok := state.End(o.stream)
	if !ok {
		return l.corrupt("samples of an open chunk that are further apart than a slot is long")
	}
	hd.open, hd.size = 0, 0
	if !s.moveLocked(hd, o.stream[:body]) {
		return l.noMemory()
	}
	hd.mark = chunk.Mark{}
	hd.end, hd.n, hd.mint = end, uint16(o.n), o.mint
	return nil
}

func (l *snapshotLoader) appendAnewLocked(s *shard, local uint32, hd *header, o openCopy) error {
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

func (l *snapshotLoader) lateLocked(s *shard, local uint32, hd *header) error {
	for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
		x := lateRow{kind: l.kind(), t: l.c.Varint(), st: l.c.Varint(), lsn: sample.LSN(l.c.Uvarint())}
		if x.kind == sample.Float {
			x.v = l.c.LE64()
		} else if err := l.lateHistogram(&x, l.c.Sized()); err != nil {
			return err
		}
		if l.c.Failed() || x.lsn > l.epoch || x.t > hd.lastT { // equal: its chunk was dropped
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

func (l *snapshotLoader) lateHistogram(x *lateRow, stream []byte) error {
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

func (l *snapshotLoader) exemplarFrame() error {
	for l.c.Byte() == 1 && !l.c.Failed() {
		id := l.c.Uvarint()
		x := storedExemplar{lsn: sample.LSN(l.c.Uvarint())}
		x.Exemplar = exemplar.Exemplar{Ts: l.c.Varint(), Value: math.Float64frombits(l.c.LE64()), HasTs: l.c.Byte() == 1}
		l.builder.Reset()
		for n := l.c.Count(1); n > 0 && !l.c.Failed(); n-- {
			l.builder.Add(l.c.Text(), l.c.Text())
		}
		x.Labels = l.builder.Labels()
		if id >= uint64(l.nextID) {
			return l.corrupt("an exemplar of series %d, which there is not", id)
		}
		s := l.head.shardOf(uint32(id))
		x.local = l.head.local(uint32(id))
		s.mu.Lock()
		err := s.addExemplarLocked(x)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *snapshotLoader) kind() sample.Kind {
	return sample.Kind(l.c.AtMost(uint64(sample.FloatHistogram), "kind of sample"))
}

func (l *snapshotLoader) familyFrame() error {
	number := l.c.Uvarint()
	if number >= uint64(len(l.head.shards)) {
		return l.corrupt("descriptions of shard %d", number)
	}
	s := l.head.shards[number]
	s.mu.Lock()
	defer s.mu.Unlock()
	for l.c.Byte() == 1 && !l.c.Failed() {
		family := l.c.Text()
		d := description{Metadata: metadata.Metadata{Type: model.MetricType(l.c.Text()), Unit: l.c.Text(), Help: l.c.Text()}}
		d.lsn = sample.LSN(l.c.Uvarint())
		s.addDescriptionLocked(family, d)
	}
	return nil
}

// skip makes the next id one that has no series now.
func (d *directory) skip(id, gen uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.entries.len() <= id {
		if _, err := d.entries.take(); err != nil {
			return err
		}
	}
	d.entries.at(id).gen = gen
	d.freeLocked(id)
	return nil
}

// restore widens the times of a slot.
func (c *slotCount) restore(mint, maxt int64, now time.Time) {
	if c.inOrder+c.late == 0 {
		c.mint, c.maxt = mint, maxt
	}
	c.mint, c.maxt, c.last = min(c.mint, mint), max(c.maxt, maxt), now
}
