// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// columnDecoder reads what a ColumnEncoder wrote. It is scratch memory of the block of columns that is being filled; the
// zero value is ready.
type columnDecoder struct {
	c       decbuf.Buf
	dst     *column.Block
	row     histDecoder // whose state is each row in turn, to be put out
	float   bool
	steady  bool // runSteady
	near    bool // runNeighbours
	bounds  layout
	layouts []runLayout
	has     bucketColumns

	numbers, hints []int64 // of the wanted rows
	counts, zeros  []uint64
	rests          []uint64 // what columns left of the counts
	sums           []float64
	ints           []int64   // scratch: a column
	floats         []float64 // the same
	words          []uint64  // the buckets of the wanted rows, row by row
	line           []uint64  // those of a row that has not all columns
	stretches      []stretch // of the wanted rows
	group          columnGroup
}

// DecodeColumns appends the rows [from, from+len(t)) of histogram columns of n rows to dst; t are their times. On an error, a
// *CorruptError or a *budget.ExceededError, dst has no more rows than before.
func DecodeColumns(p []byte, n, from int, t []int64, dst *column.Block) error {
	return scratchOf(dst).columns.decode(p, n, from, t, dst)
}

func (d *columnDecoder) decode(p []byte, n, from int, t []int64, dst *column.Block) error {
	have, to := len(dst.T), from+len(t)
	d.c, d.dst = decbuf.Buf{B: p}, dst
	err := dst.Reserve(len(t))
	for at := 0; err == nil && at < to; {
		rows := int(d.c.AtMost(uint64(n-at), "number of rows"))
		if rows == 0 {
			d.c.Fail("no rows")
		}
		lo, hi := max(from-at, 0), min(to-at, rows)
		if err = d.header(rows); err == nil {
			if lo < hi {
				err = d.columns(rows, lo, hi, t[at+lo-from:at+hi-from])
			} else {
				err = d.pass()
			}
		}
		at += rows
		if err == nil && at == n && d.c.Left() > 0 {
			err = &CorruptError{Msg: "bytes behind the columns of histograms", Off: d.c.Off}
		}
	}
	d.dst = nil
	if err != nil {
		dst.Truncate(have)
	}
	return err
}

// header reads what comes before the columns of a run.
func (d *columnDecoder) header(rows int) error {
	c := &d.c
	flags := c.Byte()
	if flags&runReserved != 0 {
		c.Fail("unknown flags of a run of histograms")
	}
	d.float, d.steady, d.near = flags&runFloat != 0, flags&runSteady != 0, flags&runNeighbours != 0
	if d.float && d.near {
		c.Fail("neighbours of float histograms")
	}
	schema := c.Varint()
	if schema < math.MinInt32 || schema > math.MaxInt32 {
		c.Fail("schema out of range")
	}
	d.bounds = layout{float: d.float, schema: int32(schema), zeroT: c.BE64()}
	if n := c.Count(8); n > 0 {
		if err := d.dst.Charge(8 * int64(n)); err != nil {
			return err
		}
		d.bounds.custom = make([]float64, n)
		for i := range d.bounds.custom {
			d.bounds.custom[i] = math.Float64frombits(c.BE64())
		}
	}
	return d.readLayouts(rows)
}

// readLayouts reads which columns of buckets a run has, and its layouts.
func (d *columnDecoder) readLayouts(rows int) error {
	c, has := &d.c, &d.has
	all := d.bounds
	var err error
	if all.pos, all.npos, err = d.spans(); err != nil {
		return err
	}
	if all.neg, all.nneg, err = d.spans(); err != nil {
		return err
	}
	if all.npos+all.nneg > min(c.Left(), maxRunCells/max(rows, 1)) || !all.plain() {
		c.Fail("buckets out of range")
		return faultOf(c)
	}
	if err := d.dst.Charge(columnBytes * int64(all.npos+all.nneg)); err != nil {
		return err
	}
	has.pos, has.neg = appendIndices(has.pos[:0], all.pos, all.npos), appendIndices(has.neg[:0], all.neg, all.nneg)
	has.all()
	d.layouts = d.layouts[:0]
	for range c.AtMost(maxRunLayouts, "number of layouts") {
		if err := d.layout(&all); err != nil {
			return err
		}
	}
	return faultOf(c)
}

// columnBytes is what is known of a column of buckets, and of one of a layout.
const columnBytes = 16

