// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// The kinds of page. The numbers are on disk for ever.
const (
	kindNone       = 0 // the series has no rows in the cell
	kindFloats     = 1 // a column of values
	kindHistograms = 2 // columns of native histograms, as package chunk writes them
	kindRows       = 3 // rows of any kinds with their times, as package chunk writes them
	kindMask       = 7 // mask
	flagStarts     = 8 // flag: a column of start timestamps follows; not of kindRows, which has its own
)

// page is where the rows of one series in a stripe are.
type page struct {
	off, size uint32
	time      uint32 // number of its column of times in the cell
	ref       uint32 // how many series before is the one whose values it is expressed by; 0: none
	kind      uint8
	chain     uint8 // how many references lead on from it
	referred  bool  // a later page refers to it
}

// stripeWriter collects the pages of a group in one cell.
type stripeWriter struct {
	key        cellKey
	cell       uint32
	kinds      []int64 // of each series of the group up to the last that has a page
	sizes      []int64 // of each page
	times      []int64 // of each page with a column of times
	refs       []int64 // the same
	data       []byte
	recent     candidates
	alone      bool // no page refers to another
	minT, maxT int64
	grown      int64    // memory of the columns in recent
	copied     []copied // of the series of the group up to the last that has one
	chain      uint8    // how many references lead on from the last page of floats
}

func (w *stripeWriter) reset(key cellKey, cell uint32) {
	w.key, w.cell = key, cell
	w.kinds, w.sizes, w.times, w.refs, w.data = w.kinds[:0], w.sizes[:0], w.times[:0], w.refs[:0], w.data[:0]
	w.copied = w.copied[:0]
	w.minT, w.maxT = math.MaxInt64, math.MinInt64
	w.recent.reset()
}

func (w *stripeWriter) bytes() int64 {
	return int64(cap(w.data)) + 8*int64(cap(w.kinds)+cap(w.sizes)+cap(w.times)+cap(w.refs)) + copiedBytes*int64(cap(w.copied)) + w.grown
}

// begin makes series, by its place in the group, the one whose page comes next.
func (w *stripeWriter) begin(series int, minT, maxT int64) {
	for len(w.kinds) < series {
		w.kinds = append(w.kinds, kindNone)
	}
	w.minT, w.maxT = min(w.minT, minT), max(w.maxT, maxT)
}

// end notes the page that was appended to data from byte start on.
func (w *stripeWriter) end(kind int64, start int) {
	w.kinds = append(w.kinds, kind)
	w.sizes = append(w.sizes, int64(len(w.data)-start))
}

// appendTo adds the stripe of a group of that many series to dst: its directory, then the pages.
func (w *stripeWriter) appendTo(dst []byte, e *encoding.Encoder, series int) []byte {
	for len(w.kinds) < series {
		w.kinds = append(w.kinds, kindNone)
	}
	for _, x := range [][]int64{w.kinds, w.sizes, w.times, w.refs} {
		dst = appendColumn(dst, e, x)
	}
	return append(dst, w.data...)
}

// appendColumn adds integers behind their size in bytes.
func appendColumn(dst []byte, e *encoding.Encoder, x []int64) []byte {
	if len(x) == 0 {
		return append(dst, 0)
	}
	at := len(dst)
	dst = e.AppendInts(append(dst, make([]byte, binary.MaxVarintLen32)...), x)
	data := at + binary.MaxVarintLen32
	n := binary.PutUvarint(dst[at:data], uint64(len(dst)-data))
	return append(dst[:at+n], dst[data:]...)
}

// ints reads what appendColumn wrote.
func (c *cursor) ints(n int, what string) []int64 {
	at := c.Off
	b := c.Sized()
	if n == 0 && len(b) == 0 || c.Failed() {
		return nil
	}
	x, err := encoding.DecodeInts(make([]int64, 0, n), b, n, 0, n)
	if err != nil {
		c.Off = at
		c.Fail(what + ": " + err.Error())
		return nil
	}
	return x
}

// loadedStripe is a stripe in memory, its checksum verified.
type loadedStripe struct {
	b     []byte
	pages []page // of each series of the group
}

func (s *loadedStripe) bytes() int64 { return int64(cap(s.b)) + 20*int64(cap(s.pages)) + 64 }

// parseStripe finds the pages in the stripe of a group of that many series.
func parseStripe(b []byte, series uint32) (*loadedStripe, *cursor) {
	c := newCursor(b, 0)
	s := &loadedStripe{b: b, pages: make([]page, series)}
	pages, timed := 0, 0
	for i, k := range c.ints(int(series), "kinds of pages") {
		switch k {
		case kindNone:
			continue
		case kindFloats, kindFloats | flagStarts, kindHistograms, kindHistograms | flagStarts:
			timed++
		case kindRows:
		default:
			c.Fail(fmt.Sprintf("page of an unknown kind %d", k))
		}
		pages++
		s.pages[i].kind = uint8(k)
	}
	sizes := c.ints(pages, "sizes of pages")
	times := c.ints(timed, "times of pages")
	refs := c.ints(timed, "references of pages")
	if !c.Failed() {
		s.place(c, sizes, times, refs)
	}
	return s, c
}

