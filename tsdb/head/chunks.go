// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"slices"
	"unsafe"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	// maxSamples closes a chunk: an hour at 15 s. More would save little of the 56 bytes of a closedChunk and
	// make reading one sample dearer.
	maxSamples = 240
	// maxHistograms is the same for native histograms, of which each takes as much as some floats to keep and to read.
	maxHistograms = 100
	// maxStream closes a chunk whose stream comes to this size, so that size fits its fields and growing one
	// never moves much. 240 samples of noise need 2.2 KiB.
	maxStream = 4 << 10
)

// closedChunk is a chunk that takes no more samples. Its stream and its start timestamps follow it in its block of the
// arena: so what a spill takes away leaves nothing behind, and a series without closed chunks pays for none.
type closedChunk struct {
	mint, maxt int64
	changed    sample.LSN // of the work that appended its last sample
	older      arena.Ref  // the closed chunk before it in the series, 0 for none
	jump       arena.Ref  // one further back, see jumpFromLocked
	number     uint32     // of the chunk in its series, counted from 0
	dead       uint32     // number of the drop that took it, 0 for none
	size       uint32     // bytes of the stream
	startsSize uint32     // bytes of the start timestamps, 0 for none
	n          uint16
	kind       sample.Kind
}

const closedBytes = int(unsafe.Sizeof(closedChunk{}))

// chunkAt returns a closed chunk, which is good until it is freed.
func (s *shard) chunkAt(ref arena.Ref) *closedChunk {
	return (*closedChunk)(unsafe.Pointer(unsafe.SliceData(s.bytes.Bytes(ref))))
}

// stream returns the samples of a closed chunk in its block.
func (c *closedChunk) stream() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(c), closedBytes)), c.size)
}

// starts returns its start timestamps.
func (c *closedChunk) starts() []byte {
	if c.startsSize == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(c), closedBytes+int(c.size))), c.startsSize)
}

// appendLocked appends a row that is newer than all of its series.
func (s *shard) appendLocked(local uint32, hd *header, r *row, w *Work) sample.Reason {
	slot := s.slotLocked(r.t)
	var before version // where a pin may want it
	if hd.changed != 0 && hd.changed <= w.guard {
		before = s.stateLocked(local, hd)
	}
	joins := hd.n == 0 && s.emptyLocked(local, hd)
	switch {
	case w.lsn <= slot.flushed || slot.covers(local, r.t):
		// A block or a part holds the row already: only what later rows are judged by moves.
		if !s.closeLocked(local, hd) {
			return sample.OverLimit
		}
		hd.kind = r.kind // no chunk is open
	case !s.storeLocked(local, hd, r, slot):
		return sample.OverLimit
	default:
		slot.note(r.t, w)
		slot.inOrder++
		if joins {
			s.head.members.note(s.id(local), w.lsn)
		}
	}
	if before.from != 0 {
		s.saveLocked(before, w.lsn)
	}
	hd.lastT, hd.last, hd.changed = r.t, r.v, w.lsn
	hd.flags &^= wasIdle | newestGone | newestKept
	return sample.Accepted
}

// saveLocked keeps the state that a series had before the work of an LSN, for pins.
func (s *shard) saveLocked(before version, lsn sample.LSN) {
	if s.versions.full() {
		s.versions.compact(s.head.pins.epochs(), func(id uint32) *uint64 { return &s.footers.at(id).version })
	}
	ft := s.footers.at(before.id)
	before.older, before.to = ft.version, lsn
	ft.version = s.versions.push(before)
}

// stateLocked returns the in-order state of a series as a version that is good from now on.
func (s *shard) stateLocked(local uint32, hd *header) version {
	return version{
		id: local, from: hd.changed, chunks: s.footers.at(local).chunks, n: hd.n, kind: hd.kind, flags: hd.flags, lastT: hd.lastT, last: hd.last,
	}
}

// storeLocked puts a row into the open chunk, or a new one where it does not fit. It reports false, and has
// changed nothing that a reader can see, where memory has run out.
func (s *shard) storeLocked(local uint32, hd *header, r *row, slot *slotCount) bool {
	full := hd.n >= maxSamplesOf(hd.kind) || s.openSizeLocked(local, hd)+chunk.MaxFloatBytes > maxStream
	far := uint64(r.t-hd.lastT) > math.MaxUint32 // further than the end of a stream can tell
	if hd.n > 0 && (full || far || hd.kind != r.kind || hd.lastT < slot.start) && !s.closeLocked(local, hd) {
		return false
	}
	stored := false
	if r.kind == sample.Float {
		stored = s.appendFloatLocked(local, hd, r)
	} else {
		stored = s.appendHistLocked(local, hd, r)
	}
	if !stored {
		return false
	}
	if hd.n == 0 {
		hd.kind, s.footers.at(local).mint = r.kind, r.t
	}
	if r.st != 0 || hd.flags&hasST != 0 {
		s.appendStartLocked(local, hd, r)
	}
	hd.n++
	return true
}

func maxSamplesOf(k sample.Kind) uint16 {
	if k == sample.Float {
		return maxSamples
	}
	return maxHistograms
}

