// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
)

// histograms makes native ones: counters with changes of schema and resets, gauges, custom buckets, series that are
// now floats and now histograms.
func (m *dataMaker) histograms() {
	for _, job := range []string{"a", "b"} {
		for i := range 2 {
			m.add("histogram", m.nativeCounter(), m.whole(), "h", "job", job, "instance", strconv.Itoa(i))
		}
		m.add("gaugehistogram", m.nativeGauge(), m.whole(), "hg", "job", job)
		m.add("histogram", m.customBuckets(), m.whole(), "c", "job", job, "instance", "0")
		m.add("", m.mixed(), m.whole(), "mix", "job", job)
	}
	if m.chance(0.5) {
		m.add("histogram", m.customBuckets(), m.whole(), "h", "job", "c", "instance", "0")
	}
}

// observed is what a native histogram has counted.
type observed struct {
	schema             int32
	threshold          float64
	zero               float64
	positive, negative map[int32]float64
	custom             []float64
	sum                float64
	nans               float64
}

func (m *dataMaker) observe(o *observed, width int32, n int) {
	for range n {
		w := float64(1 + m.rng.IntN(3))
		idx := m.rng.Int32N(width)
		switch {
		case o.custom != nil:
			o.positive[min(idx, int32(len(o.custom)))] += w
		case m.chance(0.1):
			o.zero += w
		case m.chance(0.2):
			o.negative[idx-2] += w
		default:
			o.positive[idx-2] += w
		}
		o.sum += w * (float64(idx) - 1.5)
	}
}

func spans(buckets map[int32]float64) (sp []histogram.Span, counts []float64) {
	next := int32(0)
	for i, idx := range slices.Sorted(maps.Keys(buckets)) {
		if i == 0 || idx != next {
			sp = append(sp, histogram.Span{Offset: idx - next, Length: 0})
		}
		sp[len(sp)-1].Length++
		counts = append(counts, buckets[idx])
		next = idx + 1
	}
	return sp, counts
}

func (o *observed) float() *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{Schema: o.schema, ZeroThreshold: o.threshold, ZeroCount: o.zero, Sum: o.sum}
	h.PositiveSpans, h.PositiveBuckets = spans(o.positive)
	if o.custom != nil {
		h.CustomValues = o.custom
	} else {
		h.NegativeSpans, h.NegativeBuckets = spans(o.negative)
	}
	h.Count = h.ZeroCount + o.nans
	for _, c := range h.PositiveBuckets {
		h.Count += c
	}
	for _, c := range h.NegativeBuckets {
		h.Count += c
	}
	if o.nans > 0 {
		h.Sum = math.NaN()
	}
	return h
}

// whole is float with whole counts, for histograms that have no others.
func (o *observed) whole() *histogram.Histogram {
	f := o.float()
	h := &histogram.Histogram{
		Schema: f.Schema, ZeroThreshold: f.ZeroThreshold, ZeroCount: uint64(f.ZeroCount), Sum: f.Sum, Count: uint64(f.Count),
		PositiveSpans: f.PositiveSpans, NegativeSpans: f.NegativeSpans, CustomValues: f.CustomValues,
		PositiveBuckets: deltas(f.PositiveBuckets), NegativeBuckets: deltas(f.NegativeBuckets),
	}
	return h
}

func deltas(counts []float64) []int64 {
	var d []int64
	last := int64(0)
	for _, c := range counts {
		d = append(d, int64(c)-last)
		last = int64(c)
	}
	return d
}

func (m *dataMaker) newObserved() *observed {
	return &observed{
		schema: int32(m.rng.IntN(4)), threshold: []float64{0, 0.001, 0.5}[m.rng.IntN(3)],
		positive: map[int32]float64{}, negative: map[int32]float64{},
	}
}

// sample gives a histogram as float or whole counts.
func (m *dataMaker) sample(o *observed, whole bool) Sample {
	if whole {
		return Sample{H: o.whole()}
	}
	return Sample{FH: o.float()}
}

func (m *dataMaker) nativeCounter() func(int) Sample {
	o := m.newObserved()
	whole, restless, nans := m.chance(0.6), m.chance(0.5), m.chance(0.1)
	return func(int) Sample {
		if restless && m.chance(0.05) {
			o = m.newObserved()
		}
		if restless && m.chance(0.01) {
			return Sample{FH: &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}}
		}
		m.observe(o, 6, m.rng.IntN(4))
		if nans && m.chance(0.1) {
			o.nans++
		}
		return m.sample(o, whole)
	}
}

func (m *dataMaker) nativeGauge() func(int) Sample {
	whole, steady := m.chance(0.5), m.chance(0.5)
	first := m.newObserved()
	return func(int) Sample {
		o := m.newObserved()
		if steady {
			o.schema, o.threshold = first.schema, first.threshold
		}
		m.observe(o, 5, m.rng.IntN(6))
		x := m.sample(o, whole)
		if x.H != nil {
			x.H.CounterResetHint = histogram.GaugeType
		} else {
			x.FH.CounterResetHint = histogram.GaugeType
		}
		return x
	}
}

func (m *dataMaker) customBuckets() func(int) Sample {
	bounds := [][]float64{{1, 2, 5, 10}, {1, 2, 5, 10}, {2, 5}, {1, 3, 5, 10}, {7}}
	fresh := func() *observed {
		return &observed{schema: histogram.CustomBucketsSchema, positive: map[int32]float64{}, custom: bounds[m.rng.IntN(len(bounds))]}
	}
	o := fresh()
	whole, restless := m.chance(0.6), m.chance(0.5)
	return func(int) Sample {
		if restless && m.chance(0.05) {
			o = fresh()
		}
		m.observe(o, 5, 1+m.rng.IntN(4))
		return m.sample(o, whole)
	}
}

func (m *dataMaker) mixed() func(int) Sample {
	number := m.counter()
	native := []func(int) Sample{m.nativeCounter(), m.customBuckets()}[m.rng.IntN(2)]
	floats := m.chance(0.5)
	return func(i int) Sample {
		if m.chance(0.15) {
			floats = !floats
		}
		if floats {
			return number(i)
		}
		return native(i)
	}
}
