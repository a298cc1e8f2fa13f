// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// The flags of a run of histogram columns; docs/format-chunk.md, "Histogram columns".
const (
	runFloat    = 1 // of float histograms
	runReserved = 0xff &^ runFloat
)

const (
	// maxRunLayouts ends a run with as many layouts: they are looked for one after the other.
	maxRunLayouts = 1 << 10
	// maxRunCells is how many buckets of all rows a run may have together, so that the memory is bounded.
	maxRunCells = 1 << 20
)

// ColumnEncoder writes native histograms as columns: what they say of their buckets once, then counts, sums and each
// bucket of all rows one after the other. It holds scratch memory; the zero value is ready; for one goroutine.
type ColumnEncoder struct {
	load    HistEncoder // for its view of a histogram
	has     bucketColumns
	float   bool
	layouts []runLayout
	rows    []runRow
	words   []uint64 // the buckets of all rows
	numbers []int64  // scratch: a column
	sums    []float64
	cells   []int64 // the columns of the buckets, one after the other
	data    []byte  // those in bytes
	ends    []int   // and where each ends
}

// runRow is a row of the run being encoded.
type runRow struct {
	hint             byte
	layout           int32 // 0 without buckets; else that of layouts, + 1
	sum, count, zero uint64
	words            int // the first of its buckets
}

// Bytes returns what the scratch memory takes.
func (e *ColumnEncoder) Bytes() int64 {
	return 8*int64(cap(e.words)+cap(e.numbers)+cap(e.sums)+cap(e.cells)+cap(e.ends)) + 40*int64(cap(e.rows)) + int64(cap(e.data))
}

// Append appends the rows [from, to) of src, native histograms of one series, to dst and returns the longer slice. ok
// is false, and dst as it was, where they cannot be columns: their spans do not ascend or do not fit their buckets, or
// there are too many of these.
func (e *ColumnEncoder) Append(dst []byte, enc *encoding.Encoder, src *column.Block, from, to int) (out []byte, ok bool) {
	out = dst
	for from < to {
		n := e.collect(src, from, to)
		if n == 0 || e.has.len() > maxRunCells/n {
			return dst, false
		}
		out = e.append(out, enc)
		from += n
	}
	return out, true
}

// collect takes the rows from row from on that can be one run, and returns how many.
func (e *ColumnEncoder) collect(src *column.Block, from, to int) int {
	e.rows, e.words, e.layouts = e.rows[:0], e.words[:0], e.layouts[:0]
	e.float = src.H.Float[from] != nil
	for i := from; i < to && e.take(src.H.Int[i], src.H.Float[i]); i++ {
	}
	e.has.unite(e.layouts)
	return len(e.rows)
}

// take adds a histogram to the run; false where it begins another.
func (e *ColumnEncoder) take(h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	if e.float != (fh != nil) {
		return false
	}
	var in histSample
	if fh != nil {
		in = e.load.loadFloat(fh)
	} else {
		in = e.load.loadInt(h)
	}
	row := runRow{hint: in.hint, sum: in.sum, count: in.count, zero: in.zero, words: len(e.words)}
	if in.bare() {
		if n := len(e.rows); n > 0 { // the columns go on as they were
			last := &e.rows[n-1]
			row.count, row.zero, row.words = last.count, last.zero, last.words
		}
		e.rows = append(e.rows, row)
		return true
	}
	number := e.layoutOf(&in.layout)
	if number == 0 {
		return false
	}
	row.layout = int32(number)
	e.words = append(e.words, e.load.cur...)
	e.rows = append(e.rows, row)
	return true
}

// layoutOf returns the number of a layout in the run; 0: it cannot be in it.
func (e *ColumnEncoder) layoutOf(l *layout) int {
	for i := range slices.Backward(e.layouts) {
		if have := &e.layouts[i].layout; have.npos == l.npos && have.nneg == l.nneg && have.equal(l) {
			return i + 1
		}
	}
	if n := len(e.layouts); n == maxRunLayouts || n > 0 && (e.layouts[0].zeroT != l.zeroT || !e.layouts[0].sameBounds(l)) || !l.plain() {
		return 0
	}
	own := *l
	own.pos, own.neg, own.custom = slices.Clone(l.pos), slices.Clone(l.neg), slices.Clone(l.custom)
	e.layouts = addLayout(e.layouts, own)
	return len(e.layouts)
}

