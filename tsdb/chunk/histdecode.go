// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"math"
	"slices"
	"unsafe"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/column"
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
	d := histDecoder{c: cursor{b: stream}, mint: mint, maxt: maxt}
	have := len(dst.T)
	if err := d.run(n, dst); err != nil {
		dst.Truncate(have)
		return 0, err
	}
	return d.skipped, nil
}

// histDecoder reads a histogram stream; it is HistEncoder backwards.
type histDecoder struct {
	c          cursor
	s          histState
	mint, maxt int64
	skipped    int // samples before mint
}

// run reads n samples. dst may be nil when none lies in the range.
func (d *histDecoder) run(n int, dst *column.Block) error {
	if n < 0 || n > len(d.c.b) { // a sample takes at least its flags byte
		return &CorruptError{Msg: "more samples than the bytes can hold", Off: len(d.c.b)}
	}
	for range n {
		before := d.s.t
		flags := d.sample()
		if d.s.n > 1 && d.s.t <= before {
			d.c.fail("time does not ascend")
		}
		if d.c.err != nil {
			return d.c.err
		}
		switch {
		case d.s.t > d.maxt:
			return nil
		case d.s.t < d.mint:
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
func (d *histDecoder) sample() (flags byte) {
	c, s := &d.c, &d.s
	flags = c.u8()
	if flags&histReserved != 0 || flags&histBare != 0 && flags&histLayout != 0 || s.n < 2 && flags&histSameDelta != 0 {
		c.fail("unknown flags of a histogram")
		return flags
	}
	var dod int64
	if flags&histSameDelta == 0 {
		dod = c.varint()
	}
	s.stepTime(s.t + s.delta + dod)
	s.n++
	if flags&histSameSum == 0 {
		s.sum ^= c.xor()
	}
	if flags&histBare != 0 {
		return flags
	}
	float := flags&histFloat != 0
	if flags&histLayout != 0 {
		d.layout(float)
	} else if float != s.float {
		c.fail("kind of histogram changes without a layout")
		return flags
	}
	if float {
		s.count ^= c.xor()
		s.zero ^= c.xor()
		d.floatBuckets(flags&histLayout != 0)
		return flags
	}
	s.count += uint64(c.varint())
	s.zero += uint64(c.varint())
	d.intBuckets(flags&histLayout != 0)
	return flags
}

func (d *histDecoder) layout(float bool) {
	c, s := &d.c, &d.s
	schema := c.varint()
	if schema < math.MinInt32 || schema > math.MaxInt32 {
		c.fail("schema out of range")
	}
	s.schema, s.zeroT = int32(schema), c.u64()
	s.pos = d.spans(s.pos[:0])
	s.neg = d.spans(s.neg[:0])
	s.custom = nil
	if n := c.count(8); n > 0 {
		s.custom = make([]float64, n)
		for i := range s.custom {
			s.custom[i] = math.Float64frombits(c.u64())
		}
	}
	npos, nneg := c.count(1), c.count(1)
	if npos+nneg > c.left() {
		c.fail("more buckets than the bytes can hold")
		npos, nneg = 0, 0
	}
	s.newLayout(float, npos, nneg)
}

func (d *histDecoder) spans(spans []histogram.Span) []histogram.Span {
	for range d.c.count(2) {
		offset, length := d.c.varint(), d.c.uvarint()
		if offset < math.MinInt32 || offset > math.MaxInt32 || length > math.MaxUint32 {
			d.c.fail("span out of range")
		}
		spans = append(spans, histogram.Span{Offset: int32(offset), Length: uint32(length)})
	}
	return spans
}

func (d *histDecoder) intBuckets(plain bool) {
	b := d.s.buckets
	if plain {
		for i := range b {
			b[i] += uint64(d.c.varint())
		}
		return
	}
	r := bitReader{s: d.c.b[d.c.off:]}
	for i := range b {
		switch class := r.ones(maxClass); class {
		case 0:
		case 1:
			b[i] += r.read(classBits(1)) + 1
		case maxClass:
			b[i] += uint64(unzigzag(r.read64()))
		default:
			b[i] += uint64(unzigzag(r.read(classBits(class))))
		}
	}
	d.endBits(&r)
}

func (d *histDecoder) floatBuckets(plain bool) {
	b := d.s.buckets
	if plain {
		for i := range b {
			b[i] ^= d.c.xor()
		}
		return
	}
	r := bitReader{s: d.c.b[d.c.off:]}
	for i := range b {
		if r.read(1) == 0 {
			continue
		}
		size, trail := uint(r.read(3))+1, uint(r.read(3))
		if size+trail > 8 {
			d.c.fail("malformed xor word")
			return
		}
		var x uint64
		if size == 8 {
			x = r.read64()
		} else {
			x = r.read(8 * size)
		}
		b[i] ^= x << (8 * trail)
	}
	d.endBits(&r)
}

// endBits goes on behind the bits that r has read.
func (d *histDecoder) endBits(r *bitReader) {
	if r.used() > d.c.left() {
		d.c.fail("ends too early")
		return
	}
	d.c.off += r.used()
}

// rowBytes is what a histogram row takes in the columns of a block besides T and V.
const rowBytes = int64(unsafe.Sizeof(uintptr(0))*2 + 1)

// emit appends the state's sample to dst as a histogram that shares nothing but the custom values, which are
// immutable, with any other.
func (d *histDecoder) emit(dst *column.Block, flags byte) error {
	s := &d.s
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
		dst.AppendHistogram(s.t, 0, nil, d.floatHistogram(flags))
	} else {
		dst.AppendHistogram(s.t, 0, d.intHistogram(flags), nil)
	}
	return nil
}

func (d *histDecoder) intHistogram(flags byte) *histogram.Histogram {
	s := &d.s
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(flags & histHint), Sum: math.Float64frombits(s.sum),
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
		CounterResetHint: histogram.CounterResetHint(flags & histHint), Sum: math.Float64frombits(s.sum),
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