// layout reads a layout of a run whose columns are those of all.
func (d *columnDecoder) layout(all *layout) error {
	if err := d.dst.Charge(columnBytes * int64(all.npos+all.nneg)); err != nil {
		return err
	}
	c, has, l := &d.c, &d.has, *all
	changes := c.AtMost(uint64(has.len())+1, "number of changes")
	switch {
	case changes > 0:
		d.change(int(changes) - 1)
		if changes == 1 && len(d.layouts) == 0 {
			break // it has all
		}
		l.npos, l.nneg = 0, 0
		for i, is := range has.present {
			if is && i < len(has.pos) {
				l.npos++
			} else if is {
				l.nneg++
			}
		}
		l.pos, l.neg = spansOf(nil, has.pos, has.present), spansOf(nil, has.neg, has.present[len(has.pos):])
	default:
		var err error
		if l.pos, l.npos, err = d.spans(); err != nil {
			return err
		}
		if l.neg, l.nneg, err = d.spans(); err != nil {
			return err
		}
	}
	if !c.Failed() {
		d.layouts = addLayout(d.layouts, l)
		if own := &d.layouts[len(d.layouts)-1]; !l.plain() || !has.place(own) {
			c.Fail("bucket without a column")
		} else if changes == 0 {
			clear(has.present)
			for _, k := range own.columns {
				has.present[k] = true
			}
		}
	}
	return faultOf(c)
}

// change reads n columns in which a layout is not like the one before.
func (d *columnDecoder) change(n int) {
	at := 0
	for range n {
		at += int(d.c.AtMost(uint64(d.has.len()), "column"))
		if at >= d.has.len() {
			d.c.Fail("column out of range")
			return
		}
		d.has.present[at] = !d.has.present[at]
		at++
	}
}

// spans reads those of one side, and how many buckets they have: no more than there are bytes left, and one.
func (d *columnDecoder) spans() (spans []histogram.Span, buckets int, err error) {
	n := d.c.Count(2)
	if n == 0 {
		return nil, 0, nil
	}
	if spans, err = d.dst.MakeSpans(n); err != nil {
		return nil, 0, err
	}
	for i := range spans {
		offset := d.c.Varint()
		if offset < math.MinInt32 || offset > math.MaxInt32 {
			d.c.Fail("span out of range")
		}
		length := int(d.c.AtMost(math.MaxUint32, "span"))
		buckets = min(buckets+length, d.c.Left()+1)
		spans[i] = histogram.Span{Offset: int32(offset), Length: uint32(length)}
	}
	return spans, buckets, nil
}

// pass passes over the columns of a run.
func (d *columnDecoder) pass() error {
	for range 5 {
		d.c.Sized()
	}
	return d.passBuckets()
}

// passBuckets passes over the columns of buckets.
func (d *columnDecoder) passBuckets() error {
	for range d.has.len() {
		d.bucket()
	}
	return faultOf(&d.c)
}

// bucket returns the next column of buckets in bytes; none where it is what is left of the count. near tells whether it is
// less the column before.
func (d *columnDecoder) bucket() (b []byte, near bool) {
	size := d.c.Uvarint()
	if d.near {
		near = size&1 != 0
		size >>= 1
	}
	if size > uint64(d.c.Left()) || near && size == 0 {
		d.c.Fail("size of a column of buckets")
		return nil, false
	}
	b = d.c.B[d.c.Off : d.c.Off+int(size)]
	d.c.Off += int(size)
	return b, near
}

// columns puts out the rows [from, to) of a run of n rows, whose times are t.
func (d *columnDecoder) columns(n, from, to int, t []int64) error {
	if err := d.room(n, to-from); err != nil {
		return err
	}
	var err error
	if d.numbers, err = d.decodeInts(d.numbers[:0], d.c.Sized(), n, from, to); err != nil {
		return err
	}
	if d.hints, err = d.decodeInts(d.hints[:0], d.c.Sized(), n, from, to); err != nil {
		return err
	}
	for i, number := range d.numbers {
		if hint := d.hints[i]; number < 0 || number == 0 && d.steady || number > int64(len(d.layouts)) || hint < 0 || hint > histHint {
			return &CorruptError{Msg: "layout or hint of a histogram out of range", Off: d.c.Off}
		}
	}
	d.counts, d.zeros = d.counts[:to-from], d.zeros[:to-from]
	if err := d.decodeWords(d.c.Sized(), d.counts, 1, n, from, to); err != nil {
		return err
	}
	if err := d.decodeWords(d.c.Sized(), d.zeros, 1, n, from, to); err != nil {
		return err
	}
	if d.sums, err = d.decodeValues(d.sums[:0], d.c.Sized(), n, from, to); err != nil {
		return err
	}
	have := len(d.dst.T)
	err = d.emitWanted(n, from, to, t)
	if err == nil && d.steady {
		d.dst.NoteSteady(have)
	}
	return err
}

// emitWanted reads the buckets and puts out the rows.
func (d *columnDecoder) emitWanted(n, from, to int, t []int64) error {
	switch {
	case !d.steady:
	case d.dst.WantsThin():
		return d.emitThin(n, from, to, t)
	case d.dst.WantsEnds() && len(t) >= leastEnds:
		return d.emitEnds(n, from, to, t)
	}
	if d.dst.WantsFloat() {
		buckets := d.c.Off
		if done, err := d.emitFloats(n, from, to, t); done || err != nil {
			return err
		}
		d.c.Off = buckets
	}
	if err := d.buckets(n, from, to); err != nil {
		return err
	}
	return d.emit(t)
}

