// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"cmp"
	"math"
	"slices"
	"unsafe"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// DecodeHistograms appends those of the first n samples of a histogram stream that lie within [mint, maxt] to
// dst, each as a histogram of its own. It stops at the first sample beyond maxt. On an error, a *CorruptError
// or a *budget.ExceededError, dst has no more rows than before.
func DecodeHistograms(stream []byte, n int, mint, maxt int64, dst *column.Block) error {
	_, err := decodeHistograms(stream, n, mint, maxt, dst)
	return err
}

// decodeHistograms is DecodeHistograms; it returns as well how many samples lie before mint.
func decodeHistograms(stream []byte, n int, mint, maxt int64, dst *column.Block) (skipped int, err error) {
	d := histDecoder{c: decbuf.Buf{B: stream}, mint: mint, maxt: maxt}
	have := len(dst.T)
	if err := d.run(n, dst); err != nil {
		dst.Truncate(have)
		return 0, err
	}
	return d.skipped, nil
}

// histDecoder reads a histogram stream; it is HistEncoder backwards.
type histDecoder struct {
	c          decbuf.Buf
	s          histState
	err        error // why there is no memory
	mint, maxt int64
	skipped    int      // samples before mint
	all        []uint64 // room for two words, and the buckets of s behind them
}

// minHistBytes is the least that a sample takes: its flags, and a byte of bits.
const minHistBytes = 2

// run reads n samples. dst may be nil when none lies in the range.
func (d *histDecoder) run(n int, dst *column.Block) error {
	if n < 0 || n > len(d.c.B)/minHistBytes {
		return &CorruptError{Msg: "more samples than the bytes can hold", Off: len(d.c.B)}
	}
	d.s.stream.lead = noWindow
	for range n {
		before := d.s.stream.t
		flags := d.sample(dst)
		if d.s.n > 1 && d.s.stream.t <= before {
			d.c.Fail("time does not ascend")
		}
		if d.c.Failed() {
			return cmp.Or(d.err, faultOf(&d.c))
		}
		switch {
		case d.s.stream.t > d.maxt:
			return nil
		case d.s.stream.t < d.mint:
			d.skipped++
		case dst != nil:
			if err := d.emit(dst, flags); err != nil {
				return err
			}
		}
	}
	return nil
}

// sample reads one sample into the state.
func (d *histDecoder) sample(dst *column.Block) (flags byte) {
	c, s := &d.c, &d.s
	flags = c.Byte()
	if flags&histReserved != 0 || flags&histBare != 0 && flags&histLayout != 0 {
		c.Fail("unknown flags of a histogram")
		return flags
	}
	if flags&histLayout != 0 {
		d.layout(flags&histFloat != 0, dst)
	}
	if flags&histBare == 0 && s.float != (flags&histFloat != 0) {
		c.Fail("kind of histogram changes without a layout")
	}
	if c.Failed() {
		return flags
	}
	r := bitReader{s: c.B[c.Off:]}
	s.stepTime(s.stream.t + int64(s.stream.delta+readDod(&r)))
	s.n++
	if !s.stream.readValue(&r) {
		c.Fail("window of more than 64 bits")
		return flags
	}
	if flags&histBare == 0 {
		d.words(&r, flags)
	}
	if r.used() > c.Left() {
		c.Fail("cut short")
		return flags
	}
	c.Off += r.used()
	return flags
}

// words reads the counts and buckets.
func (d *histDecoder) words(r *bitReader, flags byte) {
	s := &d.s
	if d.all == nil { // no layout came yet
		d.all = make([]uint64, 2)
	}
	d.all[0], d.all[1] = s.count, s.zero
	if !coderOf(flags).readAll(r, d.all) {
		d.c.Fail("word of more than eight bytes")
	}
	s.count, s.zero = d.all[0], d.all[1]
}