// place gives the pages their place and checks it.
func (s *loadedStripe) place(c *cursor, sizes, times, refs []int64) {
	off := int64(c.Off)
	next, timed := 0, 0
	for i := range s.pages {
		p := &s.pages[i]
		if p.kind == kindNone {
			continue
		}
		size := sizes[next]
		next++
		if size < 0 || size > int64(len(s.b))-off {
			c.Fail("page beyond the end of the stripe")
			return
		}
		p.off, p.size = uint32(off), uint32(size)
		off += size
		if p.kind == kindRows {
			continue
		}
		time, ref := times[timed], refs[timed]
		timed++
		if time < 0 || time > math.MaxUint32 || ref < 0 || ref > int64(i) || ref > 0 && !s.refer(i, i-int(ref), time) {
			c.Fail("page without its column of times, or with a reference to no column like it")
			return
		}
		p.time, p.ref = uint32(time), uint32(ref)
	}
	if off != int64(len(s.b)) {
		c.Fail("pages do not fill the stripe")
	}
}

// refer notes that page i is expressed by page k, and tells whether it may be.
func (s *loadedStripe) refer(i, k int, time int64) bool {
	p, to := &s.pages[i], &s.pages[k]
	if to.kind&kindMask != kindFloats || int64(to.time) != time || to.chain >= maxChain || p.kind&kindMask != kindFloats {
		return false
	}
	p.chain, to.referred = to.chain+1, true
	return true
}

// timedPage splits the bytes of a page that has a column of times: its samples and the column of start timestamps, nil
// without.
func (s *loadedStripe) timedPage(p *page) (values, starts []byte, ok bool) {
	b := s.b[p.off : p.off+p.size]
	if p.kind&flagStarts == 0 {
		return b, nil, true
	}
	c := newCursor(b, 0)
	values = c.Sized()
	return values, c.B[c.Off:], !c.Failed()
}

// appendFloats adds the page of the rows [from, to) of src, all floats with the times of number time, to the stripe.
func (w *stripeWriter) appendFloats(e *encoding.Encoder, series int, src *column.Block, from, to int, time uint32) {
	w.begin(series, src.T[from], src.T[to-1])
	v := src.V[from:to]
	start, kind, chain := len(w.data), int64(kindFloats), uint8(0)
	starts := startsOf(src, from, to)
	var refs [1][]float64
	var given [][]float64
	flat := w.alone || constant(v)
	var by *candidate
	if !flat {
		if by = w.recent.best(v, time); by != nil {
			refs[0] = by.values
			given = refs[:]
		}
	}
	values := w.appendSized(starts != nil, func(dst []byte) []byte { return e.AppendValues(dst, v, given) })
	if starts != nil {
		kind |= flagStarts
		w.data = e.AppendInts(w.data, starts)
	}
	ref := int64(0)
	if _, ok := encoding.ValueRef(w.data[values:]); ok && by != nil {
		ref, chain = int64(series)-int64(by.series), by.chain+1
	}
	w.times, w.refs, w.chain = append(w.times, int64(time)), append(w.refs, ref), chain
	w.end(kind, start)
	if !flat {
		w.grown += w.recent.add(v, candidate{series: uint32(series), time: time, chain: chain})
	}
}

// appendHistograms adds the page of the rows [from, to) of src, all native histograms with the times of number time, to
// the stripe. It reports false, and has added nothing, where they cannot be columns.
func (w *stripeWriter) appendHistograms(e *histogramEncoder, series int, src *column.Block, from, to int, time uint32) bool {
	start, kind, ok := len(w.data), int64(kindHistograms), false
	starts := startsOf(src, from, to)
	w.appendSized(starts != nil, func(dst []byte) []byte {
		dst, ok = e.columns.Append(dst, e.encoder, src, from, to)
		return dst
	})
	if !ok {
		w.data = w.data[:start]
		return false
	}
	w.begin(series, src.T[from], src.T[to-1])
	if starts != nil {
		kind |= flagStarts
		w.data = e.encoder.AppendInts(w.data, starts)
	}
	w.times, w.refs = append(w.times, int64(time)), append(w.refs, 0)
	w.end(kind, start)
	return true
}

// histogramEncoder is what pages of histograms are written with.
type histogramEncoder struct {
	encoder *encoding.Encoder
	columns chunk.ColumnEncoder
}

// appendSized adds what write adds, behind its size where another column follows, and returns where it begins.
func (w *stripeWriter) appendSized(sized bool, write func([]byte) []byte) int {
	at := len(w.data)
	if !sized {
		w.data = write(w.data)
		return at
	}
	var room [binary.MaxVarintLen32]byte
	w.data = write(append(w.data, room[:]...))
	data := at + len(room)
	n := binary.PutUvarint(w.data[at:data], uint64(len(w.data)-data))
	w.data = append(w.data[:at+n], w.data[data:]...)
	return at + n
}

// startsOf returns the start timestamps of rows, nil where none has one.
func startsOf(src *column.Block, from, to int) []int64 {
	if len(src.ST) == 0 {
		return nil
	}
	for _, st := range src.ST[from:to] {
		if st != 0 {
			return src.ST[from:to]
		}
	}
	return nil
}