// append writes the run.
func (e *ColumnEncoder) append(dst []byte, enc *encoding.Encoder) []byte {
	n := len(e.rows)
	flags := byte(0)
	if e.float {
		flags |= runFloat
	}
	dst = append(binary.AppendUvarint(dst, uint64(n)), flags)
	var bounds layout
	if len(e.layouts) > 0 {
		bounds = e.layouts[0].layout
	}
	dst = binary.AppendVarint(dst, int64(bounds.schema))
	dst = binary.BigEndian.AppendUint64(dst, bounds.zeroT)
	dst = binary.AppendUvarint(dst, uint64(len(bounds.custom)))
	for _, v := range bounds.custom {
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
	}
	dst = e.has.appendLayouts(dst, e.layouts)
	dst = e.ints(dst, enc, func(r *runRow) uint64 { return uint64(r.layout) })
	dst = e.ints(dst, enc, func(r *runRow) uint64 { return uint64(r.hint) })
	dst = e.counts(dst, enc, func(r *runRow) uint64 { return r.count })
	dst = e.counts(dst, enc, func(r *runRow) uint64 { return r.zero })
	dst = e.values(dst, enc, func(r *runRow) uint64 { return r.sum })
	return e.buckets(dst, enc)
}

// counts writes a column of what are counts of the run.
func (e *ColumnEncoder) counts(dst []byte, enc *encoding.Encoder, of func(*runRow) uint64) []byte {
	if e.float {
		return e.values(dst, enc, of)
	}
	return e.ints(dst, enc, of)
}

func (e *ColumnEncoder) ints(dst []byte, enc *encoding.Encoder, of func(*runRow) uint64) []byte {
	e.numbers = e.numbers[:0]
	for i := range e.rows {
		e.numbers = append(e.numbers, int64(of(&e.rows[i])))
	}
	return appendSized(dst, func(dst []byte) []byte { return enc.AppendInts(dst, e.numbers) })
}

func (e *ColumnEncoder) values(dst []byte, enc *encoding.Encoder, of func(*runRow) uint64) []byte {
	e.sums = e.sums[:0]
	for i := range e.rows {
		e.sums = append(e.sums, math.Float64frombits(of(&e.rows[i])))
	}
	return appendSized(dst, func(dst []byte) []byte { return enc.AppendValues(dst, e.sums, nil) })
}

// buckets writes the columns of the buckets. Where the counts of all rows are the sums of their buckets, the longest
// column is left out.
func (e *ColumnEncoder) buckets(dst []byte, enc *encoding.Encoder) []byte {
	e.transpose()
	n := len(e.rows)
	e.data, e.ends = e.data[:0], e.ends[:0]
	longest, most := -1, 0
	for at := 0; at < len(e.cells); at += n {
		was := len(e.data)
		if e.float {
			e.sums = e.sums[:0]
			for _, x := range e.cells[at : at+n] {
				e.sums = append(e.sums, math.Float64frombits(uint64(x)))
			}
			e.data = enc.AppendValues(e.data, e.sums, nil)
		} else {
			e.data = enc.AppendInts(e.data, e.cells[at:at+n])
		}
		if size := len(e.data) - was; size > most {
			longest, most = at/n, size
		}
		e.ends = append(e.ends, len(e.data))
	}
	if !e.addsUp() {
		longest = -1
	}
	from := 0
	for i, end := range e.ends {
		if i == longest {
			dst = append(dst, 0)
		} else {
			dst = append(binary.AppendUvarint(dst, uint64(end-from)), e.data[from:end]...)
		}
		from = end
	}
	return dst
}

// transpose makes the columns of the buckets. A bucket that a row does not have is 0.
func (e *ColumnEncoder) transpose() {
	n := len(e.rows)
	size := n * e.has.len()
	e.cells = slices.Grow(e.cells[:0], size)[:size]
	clear(e.cells)
	layout := int32(0)
	for i := range e.rows {
		r := &e.rows[i]
		if r.layout > 0 {
			layout = r.layout
		}
		if layout == 0 {
			continue
		}
		for k, at := range e.layouts[layout-1].columns {
			e.cells[int(at)*n+i] = int64(e.words[r.words+k])
		}
	}
}

// addsUp reports whether in all rows the count is the sum of the zero count and the buckets.
func (e *ColumnEncoder) addsUp() bool {
	if e.float {
		return false
	}
	n := len(e.rows)
	for i := range e.rows {
		rest := e.rows[i].count - e.rows[i].zero
		for at := i; at < len(e.cells); at += n {
			rest -= uint64(e.cells[at])
		}
		if rest != 0 {
			return false
		}
	}
	return true
}