// layout reads a layout and puts it in force.
func (d *histDecoder) layout(float bool, dst *column.Block) {
	c := &d.c
	schema := c.Varint()
	if schema < math.MinInt32 || schema > math.MaxInt32 {
		c.Fail("schema out of range")
	}
	l := layout{float: float, schema: int32(schema), zeroT: c.BE64(), pos: d.spans(dst), neg: d.spans(dst)}
	if n := c.Count(8); n > 0 {
		l.custom = make([]float64, n)
		for i := range l.custom {
			l.custom[i] = math.Float64frombits(c.BE64())
		}
	}
	npos, nneg := c.Uvarint(), c.Uvarint()
	if limit := 8 * uint64(c.Left()); npos > limit || nneg > limit-npos { // each takes at least a bit
		c.Fail("more buckets than the bytes can hold")
	}
	if c.Failed() {
		return
	}
	l.npos, l.nneg = int(npos), int(nneg)
	if dst != nil {
		if d.err = dst.Charge(8 * int64(len(l.custom))); d.err != nil {
			c.Fail("no memory")
			return
		}
	}
	d.relay(l, dst)
}

// relay puts a layout in force. Its words are the block's, if there is one.
func (d *histDecoder) relay(l layout, dst *column.Block) {
	n := 2 + l.npos + l.nneg
	if dst == nil {
		d.all = make([]uint64, n)
	} else if d.all, d.err = scratchOf(dst).swapWords(dst, n); d.err != nil {
		d.c.Fail("no memory")
		return
	}
	d.s.relay(l, d.all[2:])
}

// spans reads those of one side. They are the block's, if there is one.
func (d *histDecoder) spans(dst *column.Block) (spans []histogram.Span) {
	n := d.c.Count(2)
	switch {
	case n == 0:
		return nil
	case dst == nil:
		spans = make([]histogram.Span, n)
	default:
		if spans, d.err = dst.MakeSpans(n); d.err != nil {
			d.c.Fail("no memory")
			return nil
		}
	}
	for i := range spans {
		offset, length := d.c.Varint(), d.c.Uvarint()
		if offset < math.MinInt32 || offset > math.MaxInt32 || length > math.MaxUint32 {
			d.c.Fail("span out of range")
		}
		spans[i] = histogram.Span{Offset: int32(offset), Length: uint32(length)}
	}
	return spans
}

// rowBytes is what a histogram row takes in the columns of a block besides T and V.
const rowBytes = int64(unsafe.Sizeof(uintptr(0))*2 + 1)

// emit appends the state's sample to dst as a histogram that shares nothing but the custom values, which are
// immutable, with any other.
func (d *histDecoder) emit(dst *column.Block, flags byte) error {
	s := &d.s
	if dst.WantsFloat() {
		return d.emitFloat(dst, flags)
	}
	size := rowBytes + int64(unsafe.Sizeof(histogram.Histogram{})) + 8*int64(len(s.buckets)+len(s.pos)+len(s.neg))
	if flags&histLayout != 0 {
		size += 8 * int64(len(s.custom))
	}
	if err := dst.Charge(size); err != nil {
		return err
	}
	if err := dst.Reserve(1); err != nil {
		return err
	}
	if flags&histFloat != 0 {
		dst.AppendHistogram(s.stream.t, 0, nil, d.floatHistogram(flags))
	} else {
		dst.AppendHistogram(s.stream.t, 0, d.intHistogram(flags), nil)
	}
	return nil
}

