// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// The flags byte that opens each histogram sample; docs/format-chunk.md, "Histogram stream".
const (
	histHint      = 0b0000_0011 // the counter reset hint
	histFloat     = 0b0000_0100 // a float histogram
	histLayout    = 0b0000_1000 // a new layout follows
	histBare      = 0b0001_0000 // nothing but a sum, as in a stale marker: the layout stays for later samples
	histSameDelta = 0b0010_0000 // as far from the sample before as that from the one before it
	histSameSum   = 0b0100_0000
	histReserved  = 0b1000_0000
)

// histState is what both sides of a histogram stream know of the samples so far. Counts and buckets are kept
// as words: integers, or the bits of floats. Integer buckets are absolute here, not differences to the bucket
// before, because then one more observation changes one word and not two.
type histState struct {
	n        int // samples
	t, delta int64
	float    bool
	schema   int32
	zeroT    uint64 // bits of the zero threshold
	pos, neg []histogram.Span
	custom   []float64
	sum      uint64 // bits
	count    uint64
	zero     uint64
	buckets  []uint64 // positive ones, then negative
	npos     int
}

// stepTime moves the state to time t and returns the change of the delta. The first sample's time and the
// second's distance count as a change from zero.
func (s *histState) stepTime(t int64) (dod int64) {
	delta := t - s.t
	dod = delta - s.delta
	s.t, s.delta = t, delta
	if s.n == 0 {
		s.delta = 0
	}
	return dod
}

// newLayout empties the buckets, and the counts as well if their kind changes.
func (s *histState) newLayout(float bool, npos, nneg int) {
	if float != s.float {
		s.float, s.count, s.zero = float, 0, 0
	}
	s.npos = npos
	s.buckets = slices.Grow(s.buckets[:0], npos+nneg)[:npos+nneg]
	clear(s.buckets)
}

// HistEncoder appends native histograms, integer or float, to a stream. It keeps the sample before; the zero
// value is that of an empty stream.
type HistEncoder struct {
	s   histState
	cur []uint64 // the buckets of the sample being appended
}

// Len returns how many samples the stream holds.
func (e *HistEncoder) Len() int { return e.s.n }

// LastT returns the time of the last sample. It means nothing for an empty stream.
func (e *HistEncoder) LastT() int64 { return e.s.t }

// Reset makes the encoder that of an empty stream and keeps its memory.
func (e *HistEncoder) Reset() {
	e.s = histState{buckets: e.s.buckets[:0], pos: e.s.pos[:0], neg: e.s.neg[:0]}
}

// RestoreHistEncoder reads a stream of n samples and returns the encoder to go on appending with.
func RestoreHistEncoder(stream []byte, n int) (*HistEncoder, error) {
	d := histDecoder{c: cursor{b: stream}, mint: math.MaxInt64, maxt: math.MaxInt64}
	if err := d.run(n, nil); err != nil {
		return nil, err
	}
	return &HistEncoder{s: d.s}, nil
}

// histSample is the view of a histogram of either kind that the encoder works on.
type histSample struct {
	flags       byte // hint and kind
	schema      int32
	zeroT       uint64
	pos, neg    []histogram.Span
	custom      []float64
	sum         uint64
	count, zero uint64
	npos, nneg  int
}

// bare reports whether there is nothing but a sum.
func (h *histSample) bare() bool {
	return h.schema == 0 && h.zeroT|h.count|h.zero == 0 &&
		len(h.pos)+len(h.neg)+len(h.custom)+h.npos+h.nneg == 0
}

// Append appends one sample to the stream and returns the longer stream; exactly one of h and fh is not nil,
// and neither is kept. t must be greater than LastT. How much the stream grows depends on the histogram.
func (e *HistEncoder) Append(buf []byte, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) []byte {
	var in histSample
	if fh != nil {
		in = e.loadFloat(fh)
	} else {
		in = e.loadInt(h)
	}
	s := &e.s
	flags := in.flags
	bare := in.bare()
	layout := !bare && e.layoutChanged(&in)
	switch {
	case bare:
		flags |= histBare
	case layout:
		flags |= histLayout
	}
	dod := s.stepTime(t)
	if s.n >= 2 && dod == 0 {
		flags |= histSameDelta
	}
	if in.sum == s.sum {
		flags |= histSameSum
	}
	buf = append(buf, flags)
	if flags&histSameDelta == 0 {
		buf = binary.AppendVarint(buf, dod)
	}
	if flags&histSameSum == 0 {
		buf = appendXOR(buf, in.sum^s.sum)
	}
	s.n, s.sum = s.n+1, in.sum
	if bare {
		return buf
	}
	if layout {
		buf = e.appendLayout(buf, &in)
	}
	buf = e.appendCount(buf, in.count, s.count)
	buf = e.appendCount(buf, in.zero, s.zero)
	s.count, s.zero = in.count, in.zero
	if s.float {
		buf = appendFloatBuckets(buf, e.cur, s.buckets, layout)
	} else {
		buf = appendIntBuckets(buf, e.cur, s.buckets, layout)
	}
	e.cur, s.buckets = s.buckets, e.cur
	return buf
}

func (e *HistEncoder) loadInt(h *histogram.Histogram) histSample {
	e.cur = e.cur[:0]
	for _, side := range [][]int64{h.PositiveBuckets, h.NegativeBuckets} {
		var abs int64
		for _, d := range side {
			abs += d
			e.cur = append(e.cur, uint64(abs))
		}
	}
	return histSample{
		flags: byte(h.CounterResetHint) & histHint, schema: h.Schema, zeroT: math.Float64bits(h.ZeroThreshold),
		pos: h.PositiveSpans, neg: h.NegativeSpans, custom: h.CustomValues, sum: math.Float64bits(h.Sum),
		count: h.Count, zero: h.ZeroCount, npos: len(h.PositiveBuckets), nneg: len(h.NegativeBuckets),
	}
}

