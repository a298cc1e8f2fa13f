// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// The kinds of frame of a checkpoint, the first byte of each payload; docs/format-checkpoint.md, "Frames".
const (
	frameHead      = 1
	frameSymbols   = 2
	frameSeries    = 3 // before version 3
	frameExemplars = 4
	frameFamilies  = 5
	frameEnd       = 6
	framePairs     = 7 // from version 3 on
	frameIDs       = 8
	frameShard     = 9
)

const (
	// snapshotVersion is the newest version of the format, that which is written.
	snapshotVersion = 3
	// snapshotSplit is the first version that has labels and samples in frames of their own.
	snapshotSplit = 3
)

// States of an id and flags of an open chunk in a checkpoint.
const (
	idVacant = 0
	idSeries = 1

	streamExact = 0 // the stream holds the samples and no more
	streamLong  = 1 // it holds later ones too; earlier programs wrote so of a chunk that got more meanwhile
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snapshotRun is how many ids of each shard are looked at together: each lock is held for some ten microseconds at a
// time, and a frame of samples has some 10 KiB.
const snapshotRun = 128

// Snapshot writes the head to w, so that LoadSnapshot and the log after epoch come to the state of now. All works up to
// epoch must be applied. Those that come meanwhile neither wait nor leave anything behind for it: the series of a shard
// are written as they are when their turn comes, with the LSN up to which that is so, and a replay leaves out what they
// have already. Series that came after epoch are left to the log.
func (h *Head) Snapshot(epoch sample.LSN, w io.Writer) error {
	x := snapshotWriter{head: h, epoch: epoch, w: w, upTo: make([]sample.LSN, len(h.shards))}
	ids := h.dir.ids()
	x.frame = append(x.frame[:0], frameHead, snapshotVersion)
	x.uvarint(uint64(len(h.shards)), uint64(h.opts.SlotMillis), uint64(epoch), uint64(ids))
	x.varint(h.maxT.Load())
	x.flush()
	run := h.snapshotRun * uint32(len(h.shards))
	for from := uint32(0); from < ids && x.err == nil; from += run {
		x.run(from, min(from+run, ids))
	}
	for _, s := range h.shards {
		x.exemplars(s)
		x.families(s)
	}
	x.frame = append(x.frame[:0], frameEnd)
	x.uvarint(uint64(ids), uint64(x.series))
	x.flush()
	if x.err != nil {
		return fmt.Errorf("write checkpoint: %w", x.err)
	}
	return nil
}

type snapshotWriter struct {
	head   *Head
	epoch  sample.LSN
	w      io.Writer
	err    error
	series int

	frame []byte // being built

	// What the file has so far, and what of it is in no frame yet.
	symbols    numbering // of symbols
	pairs      numbering // of the numbers that the index has for labels
	freshTexts []string
	freshPairs [][2]uint32 // by the numbers of their texts

	// Of the run that is being written, by place in it.
	bodies []byte       // of the series, by shard
	spans  [][2]int     // in bodies; empty where there is no series
	gens   []uint32     // 0: no series
	ids    []byte       // what the frame of ids says of them
	upTo   []sample.LSN // by shard: of the last work that the bodies show

	chunks []*closedChunk // of a series
	late   []*lateRow     // of a series
	labels []uint32       // of a series: symbols
	prev   []uint32       // of the series before
	number []uint32       // of its labels in the file
}

func (x *snapshotWriter) uvarint(vs ...uint64) {
	for _, v := range vs {
		x.frame = binary.AppendUvarint(x.frame, v)
	}
}

func (x *snapshotWriter) varint(v int64) { x.frame = binary.AppendVarint(x.frame, v) }
func (x *snapshotWriter) u64(v uint64)   { x.frame = binary.LittleEndian.AppendUint64(x.frame, v) }

func (x *snapshotWriter) bytes(b []byte) {
	x.uvarint(uint64(len(b)))
	x.frame = append(x.frame, b...)
}

func (x *snapshotWriter) text(s string) {
	x.uvarint(uint64(len(s)))
	x.frame = append(x.frame, s...)
}

// flush writes the frame.
func (x *snapshotWriter) flush() {
	if x.err != nil {
		return
	}
	var lead [8]byte
	binary.LittleEndian.PutUint32(lead[:], uint32(len(x.frame)))
	binary.LittleEndian.PutUint32(lead[4:], frameSum(lead[:4], x.frame))
	if _, x.err = x.w.Write(lead[:]); x.err == nil {
		_, x.err = x.w.Write(x.frame)
	}
}

// frameSum is the checksum of a frame: over its length and its payload.
func frameSum(size, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(size, castagnoli), castagnoli, payload)
}

