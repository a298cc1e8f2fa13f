// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// denseIncrease is increase for a window of related layouts: the difference of its last and its first histogram and
// what was lost at resets, without empty buckets, not yet multiplied by anything; nil where one of these has a bucket
// that the last has not.
func (m *mixed) denseIncrease(l, end int) (*histogram.FloatHistogram, error) {
	h := &m.h
	first, last := h.h[l], h.h[end-1]
	var resets []int32
	if m.f.fn.counter {
		var err error
		if resets, err = m.resetsIn(l, end); err != nil {
			return nil, err
		}
		if len(resets) > 0 && int(resets[0]) == l+1 {
			// The first was left behind by a reset: what counts is all of the last.
			first, resets = nil, resets[1:]
		}
	} else if first.CounterResetHint != histogram.GaugeType || last.CounterResetHint != histogram.GaugeType {
		m.f.noteNotGauge()
	}
	out, err := m.batch.MakeHistogram()
	if err != nil {
		return nil, err
	}
	*out = histogram.FloatHistogram{
		CounterResetHint: histogram.GaugeType, Schema: last.Schema, CustomValues: last.CustomValues,
		ZeroThreshold: last.ZeroThreshold, ZeroCount: last.ZeroCount, Count: last.Count, Sum: last.Sum,
	}
	if first != nil {
		out.ZeroCount -= first.ZeroCount
		out.Count -= first.Count
		out.Sum -= first.Sum
	}
	for _, r := range resets {
		out.ZeroCount += h.h[r-1].ZeroCount
		out.Count += h.h[r-1].Count
		out.Sum += h.h[r-1].Sum
	}
	for _, s := range [...]side{positive, negative} {
		buckets, spans, ok, err := m.denseBuckets(s, first, last, resets)
		if !ok || err != nil {
			return nil, err
		}
		if s == positive {
			out.PositiveBuckets, out.PositiveSpans = buckets, spans
		} else {
			out.NegativeBuckets, out.NegativeSpans = buckets, spans
		}
	}
	return out, nil
}

// side is one half of the buckets of a histogram.
type side bool

const (
	positive side = true
	negative side = false
)

// number is that of the side, for who keeps something of either.
func (s side) number() int {
	if s == positive {
		return 0
	}
	return 1
}

func (s side) buckets(h *histogram.FloatHistogram) []float64 {
	if s == positive {
		return h.PositiveBuckets
	}
	return h.NegativeBuckets
}

func (s side) spans(h *histogram.FloatHistogram) []histogram.Span {
	if s == positive {
		return h.PositiveSpans
	}
	return h.NegativeSpans
}

// denseBuckets is one half of denseIncrease; ok is false where there is none.
func (m *mixed) denseBuckets(s side, first, last *histogram.FloatHistogram, resets []int32) (out []float64, spans []histogram.Span, ok bool, err error) {
	a := s.buckets(last)
	if out, err = m.batch.MakeBuckets(len(a)); err != nil {
		return nil, nil, false, err
	}
	switch {
	case first == nil:
		copy(out, a)
	case same(s.spans(first), s.spans(last)):
		b := s.buckets(first)[:len(a)]
		for i, x := range a {
			out[i] = x - b[i]
		}
	default:
		copy(out, a)
		if ok, err = m.combine(s, out, last, first, true); !ok || err != nil {
			return nil, nil, false, err
		}
	}
	for _, r := range resets {
		if ok, err = m.combine(s, out, last, m.h.h[r-1], false); !ok || err != nil {
			return nil, nil, false, err
		}
	}
	if len(a) == 0 {
		return nil, nil, true, nil
	}
	spans = s.spans(last)
	empty := 0
	for _, x := range out {
		if x == 0 {
			empty++
		}
	}
	if empty > 0 {
		if out, spans, err = m.compact(out, spans, len(out)-empty); err != nil {
			return nil, nil, false, err
		}
	}
	spans, err = m.batch.ShareSpans(s.number(), spans)
	return out, spans, err == nil, err
}

// combine adds the buckets of h to out, which are in the layout of last, or takes them off; false where that has not all
// of them.
func (m *mixed) combine(s side, out []float64, last, h *histogram.FloatHistogram, subtract bool) (done bool, err error) {
	var ok bool
	if m.places, err = room(&m.memory, m.places, len(s.spans(h)), placeBytes); err != nil {
		return false, err
	}
	if m.places, ok = vector.LocateBuckets(m.places[:0], s.spans(last), s.spans(h)); !ok {
		return false, nil
	}
	buckets := s.buckets(h)
	for _, r := range m.places {
		to := out[r.A : r.A+r.N]
		if subtract {
			for i, x := range buckets[r.B : r.B+r.N] {
				to[i] -= x
			}
			continue
		}
		for i, x := range buckets[r.B : r.B+r.N] {
			to[i] += x
		}
	}
	return true, nil
}