func (e *HistEncoder) loadFloat(h *histogram.FloatHistogram) histSample {
	e.cur = e.cur[:0]
	for _, side := range [][]float64{h.PositiveBuckets, h.NegativeBuckets} {
		for _, v := range side {
			e.cur = append(e.cur, math.Float64bits(v))
		}
	}
	return histSample{
		flags: byte(h.CounterResetHint)&histHint | histFloat, schema: h.Schema, zeroT: math.Float64bits(h.ZeroThreshold),
		pos: h.PositiveSpans, neg: h.NegativeSpans, custom: h.CustomValues, sum: math.Float64bits(h.Sum),
		count: math.Float64bits(h.Count), zero: math.Float64bits(h.ZeroCount),
		npos: len(h.PositiveBuckets), nneg: len(h.NegativeBuckets),
	}
}

// layoutChanged reports whether a sample does not fit the layout in force. A new stream has the layout of an
// empty histogram, which a sample that is not bare may well have.
func (e *HistEncoder) layoutChanged(in *histSample) bool {
	s := &e.s
	sameBits := func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
	return (in.flags&histFloat != 0) != s.float || in.schema != s.schema || in.zeroT != s.zeroT ||
		in.npos != s.npos || in.npos+in.nneg != len(s.buckets) ||
		!slices.Equal(in.pos, s.pos) || !slices.Equal(in.neg, s.neg) || !slices.EqualFunc(in.custom, s.custom, sameBits)
}

func (e *HistEncoder) appendLayout(buf []byte, in *histSample) []byte {
	s := &e.s
	s.schema, s.zeroT = in.schema, in.zeroT
	s.pos, s.neg = append(s.pos[:0], in.pos...), append(s.neg[:0], in.neg...)
	s.custom = slices.Clone(in.custom)
	s.newLayout(in.flags&histFloat != 0, in.npos, in.nneg)

	buf = binary.AppendVarint(buf, int64(in.schema))
	buf = binary.BigEndian.AppendUint64(buf, in.zeroT)
	for _, spans := range [][]histogram.Span{in.pos, in.neg} {
		buf = binary.AppendUvarint(buf, uint64(len(spans)))
		for _, sp := range spans {
			buf = binary.AppendVarint(buf, int64(sp.Offset))
			buf = binary.AppendUvarint(buf, uint64(sp.Length))
		}
	}
	buf = binary.AppendUvarint(buf, uint64(len(in.custom)))
	for _, v := range in.custom {
		buf = binary.BigEndian.AppendUint64(buf, math.Float64bits(v))
	}
	buf = binary.AppendUvarint(buf, uint64(in.npos))
	return binary.AppendUvarint(buf, uint64(in.nneg))
}

func (e *HistEncoder) appendCount(buf []byte, x, prev uint64) []byte {
	if e.s.float {
		return appendXOR(buf, x^prev)
	}
	return binary.AppendVarint(buf, int64(x-prev))
}

// The growth of an integer bucket is written as a class, so many ones and a zero, and then bits: 0 ones for no
// growth, 1 for 1 to 8, else as a zigzag number of the width of the class. Few buckets change from sample to
// sample, most of them by little.
const maxClass = 5 // not followed by a zero

func classBits(class uint) uint { return [maxClass + 1]uint{0, 3, 7, 12, 20, 64}[class] }

// appendIntBuckets writes the growth of each bucket, in bits up to the next full byte. Behind a new layout they
// are varints, so that a reader is given a byte for each bucket it allocates.
func appendIntBuckets(buf []byte, cur, prev []uint64, plain bool) []byte {
	if plain {
		for i, x := range cur {
			buf = binary.AppendVarint(buf, int64(x-prev[i]))
		}
		return buf
	}
	var end bitEnd
	for i, x := range cur {
		d := int64(x - prev[i])
		z := zigzag(d)
		switch {
		case d == 0:
			buf = end.put(buf, 0, 1)
		case d > 0 && d <= 8:
			buf = end.put(buf, 0b10<<3|uint64(d-1), 2+3)
		case z < 1<<7:
			buf = end.put(buf, 0b110<<7|z, 3+7)
		case z < 1<<12:
			buf = end.put(buf, 0b1110<<12|z, 4+12)
		case z < 1<<20:
			buf = end.put(buf, 0b11110<<20|z, 5+20)
		default:
			buf = end.put(end.put(buf, 0b11111, 5), z, 64)
		}
	}
	return buf
}

// appendFloatBuckets writes each bucket's XOR with the one before in bits up to the next full byte: a zero if
// it is the same, else a one, three bits how many bytes follow, less one, three bits how many zero bytes were
// cut off the end, and those bytes. Behind a new layout the form is that of appendXOR.
func appendFloatBuckets(buf []byte, cur, prev []uint64, plain bool) []byte {
	if plain {
		for i, x := range cur {
			buf = appendXOR(buf, x^prev[i])
		}
		return buf
	}
	var end bitEnd
	for i, x := range cur {
		x ^= prev[i]
		if x == 0 {
			buf = end.put(buf, 0, 1)
			continue
		}
		trail := bits.TrailingZeros64(x) / 8
		size := (bits.Len64(x)+7)/8 - trail
		buf = end.put(buf, 1<<6|uint64(size-1)<<3|uint64(trail), 1+3+3)
		buf = end.put(buf, x>>(8*trail), uint(8*size))
	}
	return buf
}