// run writes the ids in [from, to).
func (x *snapshotWriter) run(from, to uint32) {
	x.copyBodies(from, to)
	x.gens, x.ids = resize(x.gens, int(to-from)), x.ids[:0]
	for id := from; id < to; id++ {
		body := x.spans[id-from]
		x.gens[id-from] = x.record(id, body[0] < body[1])
	}
	x.labelFrames()
	x.frame = append(x.frame[:0], frameIDs)
	x.uvarint(uint64(from), uint64(to-from))
	x.frame = append(x.frame, x.ids...)
	x.flush()
	for _, s := range x.head.shards {
		x.shardFrames(s, from, to)
	}
}

// copyBodies notes what there is of the series in [from, to), one shard after the other.
func (x *snapshotWriter) copyBodies(from, to uint32) {
	x.frame = x.frame[:0]
	x.spans = resize(x.spans, int(to-from))
	for _, s := range x.head.shards {
		s.mu.RLock()
		x.upTo[s.number] = max(s.applied, x.epoch)
		for id := from + s.number; id < to; id += uint32(len(x.head.shards)) {
			start := len(x.frame)
			x.seriesLocked(s, x.head.local(id))
			x.spans[id-from] = [2]int{start, len(x.frame)}
		}
		s.mu.RUnlock()
	}
	x.frame, x.bodies = x.bodies, x.frame
}

// record notes what the file says of one id beside its samples, and returns the generation of its series, 0 for none.
func (x *snapshotWriter) record(id uint32, seen bool) uint32 {
	gen, since, labels := x.head.dir.describe(id, x.labels[:0])
	x.labels = labels
	if since > x.epoch && gen > 0 {
		gen, seen = gen-1, false // the log behind the checkpoint makes it
	}
	x.ids = binary.AppendUvarint(x.ids, uint64(gen))
	if !seen || len(labels) == 0 { // without labels: it was reserved, and given up since
		x.ids = append(x.ids, idVacant)
		return 0
	}
	x.series++
	x.ids = append(x.ids, idSeries)
	x.ids = binary.AppendUvarint(x.ids, uint64(len(labels)/2))
	x.number = slices.Grow(x.number, len(labels)/2)[:len(labels)/2]
	for i := range x.number {
		// Neighbours have most labels in common.
		if k := 2 * i; k+1 >= len(x.prev) || x.prev[k] != labels[k] || x.prev[k+1] != labels[k+1] {
			x.number[i] = x.pair(labels[k], labels[k+1])
		}
		x.ids = binary.AppendUvarint(x.ids, uint64(x.number[i]))
	}
	x.labels, x.prev = x.prev, labels
	return gen
}

// pair returns the number that a label has in the file.
func (x *snapshotWriter) pair(name, value uint32) uint32 {
	at, ok := x.head.dir.index.PairNumber(name, value)
	if !ok && x.err == nil {
		x.err = errors.New("a series is not in the index")
	}
	n, fresh := x.pairs.number(at)
	if fresh {
		x.freshPairs = append(x.freshPairs, [2]uint32{x.symbol(name), x.symbol(value)})
	}
	return n
}

