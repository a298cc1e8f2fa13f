// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
)

// The flags byte that opens each histogram sample; docs/format-chunk.md, "Histogram stream".
const (
	histHint     = 0b0000_0011 // the counter reset hint
	histFloat    = 0b0000_0100 // a float histogram
	histLayout   = 0b0000_1000 // a new layout follows
	histBare     = 0b0001_0000 // nothing but a sum, as in a stale marker: the layout stays for later samples
	histReserved = 0b1110_0000
)

// histState is what both sides of a histogram stream know of the samples so far. Counts and buckets are kept
// as words: integers, or the bits of floats. Integer buckets are absolute here, not differences to the bucket
// before, because then one more observation changes one word and not two.
type histState struct {
	n      int        // samples
	stream FloatState // the times and sums, which are coded as those of a float stream
	layout
	count, zero uint64
	buckets     []uint64 // positive ones, then negative
}

// layout is what a histogram says of its buckets.
type layout struct {
	float      bool
	schema     int32
	zeroT      uint64 // bits of the zero threshold
	pos, neg   []histogram.Span
	custom     []float64
	npos, nneg int // number of buckets
}

// equal reports whether two layouts are the same, bit for bit.
func (l *layout) equal(x *layout) bool {
	return l.zeroT == x.zeroT && l.npos == x.npos && l.nneg == x.nneg && l.sameBounds(x) &&
		slices.Equal(l.pos, x.pos) && slices.Equal(l.neg, x.neg)
}

// sameBounds reports whether a bucket of some index is the same bucket in both layouts.
func (l *layout) sameBounds(x *layout) bool {
	sameBits := func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
	return l.float == x.float && l.schema == x.schema && slices.EqualFunc(l.custom, x.custom, sameBits)
}

// stepTime moves the state to time t and returns the change of the delta. The first sample's time and the
// second's distance count as a change from zero.
func (s *histState) stepTime(t int64) (dod int64) {
	delta := uint64(t - s.stream.t)
	dod = int64(delta - s.stream.delta)
	s.stream.t, s.stream.delta = t, delta
	if s.n == 0 {
		s.stream.delta = 0
	}
	return dod
}

// relay puts a new layout in force. A bucket that both layouts have keeps its word, so that a bucket that
// appears does not make all others start from zero; of another kind, schema or custom values none is kept, and
// of another kind the counts neither. The new buckets are in the memory given, which is all 0 and of their number.
func (s *histState) relay(l layout, buckets []uint64) {
	if l.sameBounds(&s.layout) {
		keepWords(buckets[:l.npos], l.pos, s.buckets[:s.npos], s.pos)
		keepWords(buckets[l.npos:], l.neg, s.buckets[s.npos:], s.neg)
	}
	if l.float != s.float {
		s.count, s.zero = 0, 0
	}
	s.layout, s.buckets = l, buckets
}

// keepWords copies to each bucket of dst the word of the bucket of src with the same index. Spans that do not
// ascend or do not match their buckets are no harm: both sides of a stream then agree on the same nonsense.
func keepWords(dst []uint64, dstSpans []histogram.Span, src []uint64, srcSpans []histogram.Span) {
	to, from := spanWalk{spans: dstSpans}, spanWalk{spans: srcSpans}
	i, at := 0, from.next()
	for k := range dst {
		want := to.next()
		for i < len(src) && at < want {
			i, at = i+1, from.next()
		}
		if i < len(src) && at == want {
			dst[k] = src[i]
		}
	}
}

// spanWalk returns the indices of buckets one after the other; behind the last span they go on without a gap.
type spanWalk struct {
	spans []histogram.Span
	left  uint32 // buckets left in the span being walked
	index int64
}