// placeBytes is what a run of buckets takes.
const placeBytes = 24

// spanBytes is what a span takes.
const spanBytes = 8

// compact leaves out empty buckets, in place; left are not empty. The spans returned are scratch.
func (m *mixed) compact(buckets []float64, spans []histogram.Span, left int) ([]float64, []histogram.Span, error) {
	compacted, err := room(&m.memory, m.spans, left, spanBytes)
	if err != nil {
		return nil, nil, err
	}
	m.spans = compacted
	compacted = compacted[:0]
	read, write := 0, 0
	var index, behind int32 // of buckets: this one, and the one behind the last that was kept
	for _, s := range spans {
		index += s.Offset
		for range s.Length {
			if x := buckets[read]; x != 0 {
				buckets[write] = x
				write++
				if n := len(compacted); n > 0 && index == behind {
					compacted[n-1].Length++
				} else {
					compacted = append(compacted, histogram.Span{Offset: index - behind, Length: 1})
				}
				behind = index + 1
			}
			read++
			index++
		}
	}
	return buckets[:write], compacted, nil
}

// denseSum is sum_over_time, or avg_over_time, of histograms of one plain layout; nil where a sum is not finite.
func (m *mixed) denseSum(window []*histogram.FloatHistogram, avg bool) (*histogram.FloatHistogram, error) {
	first := window[0]
	out, err := m.batch.MakeHistogram()
	if err != nil {
		return nil, err
	}
	*out = *first
	out.CounterResetHint = hintOfSum(window)
	n := float64(len(window))
	if !avg {
		n = 1
	}
	var zero, count, sum float64
	for _, h := range window[1:] {
		out.ZeroCount, zero = add(out.ZeroCount, zero, h.ZeroCount)
		out.Count, count = add(out.Count, count, h.Count)
		out.Sum, sum = add(out.Sum, sum, h.Sum)
	}
	out.ZeroCount = out.ZeroCount/n + zero/n
	out.Count = out.Count/n + count/n
	out.Sum = out.Sum/n + sum/n
	if x := out.ZeroCount + out.Count + out.Sum; x-x != 0 {
		return nil, nil
	}
	ok := true
	for _, s := range [...]side{positive, negative} {
		buckets, finite, err := m.denseSums(s, window, n)
		if err != nil {
			return nil, err
		}
		spans, err := m.batch.CopySpans(s.spans(first))
		if err != nil {
			return nil, err
		}
		ok = ok && finite
		if s == positive {
			out.PositiveBuckets, out.PositiveSpans = buckets, spans
		} else {
			out.NegativeBuckets, out.NegativeSpans = buckets, spans
		}
	}
	if !ok {
		return nil, nil
	}
	return out, nil
}

// denseSums is one half of denseSum.
func (m *mixed) denseSums(s side, window []*histogram.FloatHistogram, n float64) ([]float64, bool, error) {
	sums, err := m.batch.MakeBuckets(len(s.buckets(window[0])))
	if err != nil {
		return nil, false, err
	}
	if m.rests, err = room(&m.memory, m.rests, len(sums), 8); err != nil {
		return nil, false, err
	}
	copy(sums, s.buckets(window[0]))
	rests := m.rests[:len(sums)]
	clear(rests)
	for _, h := range window[1:] {
		for i, x := range s.buckets(h)[:len(sums)] {
			sums[i], rests[i] = add(sums[i], rests[i], x)
		}
	}
	var check float64
	for i, x := range sums {
		sums[i] = x/n + rests[i]/n
		check += sums[i] - sums[i]
	}
	return sums, check == 0, nil
}

// hintOfSum returns the hint of the sum of a window, as Prometheus' additions come to it one after the other. The last
// of them adds the compensation, whose hint is one of those on the way and so changes nothing.
func hintOfSum(window []*histogram.FloatHistogram) histogram.CounterResetHint {
	hint := window[0].CounterResetHint
	for _, h := range window[1:] {
		hint = addHints(hint, h.CounterResetHint)
	}
	return hint
}

func addHints(a, b histogram.CounterResetHint) histogram.CounterResetHint {
	switch {
	case a == b:
		return a
	case a == histogram.GaugeType || b == histogram.GaugeType:
		return histogram.GaugeType
	default:
		return histogram.UnknownCounterReset
	}
}