// symbol returns the number that a text has in the file.
func (x *snapshotWriter) symbol(sym uint32) uint32 {
	n, fresh := x.symbols.number(sym)
	if fresh {
		x.freshTexts = append(x.freshTexts, x.head.dir.index.Symbol(sym))
	}
	return n
}

// numbering gives small numbers new ones, in the order in which they are asked for.
type numbering struct {
	of    []uint32 // number + 1, 0 for none
	given uint32
}

func (x *numbering) number(of uint32) (n uint32, fresh bool) {
	if n := int(of) + 1; n > len(x.of) {
		x.of = slices.Grow(x.of, n-len(x.of))[:n]
	}
	if fresh = x.of[of] == 0; fresh {
		x.given++
		x.of[of] = x.given
	}
	return x.of[of] - 1, fresh
}

// labelFrames writes the labels that no frame has yet.
func (x *snapshotWriter) labelFrames() {
	if len(x.freshTexts) > 0 {
		x.frame = append(x.frame[:0], frameSymbols)
		x.uvarint(uint64(len(x.freshTexts)))
		for _, s := range x.freshTexts {
			x.text(s)
		}
		x.flush()
		x.freshTexts = x.freshTexts[:0]
	}
	if len(x.freshPairs) > 0 {
		x.frame = append(x.frame[:0], framePairs)
		x.uvarint(uint64(len(x.freshPairs)))
		for _, p := range x.freshPairs {
			x.uvarint(uint64(p[0]), uint64(p[1]))
		}
		x.flush()
		x.freshPairs = x.freshPairs[:0]
	}
}

// snapshotFrame is the size from which on a frame gets no more series: those that have many late samples.
const snapshotFrame = 1 << 20

// shardFrames writes the samples of the series of a shard that have ids in [from, to).
func (x *snapshotWriter) shardFrames(s *shard, from, to uint32) {
	step := uint32(len(x.head.shards))
	for id := from + s.number; id < to; {
		first, size := id, 0
		for ; id < to && size < snapshotFrame; id += step {
			body := x.spans[id-from]
			size += body[1] - body[0]
		}
		x.frame = append(x.frame[:0], frameShard)
		x.uvarint(uint64(s.number), uint64(x.head.local(first)), uint64(x.upTo[s.number]), uint64((id-first)/step))
		for at := first; at < id; at += step {
			gen, body := x.gens[at-from], x.spans[at-from]
			x.uvarint(uint64(gen))
			if gen != 0 {
				x.frame = append(x.frame, x.bodies[body[0]:body[1]]...)
			}
		}
		x.flush()
	}
}

// seriesLocked appends the body of a series: nothing if there is none at local.
func (x *snapshotWriter) seriesLocked(s *shard, local uint32) {
	if local >= s.headers.len() || s.headers.at(local).gen == 0 {
		return
	}
	hd := s.headers.at(local)
	x.uvarint(uint64(hd.changed))
	if hd.hasSample() {
		x.varint(hd.lastT)
		x.u64(hd.last)
		gone := byte(0)
		if hd.flags&newestGone != 0 {
			gone = 1
		}
		x.frame = append(x.frame, byte(hd.kind), gone)
		x.chunksLocked(s, local, hd)
	}
	x.lateLocked(s, local)
	tombs := s.tombs[local]
	x.uvarint(uint64(len(tombs)))
	for _, t := range tombs {
		x.varint(t.mint)
		x.varint(t.maxt)
		x.uvarint(uint64(t.lsn))
	}
}