func (w *spanWalk) next() int64 {
	for w.left == 0 && len(w.spans) > 0 {
		w.index += int64(w.spans[0].Offset)
		w.left = w.spans[0].Length
		w.spans = w.spans[1:]
	}
	if w.left > 0 {
		w.left--
	}
	w.index++
	return w.index - 1
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
func (e *HistEncoder) LastT() int64 { return e.s.stream.t }

// Reset makes the encoder that of an empty stream.
func (e *HistEncoder) Reset() { *e = HistEncoder{cur: e.cur[:0]} }

// RestoreHistEncoder reads a stream of n samples and returns the encoder to go on appending with.
func RestoreHistEncoder(stream []byte, n int) (*HistEncoder, error) {
	d := histDecoder{c: decbuf.Buf{B: stream}, mint: math.MaxInt64, maxt: math.MaxInt64}
	if err := d.run(n, nil); err != nil {
		return nil, err
	}
	return &HistEncoder{s: d.s}, nil
}

// histSample is the view of a histogram of either kind that the encoder works on.
type histSample struct {
	layout
	hint             byte
	sum, count, zero uint64
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
	flags := in.hint
	if in.float {
		flags |= histFloat
	}
	bare := in.bare()
	switch {
	case bare:
		buf = append(buf, flags|histBare)
	case in.equal(&s.layout):
		buf = append(buf, flags)
	default:
		buf = in.layout.appendTo(append(buf, flags|histLayout))
		in.pos, in.neg, in.custom = slices.Clone(in.pos), slices.Clone(in.neg), slices.Clone(in.custom)
		s.relay(in.layout, make([]uint64, in.npos+in.nneg))
	}
	// From here on bits, which start on a byte and are padded to one.
	w := &s.stream
	w.free = 0
	if s.n == 0 {
		w.lead = noWindow
	}
	buf = w.putDod(buf, s.stepTime(t))
	buf = w.putValue(buf, in.sum)
	s.n++
	if bare {
		return buf
	}
	coder := coderOf(flags)
	buf = coder.put(&w.free, buf, in.count, s.count)
	buf = coder.put(&w.free, buf, in.zero, s.zero)
	for i, x := range e.cur {
		buf = coder.put(&w.free, buf, x, s.buckets[i])
	}
	s.count, s.zero = in.count, in.zero
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
		layout: layout{
			schema: h.Schema, zeroT: math.Float64bits(h.ZeroThreshold), pos: h.PositiveSpans, neg: h.NegativeSpans,
			custom: h.CustomValues, npos: len(h.PositiveBuckets), nneg: len(h.NegativeBuckets),
		},
		hint: byte(h.CounterResetHint) & histHint, sum: math.Float64bits(h.Sum), count: h.Count, zero: h.ZeroCount,
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
		layout: layout{
			float: true, schema: h.Schema, zeroT: math.Float64bits(h.ZeroThreshold), pos: h.PositiveSpans, neg: h.NegativeSpans,
			custom: h.CustomValues, npos: len(h.PositiveBuckets), nneg: len(h.NegativeBuckets),
		},
		hint: byte(h.CounterResetHint) & histHint, sum: math.Float64bits(h.Sum),
		count: math.Float64bits(h.Count), zero: math.Float64bits(h.ZeroCount),
	}
}

// appendTo writes a layout.
func (l *layout) appendTo(buf []byte) []byte {
	buf = binary.AppendVarint(buf, int64(l.schema))
	buf = binary.BigEndian.AppendUint64(buf, l.zeroT)
	for _, spans := range [][]histogram.Span{l.pos, l.neg} {
		buf = binary.AppendUvarint(buf, uint64(len(spans)))
		for _, sp := range spans {
			buf = binary.AppendVarint(buf, int64(sp.Offset))
			buf = binary.AppendUvarint(buf, uint64(sp.Length))
		}
	}
	buf = binary.AppendUvarint(buf, uint64(len(l.custom)))
	for _, v := range l.custom {
		buf = binary.BigEndian.AppendUint64(buf, math.Float64bits(v))
	}
	buf = binary.AppendUvarint(buf, uint64(l.npos))
	return binary.AppendUvarint(buf, uint64(l.nneg))
}