// buckets reads the columns of the buckets.
func (d *columnDecoder) buckets(n, from, to int) error {
	columns := d.has.len()
	if err := grow(d, &d.words, (to-from)*columns); err != nil {
		return err
	}
	d.words = d.words[:(to-from)*columns]
	rest := -1
	for k := range columns {
		b, near := d.bucket()
		if len(b) == 0 && (rest >= 0 || d.float) || near && (k == 0 || rest == k-1) {
			d.c.Fail("bucket without a column")
		}
		if d.c.Failed() {
			return faultOf(&d.c)
		}
		if len(b) == 0 {
			rest = k
			for i := k; i < len(d.words); i += columns {
				d.words[i] = 0
			}
			continue
		}
		if err := d.decodeWords(b, d.words[k:], columns, n, from, to); err != nil {
			return err
		}
		if near {
			for i := k; i < len(d.words); i += columns {
				d.words[i] += d.words[i-1]
			}
		}
	}
	if rest < 0 {
		return nil
	}
	for i, count := range d.counts {
		line := d.words[i*columns : (i+1)*columns]
		left := count - d.zeros[i]
		for _, x := range line {
			left -= x
		}
		line[rest] = left
	}
	return nil
}

// room makes room for columns of n rows, of which some are wanted.
func (d *columnDecoder) room(n, wanted int) error {
	return errors.Join(
		grow(d, &d.numbers, n), grow(d, &d.hints, n), grow(d, &d.ints, n), grow(d, &d.floats, n), grow(d, &d.sums, n),
		grow(d, &d.counts, wanted), grow(d, &d.zeros, wanted),
	)
}

// grow gives s room for n entries, which are not kept.
func grow[T any](d *columnDecoder, s *[]T, n int) error {
	if n <= cap(*s) {
		return nil
	}
	n = max(n, cap(*s)+cap(*s)/2)
	if err := d.dst.Keep(8 * int64(n-cap(*s))); err != nil {
		return err
	}
	*s = make([]T, n)
	return nil
}

func (d *columnDecoder) decodeInts(dst []int64, b []byte, n, from, to int) ([]int64, error) {
	if d.c.Failed() {
		return dst, faultOf(&d.c)
	}
	have := len(dst)
	out, err := encoding.DecodeInts(dst, b, n, from, to)
	return out, d.corrupt(err, len(out)-have, to-from)
}

func (d *columnDecoder) decodeValues(dst []float64, b []byte, n, from, to int) ([]float64, error) {
	if d.c.Failed() {
		return dst, faultOf(&d.c)
	}
	out, err := encoding.DecodeValues(dst, b, n, from, to, noRef)
	return out, d.corrupt(err, len(out), to-from)
}

func noRef(int) ([]float64, error) {
	return nil, &encoding.CorruptError{Msg: "reference to a column that there is not"}
}

// decodeWords reads a column of counts into each step-th of dst.
func (d *columnDecoder) decodeWords(b []byte, dst []uint64, step, n, from, to int) error {
	at := 0
	if d.float {
		v, err := d.decodeValues(d.floats[:0], b, n, from, to)
		if err != nil {
			return err
		}
		for _, x := range v {
			dst[at] = math.Float64bits(x)
			at += step
		}
		return nil
	}
	v, err := d.decodeInts(d.ints[:0], b, n, from, to)
	if err != nil {
		return err
	}
	for _, x := range v {
		dst[at] = uint64(x)
		at += step
	}
	return nil
}

// corrupt returns what is wrong with a column that ends where the page is being read, and should have that many rows.
func (d *columnDecoder) corrupt(err error, rows, want int) error {
	if bad, ok := errors.AsType[*encoding.CorruptError](err); ok {
		return &CorruptError{Msg: "column of histograms: " + bad.Msg, Off: d.c.Off}
	}
	if err == nil && rows != want {
		return &CorruptError{Msg: "column of histograms of another length", Off: d.c.Off}
	}
	return err
}

// emit puts out the rows that were decoded, whose times are t.
func (d *columnDecoder) emit(t []int64) error {
	columns := d.has.len()
	for i := range t {
		if err := d.emitRow(i, t[i], d.words[i*columns:(i+1)*columns]); err != nil {
			return err
		}
	}
	return nil
}

// emitRow puts out row i, whose words are those of all columns of buckets.
func (d *columnDecoder) emitRow(i int, t int64, words []uint64) error {
	flags := byte(d.hints[i])
	if d.float {
		flags |= histFloat
	}
	s := &d.row.s
	number := d.numbers[i]
	if number == 0 {
		flags |= histBare
		s.buckets = nil
	} else {
		l := &d.layouts[number-1]
		s.layout, s.buckets = l.layout, words
		if len(l.columns) < len(words) {
			if err := grow(d, &d.line, len(words)); err != nil {
				return err
			}
			s.buckets = d.line[:len(l.columns)]
			for k, at := range l.columns {
				s.buckets[k] = words[at]
			}
		}
	}
	s.stream.t, s.stream.v = t, math.Float64bits(d.sums[i])
	s.count, s.zero = d.counts[i], d.zeros[i]
	return d.row.emit(d.dst, flags)
}