// chunksLocked appends the closed chunks, oldest first, and the open one.
func (x *snapshotWriter) chunksLocked(s *shard, local uint32, hd *header) {
	ft := s.footers.at(local)
	x.chunks = x.chunks[:0]
	for number := ft.closed; number != 0; {
		c := s.chunkAt(number)
		if c.dead == 0 { // else a file has its rows
			x.chunks = append(x.chunks, c)
		}
		number = c.older
	}
	x.uvarint(uint64(len(x.chunks)))
	for _, c := range slices.Backward(x.chunks) {
		x.frame = append(x.frame, byte(c.kind))
		x.uvarint(uint64(c.n), uint64(c.changed))
		x.varint(c.mint)
		x.varint(c.maxt)
		x.bytes(c.stream())
		x.bytes(c.starts())
	}
	x.uvarint(uint64(hd.n))
	if hd.n == 0 {
		return
	}
	x.varint(ft.mint)
	x.frame = append(x.frame, streamExact)
	o := s.openLocked(local, hd)
	x.uvarint(uint64(o.size()))
	x.frame = o.appendFrom(x.frame, 0)
	x.bytes(o.starts)
}

func (x *snapshotWriter) lateLocked(s *shard, local uint32) {
	x.late = x.late[:0]
	if l := s.late[local]; l != nil {
		for _, page := range l.pages {
			for i := range page.rows {
				if r := &page.rows[i]; r.dead == 0 {
					x.late = append(x.late, r)
				}
			}
		}
	}
	x.uvarint(uint64(len(x.late)))
	for _, r := range x.late {
		x.frame = append(x.frame, byte(r.kind))
		x.varint(r.t)
		x.varint(r.st)
		x.uvarint(uint64(r.lsn))
		if r.kind == sample.Float {
			x.u64(r.v)
			continue
		}
		var e chunk.HistEncoder
		x.bytes(e.Append(nil, r.t, r.hist.h, r.hist.fh))
	}
}

func (x *snapshotWriter) exemplars(s *shard) {
	x.frame = append(x.frame[:0], frameExemplars)
	s.mu.RLock()
	e := &s.examples
	for i := range uint32(len(e.ring)) {
		place := e.next - uint32(len(e.ring)) + i
		y := &e.ring[place%uint32(len(e.ring))]
		if y.lsn > x.epoch || y.local == noSeries {
			continue
		}
		if y.local >= s.headers.len() || s.headers.at(y.local).gen == 0 {
			continue // its series has left; the id may be another's when the file is read
		}
		x.frame = append(x.frame, 1)
		x.uvarint(uint64(s.id(y.local)), uint64(y.lsn))
		x.varint(y.Ts)
		x.u64(math.Float64bits(y.Value))
		hasT := byte(0)
		if y.HasTs {
			hasT = 1
		}
		x.frame = append(x.frame, hasT)
		x.uvarint(uint64(y.Labels.Len()))
		y.Labels.Range(func(l labels.Label) {
			x.text(l.Name)
			x.text(l.Value)
		})
	}
	s.mu.RUnlock()
	x.frame = append(x.frame, 0)
	x.flush()
}

func (x *snapshotWriter) families(s *shard) {
	x.frame = append(x.frame[:0], frameFamilies)
	x.uvarint(uint64(s.number))
	s.mu.RLock()
	for _, family := range slices.Sorted(maps.Keys(s.families)) {
		for _, d := range s.families[family] {
			if d.lsn > x.epoch {
				continue
			}
			x.frame = append(x.frame, 1)
			x.text(family)
			x.text(string(d.Type))
			x.text(d.Unit)
			x.text(d.Help)
			x.uvarint(uint64(d.lsn))
		}
	}
	s.mu.RUnlock()
	x.frame = append(x.frame, 0)
	x.flush()
}

// ids returns how many ids were ever given out.
func (d *directory) ids() uint32 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.entries.len()
}

// describe returns the generation of an id and the LSN its series came with, and appends the symbols of the series,
// if there is one, to dst.
func (d *directory) describe(id uint32, dst []uint32) (gen uint32, since sample.LSN, pairs []uint32) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.entries.at(id)
	return e.gen, e.since, d.pairsLocked(e, dst)
}

// Ref returns the Ref of a series that the pin sees.
func (p *Pin) Ref(id uint32) sample.Ref { return sample.MakeRef(p.head.dir.generation(id), id) }
