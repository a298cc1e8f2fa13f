// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"
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
	frameSeries    = 3
	frameExemplars = 4
	frameFamilies  = 5
	frameEnd       = 6
)

const (
	// snapshotVersion is the newest version of the format that is read. Version 2 says that parts hold rows that are
	// not in the file.
	snapshotVersion = 2
	// snapshotWhole is the version of a file that holds all rows.
	snapshotWhole = 1
)

// States of an id and flags of an open chunk in a checkpoint.
const (
	idVacant = 0
	idSeries = 1

	streamExact = 0 // the stream holds the samples and no more
	streamLong  = 1 // it holds later ones too: the chunk was appended to after the pin
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snapshotRun is how many ids go into one frame: about 50 KiB, and each shard's lock is held for some
// microseconds at a time.
const snapshotRun = 512

// Snapshot writes the state that p sees to w, so that LoadSnapshot and the log after p's epoch come to the state
// of now. Ingestion goes on meanwhile.
func (h *Head) Snapshot(p *Pin, w io.Writer) error {
	x := snapshotWriter{head: h, pin: p, w: w, known: map[uint32]uint32{}}
	ids := h.dir.ids()
	x.frame = append(x.frame[:0], frameHead, h.versionFor(p))
	x.uvarint(uint64(len(h.shards)), uint64(h.opts.SlotMillis), uint64(p.epoch), uint64(ids))
	x.varint(h.maxT.Load())
	x.flush()
	for from := uint32(0); from < ids && x.err == nil; from += snapshotRun {
		x.run(from, min(from+snapshotRun, ids))
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

// versionFor returns the oldest version that says what a checkpoint at p does.
func (h *Head) versionFor(p *Pin) byte {
	for _, s := range h.shards {
		s.mu.RLock()
		parts := slices.ContainsFunc(s.parts, p.seesPart)
		s.mu.RUnlock()
		if parts {
			return snapshotVersion
		}
	}
	return snapshotWhole
}

type snapshotWriter struct {
	head   *Head
	pin    *Pin
	w      io.Writer
	err    error
	series int

	frame  []byte            // being built
	other  []byte            // memory for the one after it
	known  map[uint32]uint32 // symbol -> its number in the file
	fresh  []string          // symbols that no frame has yet
	bodies []byte            // of the series of a run, by shard
	spans  [snapshotRun][2]int
	pairs  []uint32
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
	x.frame = x.frame[:0]
	for _, s := range x.head.shards {
		s.mu.RLock()
		for id := from; id < to; id++ {
			if x.head.shardOf(id) == s {
				start := len(x.frame)
				x.seriesLocked(s, x.head.local(id))
				x.spans[id-from] = [2]int{start, len(x.frame)}
			}
		}
		s.mu.RUnlock()
	}
	x.bodies = append(x.bodies[:0], x.frame...)
	x.frame = x.frame[:0]
	first := from // of the frame
	for id := from; id < to; id++ {
		body := x.spans[id-from]
		x.record(id, x.bodies[body[0]:body[1]])
		if len(x.frame) > snapshotFrame || id+1 == to {
			x.seriesFrame(first, id+1)
			first = id + 1
		}
	}
}

// snapshotFrame is the size from which on a frame gets no more series: those that have many late samples.
const snapshotFrame = 1 << 20

// record appends what the file says of one id. body is empty if it has no series.
func (x *snapshotWriter) record(id uint32, body []byte) {
	gen, since, pairs := x.head.dir.describe(id, x.pairs[:0])
	x.pairs = pairs
	if since > x.pin.epoch && gen > 0 {
		gen, body = gen-1, nil // the log behind the checkpoint makes it
	}
	x.uvarint(uint64(gen))
	if len(body) == 0 || len(pairs) == 0 { // without labels: it was reserved, and given up since
		x.frame = append(x.frame, idVacant)
		return
	}
	x.series++
	x.frame = append(x.frame, idSeries)
	x.uvarint(uint64(len(pairs) / 2))
	for _, sym := range pairs {
		x.uvarint(uint64(x.symbol(sym)))
	}
	x.frame = append(x.frame, body...)
}

// seriesFrame writes the records of the ids in [from, to), which are in frame, behind the symbols they need.
func (x *snapshotWriter) seriesFrame(from, to uint32) {
	records := x.frame
	x.frame = x.other[:0]
	if len(x.fresh) > 0 {
		x.frame = append(x.frame, frameSymbols)
		x.uvarint(uint64(len(x.fresh)))
		for _, s := range x.fresh {
			x.text(s)
		}
		x.flush()
		x.fresh = x.fresh[:0]
	}
	x.frame = append(x.frame[:0], frameSeries)
	x.uvarint(uint64(from), uint64(to-from))
	x.frame = append(x.frame, records...)
	x.flush()
	x.frame, x.other = records[:0], x.frame
}

// symbol returns the number that a symbol has in the file.
func (x *snapshotWriter) symbol(sym uint32) uint32 {
	n, ok := x.known[sym]
	if !ok {
		n = uint32(len(x.known))
		x.known[sym] = n
		x.fresh = append(x.fresh, x.head.dir.index.Symbol(sym))
	}
	return n
}

// seriesLocked appends the body of a series: nothing if the pin sees none at local.
func (x *snapshotWriter) seriesLocked(s *shard, local uint32) {
	if local >= s.headers.len() {
		return
	}
	hd := s.headers.at(local)
	if hd.gen == 0 && !s.seesEndedLocked(x.pin, local) {
		return
	}
	now := hd.state(local)
	if hd.changed > x.pin.epoch {
		now = version{}
		if v := s.versionLocked(local, hd, x.pin.epoch); v != nil {
			now = *v
		}
	}
	x.uvarint(uint64(now.from))
	if now.from > 0 {
		x.varint(now.lastT)
		x.u64(now.last)
		gone := byte(0)
		if now.flags&newestGone != 0 {
			gone = 1 // also where the delete came after the pin: the log behind it does the same
		}
		x.frame = append(x.frame, byte(now.kind), gone)
		x.chunksLocked(s, local, hd, &now)
	}
	x.lateLocked(s, local)
	var tombs []tomb
	for _, t := range s.tombs[local] {
		if t.lsn <= x.pin.epoch {
			tombs = append(tombs, t)
		}
	}
	x.uvarint(uint64(len(tombs)))
	for _, t := range tombs {
		x.varint(t.mint)
		x.varint(t.maxt)
		x.uvarint(uint64(t.lsn))
	}
}

// chunksLocked appends the closed chunks, oldest first, and the open one of the state now.
func (x *snapshotWriter) chunksLocked(s *shard, local uint32, hd *header, now *version) {
	var whole []*closedChunk
	var cut *closedChunk // open at the pin's epoch, closed since
	for number := hd.closed; number != 0; {
		c := s.chunkAt(number)
		if x.pin.seesClosed(c, now.chunks, now.n) > 0 {
			if c.number < now.chunks {
				whole = append(whole, c)
			} else {
				cut = c
			}
		}
		number = c.older
	}
	x.uvarint(uint64(len(whole)))
	for i := range whole {
		c := whole[len(whole)-1-i]
		x.frame = append(x.frame, byte(c.kind))
		x.uvarint(uint64(c.n), uint64(c.changed))
		x.varint(c.mint)
		x.varint(c.maxt)
		x.bytes(c.stream())
		x.bytes(c.starts())
	}
	switch {
	case cut != nil:
		x.open(cut.n, cut.mint, now.n, openBytes{body: cut.stream(), starts: cut.starts()})
	case hd.n > 0 && hd.chunks == now.chunks && now.n > 0:
		x.open(hd.n, hd.mint, now.n, s.openLocked(local, hd))
	default:
		x.uvarint(0)
	}
}

// open appends an open chunk of n samples, whose stream holds size.
func (x *snapshotWriter) open(size uint16, mint int64, n uint16, o openBytes) {
	x.uvarint(uint64(n))
	x.varint(mint)
	if n == size {
		x.frame = append(x.frame, streamExact)
	} else {
		x.frame = append(x.frame, streamLong)
	}
	x.uvarint(uint64(o.size()))
	x.frame = o.appendFrom(x.frame, 0)
	x.bytes(o.starts)
}

func (x *snapshotWriter) lateLocked(s *shard, local uint32) {
	var rows []*lateRow
	if l := s.late[local]; l != nil {
		for _, page := range l.pages {
			for i := range page.rows {
				if r := &page.rows[i]; x.pin.seesLate(*r) {
					rows = append(rows, r)
				}
			}
		}
	}
	x.uvarint(uint64(len(rows)))
	for _, r := range rows {
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
		if y.lsn > x.pin.epoch || y.local == noSeries {
			continue
		}
		if s.headers.at(y.local).gen == 0 && !s.seesEndedLocked(x.pin, y.local) {
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
			if d.lsn > x.pin.epoch {
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