// appendFloatLocked appends to the stream of the open chunk.
func (s *shard) appendFloatLocked(local uint32, hd *header, r *row) bool {
	if hd.n == 0 {
		hd.end, hd.open, hd.size, hd.room = chunk.FloatEnd{}, 0, 0, 0
	}
	if hd.n%markEvery == firstMark {
		s.markLocked(local, hd)
	}
	var aside [chunk.MaxMove + 8]byte
	end := hd.end
	if !s.moveLocked(hd, end.Put(aside[:0], int(hd.n), hd.lastT, r.t, hd.last, r.v)) {
		return false
	}
	hd.end = end
	return true
}

// markLocked sets the mark of the open chunk of floats, behind all of its samples.
func (s *shard) markLocked(local uint32, hd *header) {
	ft := s.footers.at(local)
	ft.mark = hd.end.Mark(hd.lastT, hd.last, ft.mint, int(hd.n), int(hd.size))
}

// firstBody is the least room of the body of a stream: what ten samples of a counter need beyond the end.
const firstBody = 32

// moveLocked appends bytes to the body of the open chunk of floats. It reports false where memory has run out.
func (s *shard) moveLocked(hd *header, out []byte) bool {
	if len(out) > int(hd.room) && !s.growLocked(hd, len(out)) {
		return false
	}
	if len(out) > 0 {
		moved := uint16(copy(s.roomLocked(hd), out))
		hd.size, hd.room = hd.size+moved, hd.room-moved
	}
	return true
}

// roomLocked returns the room behind the body of the open chunk of floats, which has a block.
func (s *shard) roomLocked(hd *header) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(s.bytes.At(hd.open), hd.size)), hd.room)
}

// growLocked gives the body of the open chunk of floats a larger block, with room for so many bytes more. It reports false
// where memory has run out.
func (s *shard) growLocked(hd *header, room int) bool {
	ref, err := s.bytes.Alloc(max(int(hd.size)+room, firstBody))
	if err != nil {
		return false
	}
	body := s.bytes.Bytes(ref)
	if hd.open != 0 {
		copy(body, s.bytes.Bytes(hd.open)[:hd.size])
		s.bytes.Free(hd.open)
	}
	hd.open, hd.room = ref, uint16(len(body))-hd.size
	return true
}

func (s *shard) openSizeLocked(local uint32, hd *header) int {
	if hd.n > 0 && hd.kind != sample.Float {
		return s.hists[local].size()
	}
	return int(hd.size) + hd.end.Len()
}

// openBytes is an open chunk: its stream, in two pieces, and its start timestamps. They are good until the lock is released.
type openBytes struct{ body, end, starts []byte }

func (s *shard) openLocked(local uint32, hd *header) (o openBytes) {
	switch {
	case hd.kind != sample.Float:
		o.body = s.hists[local].stream
	case hd.size > 0:
		o.body, o.end = s.bytes.Bytes(hd.open)[:hd.size], hd.end.Bytes()
	default:
		o.end = hd.end.Bytes()
	}
	if hd.flags&hasST != 0 {
		o.starts = s.starts[local].buf
	}
	return o
}

// size returns how long the stream is.
func (o *openBytes) size() int { return len(o.body) + len(o.end) }

// appendFrom appends the stream to dst, but for its first bytes.
func (o *openBytes) appendFrom(dst []byte, from int) []byte {
	if from >= len(o.body) {
		return append(dst, o.end[from-len(o.body):]...)
	}
	return append(append(dst, o.body[from:]...), o.end...)
}

// closeLocked ends the open chunk, if there is one. It reports false where memory has run out.
func (s *shard) closeLocked(local uint32, hd *header) bool {
	if hd.n == 0 {
		return true
	}
	ft := s.footers.at(local)
	c := closedChunk{mint: ft.mint, maxt: hd.lastT, changed: hd.changed, number: ft.chunks, n: hd.n, kind: hd.kind}
	if !s.addClosedLocked(ft, c, s.openLocked(local, hd)) {
		return false
	}
	s.forgetOpenLocked(local, hd)
	ft.chunks++
	return true
}

// addClosedLocked stores a closed chunk and puts it in front of those of the series.
func (s *shard) addClosedLocked(ft *footer, c closedChunk, o openBytes) bool {
	ref, err := s.bytes.Alloc(closedBytes + o.size() + len(o.starts))
	if err != nil {
		return false
	}
	c.size, c.startsSize = uint32(o.size()), uint32(len(o.starts))
	c.older, c.jump = ft.closed, s.jumpFromLocked(ft.closed)
	at := s.chunkAt(ref)
	*at = c
	copy(at.stream()[copy(at.stream(), o.body):], o.end)
	copy(at.starts(), o.starts)
	ft.closed = ref
	s.counts.Chunks++
	return true
}

// jumpFromLocked returns the jump of a chunk in front of the one that link names: twice as far as the jump of that one where
// it and the next are equally far, else to that one. So any chunk is a logarithm of jumps and single steps away.
func (s *shard) jumpFromLocked(link arena.Ref) arena.Ref {
	if link == 0 {
		return 0
	}
	c := s.chunkAt(link)
	if c.jump == 0 {
		return link
	}
	d := s.chunkAt(c.jump)
	if d.jump != 0 && c.number-d.number == d.number-s.chunkAt(d.jump).number {
		return d.jump
	}
	return link
}