// emitFloat appends the state's sample as a float histogram of the block, which shares the spans of its layout.
func (d *histDecoder) emitFloat(dst *column.Block, flags byte) error {
	s, kind, n := &d.s, sample.Histogram, len(d.s.buckets)
	if flags&histFloat != 0 {
		kind = sample.FloatHistogram
	}
	bare := flags&histBare != 0
	if bare {
		n = 0
	}
	h, counts, err := dst.AddFloatHistogram(s.stream.t, kind, n)
	if err != nil {
		return err
	}
	hint, sum := histogram.CounterResetHint(flags&histHint), s.stream.LastV()
	if bare {
		*h = histogram.FloatHistogram{CounterResetHint: hint, Sum: sum}
		return nil
	}
	// One assignment: each that has pointers in it is told to the collector while that is at work.
	pos, neg := split(counts, s.npos)
	zeroT := math.Float64frombits(s.zeroT)
	if kind == sample.FloatHistogram {
		*h = histogram.FloatHistogram{
			CounterResetHint: hint, Schema: s.schema, ZeroThreshold: zeroT, ZeroCount: math.Float64frombits(s.zero),
			Count: math.Float64frombits(s.count), Sum: sum, PositiveSpans: s.pos, NegativeSpans: s.neg,
			PositiveBuckets: pos, NegativeBuckets: neg, CustomValues: s.custom,
		}
		for i, b := range s.buckets {
			counts[i] = math.Float64frombits(b)
		}
		return nil
	}
	absolute(pos, s.buckets[:s.npos])
	zero, negSpans, custom := float64(s.zero), s.neg, []float64(nil)
	if s.schema == histogram.CustomBucketsSchema { // as Histogram.ToFloat has it
		zeroT, zero, negSpans, neg, custom = 0, 0, nil, nil, s.custom
	} else {
		absolute(neg, s.buckets[s.npos:])
	}
	*h = histogram.FloatHistogram{
		CounterResetHint: hint, Schema: s.schema, ZeroThreshold: zeroT, ZeroCount: zero, Count: float64(s.count), Sum: sum,
		PositiveSpans: s.pos, NegativeSpans: negSpans, PositiveBuckets: pos, NegativeBuckets: neg, CustomValues: custom,
	}
	return nil
}

// absolute sets counts to what Histogram.ToFloat comes to, which adds up the differences in floats: that is exact
// while all counts are integers that a float can hold.
func absolute(counts []float64, buckets []uint64) {
	all := uint64(0)
	for i, b := range buckets {
		counts[i] = float64(int64(b))
		all |= b
	}
	if all < 1<<53 {
		return
	}
	sum, prev := 0.0, uint64(0)
	for i, b := range buckets {
		sum += float64(int64(b - prev))
		counts[i], prev = sum, b
	}
}

func (d *histDecoder) intHistogram(flags byte) *histogram.Histogram {
	s := &d.s
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(flags & histHint), Sum: s.stream.LastV(),
	}
	if flags&histBare != 0 {
		return h
	}
	h.Schema, h.ZeroThreshold, h.ZeroCount, h.Count = s.schema, math.Float64frombits(s.zeroT), s.zero, s.count
	h.PositiveSpans, h.NegativeSpans, h.CustomValues = cloneSpans(s.pos), cloneSpans(s.neg), s.custom
	if len(s.buckets) > 0 {
		all := make([]int64, len(s.buckets))
		prev := uint64(0)
		for i, abs := range s.buckets {
			if i == s.npos {
				prev = 0
			}
			all[i], prev = int64(abs-prev), abs
		}
		h.PositiveBuckets, h.NegativeBuckets = split(all, s.npos)
	}
	return h
}

func (d *histDecoder) floatHistogram(flags byte) *histogram.FloatHistogram {
	s := &d.s
	h := &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterResetHint(flags & histHint), Sum: s.stream.LastV(),
	}
	if flags&histBare != 0 {
		return h
	}
	h.Schema, h.ZeroThreshold = s.schema, math.Float64frombits(s.zeroT)
	h.ZeroCount, h.Count = math.Float64frombits(s.zero), math.Float64frombits(s.count)
	h.PositiveSpans, h.NegativeSpans, h.CustomValues = cloneSpans(s.pos), cloneSpans(s.neg), s.custom
	if len(s.buckets) > 0 {
		all := make([]float64, len(s.buckets))
		for i, b := range s.buckets {
			all[i] = math.Float64frombits(b)
		}
		h.PositiveBuckets, h.NegativeBuckets = split(all, s.npos)
	}
	return h
}

// split cuts one allocation in two that cannot grow into each other; an empty half is nil.
func split[T any](all []T, n int) (a, b []T) {
	if n > 0 {
		a = all[:n:n]
	}
	if n < len(all) {
		b = all[n:]
	}
	return a, b
}

// cloneSpans copies spans: a reader may merge spans in place.
func cloneSpans(s []histogram.Span) []histogram.Span {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}
