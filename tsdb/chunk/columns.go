// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// The flags of a run of histogram columns; docs/format-chunk.md, "Histogram columns".
const (
	runFloat      = 1 << iota // of float histograms
	runSteady                 // of a counter that never falls: each row goes on counting where the one before was
	runNeighbours             // sizes of columns of buckets say whether they are less the column before
	runReserved   = 0xff &^ (runFloat | runSteady | runNeighbours)
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
	forms   []bucketForms
}

// bucketForms says where in data the forms of a column of buckets are.
type bucketForms struct {
	from, plain, near int // the ends of the column itself, and of what it is more than the one before it
}

// nearer tells whether the second form is the shorter one.
func (f *bucketForms) nearer() bool { return f.near-f.plain < f.plain-f.from && f.near > f.plain }

// size is that of the shorter form.
func (f *bucketForms) size() int {
	if f.nearer() {
		return f.near - f.plain
	}
	return f.plain - f.from
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
	return 8*int64(cap(e.words)+cap(e.numbers)+cap(e.sums)+cap(e.cells)+3*cap(e.forms)) + 40*int64(cap(e.rows)) + int64(cap(e.data))
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
	e.transpose()
	if e.steady() {
		flags |= runSteady
	}
	if e.encodeBuckets(enc) {
		flags |= runNeighbours
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
	return e.buckets(dst, flags)
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

// encodeBuckets makes the forms of the columns of the buckets, and tells whether for any of them the second is shorter.
func (e *ColumnEncoder) encodeBuckets(enc *encoding.Encoder) (nearer bool) {
	n := len(e.rows)
	e.data, e.forms = e.data[:0], e.forms[:0]
	for at := 0; at < len(e.cells); at += n {
		f := bucketForms{from: len(e.data)}
		x := e.cells[at : at+n]
		if e.float {
			e.sums = e.sums[:0]
			for _, v := range x {
				e.sums = append(e.sums, math.Float64frombits(uint64(v)))
			}
			e.data = enc.AppendValues(e.data, e.sums, nil)
			f.plain, f.near = len(e.data), len(e.data)
			e.forms = append(e.forms, f)
			continue
		}
		e.data = enc.AppendInts(e.data, x)
		f.plain = len(e.data)
		if at > 0 && f.plain-f.from > leastNear {
			e.numbers = e.numbers[:0]
			for i, v := range x {
				e.numbers = append(e.numbers, v-e.cells[at-n+i])
			}
			e.data = enc.AppendInts(e.data, e.numbers)
		}
		f.near = len(e.data)
		e.forms = append(e.forms, f)
		nearer = nearer || f.nearer()
	}
	return nearer
}

// leastNear is how many bytes a column must take for the one before it to be looked at.
const leastNear = 8

// buckets writes the columns of the buckets, each in its shorter form. Where the counts of all rows are the sums of their
// buckets, the longest column is left out; then the one behind it stands for itself.
func (e *ColumnEncoder) buckets(dst []byte, flags byte) []byte {
	longest, most := -1, 0
	if e.addsUp() {
		for i := range e.forms {
			if size := e.forms[i].size(); size > most {
				longest, most = i, size
			}
		}
	}
	for i := range e.forms {
		f := &e.forms[i]
		b, near := e.data[f.from:f.plain], uint64(0)
		switch {
		case i == longest:
			dst = append(dst, 0)
			continue
		case f.nearer() && i-1 != longest:
			b, near = e.data[f.plain:f.near], 1
		}
		size := uint64(len(b))
		if flags&runNeighbours != 0 {
			size = size<<1 | near
		}
		dst = append(binary.AppendUvarint(dst, size), b...)
	}
	return dst
}

// steady tells whether every row of the run goes on counting where the one before it was, so that readers need not
// compare their buckets: nothing falls, no row says that it is a reset or a gauge, and none is without buckets. Counts
// are the same as floats.
func (e *ColumnEncoder) steady() bool {
	n := len(e.rows)
	for i := range e.rows {
		r := &e.rows[i]
		if r.layout == 0 || r.hint == gaugeHint || i > 0 && r.hint == byte(histogram.CounterReset) ||
			value.IsStaleNaN(math.Float64frombits(r.sum)) {
			return false
		}
		if i > 0 && (!e.rose(e.rows[i-1].count, r.count) || !e.rose(e.rows[i-1].zero, r.zero)) {
			return false
		}
	}
	for at := 0; at < len(e.cells); at += n {
		for i := at + 1; i < at+n; i++ {
			if !e.rose(uint64(e.cells[i-1]), uint64(e.cells[i])) {
				return false
			}
		}
	}
	return len(e.layouts) > 0 && !slices.ContainsFunc(e.layouts[0].custom, math.IsNaN) &&
		!math.IsNaN(math.Float64frombits(e.layouts[0].zeroT))
}

// rose tells whether a word is not less than the one before it, both as the number it is and as the float that it
// becomes.
func (e *ColumnEncoder) rose(before, word uint64) bool {
	if e.float {
		return math.Float64frombits(word) >= math.Float64frombits(before)
	}
	return before <= word && word < exact
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
