// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"errors"
	"fmt"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Reader reads series of a pin, some hundred at a time: Load copies the bytes that the pin sees of them, under the
// shards' locks, each of which is taken once; Next decodes one series after the other. It belongs to one goroutine;
// readers of one pin do not get into each other's way.
type Reader struct {
	pin  *Pin
	want span
	once bool // what it reads of parts is not wanted again
	ids  []uint32
	next int // place in ids

	buf     []byte
	pieces  []piece
	late    []lateRow
	tombs   []tomb
	series  []copied
	inParts []shardParts // by shard
	byShard parts
	refs    []sample.Ref // scratch
	touched uint64       // keeps the compiler from dropping the reads of touchLocked
}

// copied says which part of the reader's lists belongs to a series.
type copied struct {
	pieces, late, tombs [2]int
	parts               bool // a part that the pin sees may have rows of it
}

// shardParts is the parts of a shard that a pin sees in the wanted time, by slot, then LSN. Which they are does not
// change while the pin is open.
type shardParts struct {
	known bool
	parts []partReading
}

// partReading is a part and, from the first series that is read there on, its reader.
type partReading struct {
	*attached
	reader PartReader
}

// piece is the copy of a chunk, or of the part of it that the pin sees.
type piece struct {
	from, starts, to int // stream is buf[from:starts], start timestamps buf[starts:to]
	n                int
	kind             sample.Kind
	mint             int64
	mark             chunk.Mark // of which stream is the rest; none: stream is all
}

// Reader returns a reader of the samples in [mint, maxt], with their start timestamps if withST. It must be closed
// before the pin.
func (p *Pin) Reader(mint, maxt int64, withST bool) *Reader {
	r, _ := p.head.copies.Get().(*Reader)
	r.pin, r.want, r.once = p, span{mint, maxt, withST}, false
	return r
}

// ReaderOnce is Reader for who reads all there is and will not again.
func (p *Pin) ReaderOnce(mint, maxt int64, withST bool) *Reader {
	r := p.Reader(mint, maxt, withST)
	r.once = true
	return r
}

// Wants reports whether the reader is one of these samples.
func (r *Reader) Wants(mint, maxt int64, withST bool) bool { return r.want == span{mint, maxt, withST} }

// ChargeTo charges dst, another one than that of the Next before, for what the reader holds of parts. On an error, a
// *budget.ExceededError, it must not be used any more.
func (r *Reader) ChargeTo(dst *column.Block) error {
	for i := range r.inParts {
		for _, p := range r.inParts[i].parts {
			if p.reader == nil {
				continue
			}
			if err := p.reader.ChargeTo(dst); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close gives the reader back; it must not be used any more.
func (r *Reader) Close() {
	h := r.pin.head
	r.forget()
	for i := range r.inParts {
		p := &r.inParts[i]
		for k := range p.parts {
			if x := p.parts[k].reader; x != nil {
				x.Close()
			}
		}
		clear(p.parts)
		p.known, p.parts = false, p.parts[:0]
	}
	r.pin = nil
	h.copies.Put(r)
}

// Load makes ids, which must stay as they are, the series that Next reads.
func (r *Reader) Load(ids []uint32) {
	r.forget()
	r.ids, r.next = ids, 0
	r.series = resize(r.series, len(ids))
	r.refs = r.refs[:0]
	for _, id := range ids {
		r.refs = append(r.refs, sample.MakeRef(0, id))
	}
	shards := r.pin.head.shards
	r.byShard.split(r.refs, len(shards))
	for number, s := range shards {
		if list := r.byShard.of(uint32(number)); len(list) > 0 {
			r.load(s, list)
		}
	}
}

// load copies the series of one shard. Nearly all of the time is waiting for the memory of their headers and streams,
// so they are asked for in runs before they are needed, as for appending.
func (r *Reader) load(s *shard, list []uint32) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r.findPartsLocked(s)
	for len(list) > 0 {
		run := list[:min(touchRun, len(list))]
		list = list[len(run):]
		r.touchLocked(s, run)
		for _, i := range run {
			r.series[i] = r.copyLocked(r.pin, s, s.head.local(r.ids[i]))
		}
	}
}

// touchLocked reads a word of each header, stream and closed chunk that copying will need.
func (r *Reader) touchLocked(s *shard, run []uint32) {
	var open [touchRun]*header
	var rest [touchRun]*footer
	for k, i := range run {
		local := s.head.local(r.ids[i])
		if local >= s.headers.len() {
			continue
		}
		open[k], rest[k] = s.headers.at(local), s.footers.at(local)
		r.touched += uint64(open[k].gen) + uint64(rest[k].chunks)
	}
	for k := range run {
		hd, ft := open[k], rest[k]
		if hd == nil {
			continue
		}
		if hd.open != 0 && hd.size > 0 && hd.lastT >= r.want.mint {
			b := s.bytes.Bytes(hd.open)[:hd.size]
			r.touched += uint64(b[0]) + uint64(b[len(b)-1])
		}
		if ft.closed != 0 && ft.mint > r.want.mint {
			r.touched += uint64(s.chunkAt(ft.closed).maxt)
		}
	}
	if all := r.inParts[s.number].parts; len(all) > 0 { // in one shard series have one place in all parts, mostly
		for _, i := range run {
			r.touched += uint64(all[0].part.Ahead(s.head.local(r.ids[i])))
		}
	}
}

// findPartsLocked finds the parts of a shard that are wanted.
func (r *Reader) findPartsLocked(s *shard) {
	if r.inParts == nil {
		r.inParts = make([]shardParts, len(r.pin.head.shards))
	}
	p := &r.inParts[s.number]
	if p.known {
		return
	}
	p.known = true
	for _, x := range s.parts {
		if x.MinT <= r.want.maxt && x.MaxT >= r.want.mint && r.pin.seesPart(x) {
			p.parts = append(p.parts, partReading{attached: x})
		}
	}
}

// Next appends the samples of the next series to dst, ascending in time. It does not end the series in dst. On a
// *DamageError dst has the samples that could be read, on any other it is as it was.
func (r *Reader) Next(dst *column.Block) error {
	rows, i := len(dst.T), r.next
	r.next++
	err := r.decode(i, dst)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*DamageError](err); ok {
		return err // it is the same for all series that it concerns
	}
	dst.Truncate(rows)
	return fmt.Errorf("read series %d of the head: %w", r.ids[i], err)
}

// maxCopies is how many bytes a reader keeps for its next use.
const maxCopies = 2 << 20

func (r *Reader) forget() {
	clear(r.late) // they point to histograms
	if cap(r.buf) > maxCopies {
		r.buf = nil
	}
	if cap(r.late) > maxCopies/lateRowBytes {
		r.late = nil
	}
	r.ids, r.buf, r.pieces, r.late, r.tombs = nil, r.buf[:0], r.pieces[:0], r.late[:0], r.tombs[:0]
}