// rejumpLocked sets the jumps of a series anew, after some of its chunks have gone.
func (s *shard) rejumpLocked(ft *footer) {
	var chain []arena.Ref
	for link := ft.closed; link != 0; link = s.chunkAt(link).older {
		chain = append(chain, link)
	}
	for _, link := range slices.Backward(chain) {
		c := s.chunkAt(link)
		c.jump = s.jumpFromLocked(c.older)
	}
}

// closedAtLocked returns the closed chunk whose times t is within, nil if there is none.
func (s *shard) closedAtLocked(ft *footer, t int64) *closedChunk {
	for link := ft.closed; link != 0; {
		c := s.chunkAt(link)
		switch {
		case c.maxt < t:
			return nil
		case c.mint <= t:
			return c
		case c.jump != 0 && s.chunkAt(c.jump).maxt >= t:
			link = c.jump
		default:
			link = c.older
		}
	}
	return nil
}

// forgetOpenLocked gives back what the open chunk took.
func (s *shard) forgetOpenLocked(local uint32, hd *header) {
	switch {
	case hd.kind != sample.Float:
		s.dropHistLocked(local)
	case hd.open != 0:
		s.bytes.Free(hd.open)
	}
	if hd.flags&hasST != 0 {
		s.head.opts.Account.Release(s.starts[local].charged)
		delete(s.starts, local)
	}
	hd.flags &^= hasST
	hd.open, hd.size, hd.room, hd.n = 0, 0, 0, 0
	hd.end, s.footers.at(local).mark = chunk.FloatEnd{}, chunk.Mark{}
}

// freeClosedLocked gives back a closed chunk that is not in a chain any more.
func (s *shard) freeClosedLocked(ref arena.Ref) {
	c := s.chunkAt(ref)
	if c.dead != 0 {
		s.deadBytes -= int64(c.size + c.startsSize)
	}
	s.bytes.Free(ref)
	s.counts.Chunks--
}

// openHist is the open chunk of a series of native histograms. It lives on the Go heap: its encoder keeps the
// sample before, which is as large as the histogram.
type openHist struct {
	encoder chunk.HistEncoder
	stream  []byte
	charged int64 // bytes
}

// openHistBytes is what an openHist takes beside its stream and its buckets.
const openHistBytes = 320

func (o *openHist) size() int {
	if o == nil {
		return 0
	}
	return len(o.stream)
}

// histBytes is about what a histogram takes.
func histBytes(h *histogram.Histogram, fh *histogram.FloatHistogram) int64 {
	if h != nil {
		return 144 + 8*int64(len(h.PositiveBuckets)+len(h.NegativeBuckets)+len(h.PositiveSpans)+len(h.NegativeSpans)+len(h.CustomValues))
	}
	return 144 + 8*int64(len(fh.PositiveBuckets)+len(fh.NegativeBuckets)+len(fh.PositiveSpans)+len(fh.NegativeSpans)+len(fh.CustomValues))
}

// appendHistLocked appends to the open chunk of histograms, which it makes if there is none.
func (s *shard) appendHistLocked(local uint32, hd *header, r *row) bool {
	o := s.hists[local]
	if o == nil {
		o = &openHist{}
	}
	before := cap(o.stream)
	if more := openHistBytes + 2*histBytes(r.h, r.fh) + int64(before) - o.charged; more > 0 { // the buckets became more
		if s.head.opts.Account.Reserve(more) != nil {
			return false
		}
		o.charged += more
	}
	s.hists[local] = o
	o.stream = o.encoder.Append(o.stream, r.t, r.h, r.fh)
	// The sample is in already: where the little that the stream has grown by passes the limit, it is not charged.
	if more := int64(cap(o.stream) - before); more > 0 && s.head.opts.Account.Reserve(more) == nil {
		o.charged += more
	}
	return true
}

func (s *shard) dropHistLocked(local uint32) {
	if o := s.hists[local]; o != nil {
		s.head.opts.Account.Release(o.charged)
		delete(s.hists, local)
	}
}

// openST is the start timestamps of an open chunk. Few series have them, and those that have them change them
// rarely.
type openST struct {
	state   chunk.STState
	buf     []byte
	charged int64 // bytes
}

// openSTBytes is what an openST takes beside its stream, its place in the map included.
const openSTBytes = 96

func (s *shard) appendStartLocked(local uint32, hd *header, r *row) {
	o := s.starts[local]
	if o == nil {
		o = &openST{}
		s.starts[local] = o
		hd.flags |= hasST
	}
	o.buf = chunk.AppendST(o.buf, &o.state, int(hd.n), r.st)
	// The sample is in already: what passes the limit is not charged.
	if more := openSTBytes + int64(cap(o.buf)) - o.charged; more > 0 && s.head.opts.Account.Reserve(more) == nil {
		o.charged += more
	}
}
