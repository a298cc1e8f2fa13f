// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// maker makes random series.
type maker struct {
	*rand.Rand
	last *[]int64 // times of the series made last
}

func newMaker(seed uint64) maker { return maker{rand.New(rand.NewPCG(seed, 7)), new([]int64)} }

func (m maker) one(n int) bool { return m.IntN(n) == 0 }

// times returns the times of samples up to end, in one of the ways in which they come, or those of the series before.
func (m maker) times(end int64) []int64 {
	if len(*m.last) == 0 || !m.one(3) {
		*m.last = m.newTimes(end)
	}
	return *m.last
}

func (m maker) newTimes(end int64) []int64 {
	interval := []int64{1000, 10_000, 15_000, 30_000, 60_000}[m.IntN(5)]
	t := m.Int64N(interval)
	jitter := m.one(3)
	gaps := m.one(3)
	var all []int64
	for t <= end {
		x := t
		if jitter {
			x += m.Int64N(interval/2) + 1
		}
		all = append(all, x)
		t += interval
		if gaps && m.one(20) {
			t += m.Int64N(40) * interval
		}
	}
	return all
}

// floats is the ways in which values of a series run.
var floats = map[string]func(m maker) func() float64{
	"counter": func(m maker) func() float64 {
		x := float64(m.IntN(1000))
		return func() float64 {
			if m.one(40) {
				x = 0
			}
			x += float64(m.IntN(50))
			return x
		}
	},
	"fraction": func(m maker) func() float64 {
		x := 0.0
		return func() float64 {
			if m.one(60) {
				x = 0
			}
			x += m.ExpFloat64() / 3
			return x
		}
	},
	"gauge":    func(m maker) func() float64 { return func() float64 { return m.NormFloat64()*3 + 1 } },
	"decimal":  func(m maker) func() float64 { return func() float64 { return float64(m.IntN(10000)) / 100 } },
	"small":    func(m maker) func() float64 { return func() float64 { return float64(m.IntN(4)) } },
	"constant": func(m maker) func() float64 { x := m.NormFloat64(); return func() float64 { return x } },
	"zero": func(m maker) func() float64 {
		return func() float64 { return []float64{0, math.Copysign(0, -1)}[m.IntN(2)] }
	},
	"holes": func(m maker) func() float64 {
		return func() float64 {
			if m.one(4) {
				return math.NaN()
			}
			return m.NormFloat64()
		}
	},
	"nothing": func(maker) func() float64 { return math.NaN },
	"infinite": func(m maker) func() float64 {
		return func() float64 {
			switch m.IntN(30) {
			case 0:
				return math.Inf(1)
			case 1:
				return math.Inf(-1)
			}
			return m.NormFloat64()
		}
	},
	"upwards": func(m maker) func() float64 {
		return func() float64 {
			if m.one(30) {
				return math.Inf(1)
			}
			return m.Float64()
		}
	},
	"huge": func(m maker) func() float64 {
		return func() float64 { return []float64{1e308, -1e308, 1.5e308, 3, -1e217, 1e220}[m.IntN(6)] }
	},
	"cancelling": func(m maker) func() float64 {
		x := 0.0
		return func() float64 {
			if x != 0 {
				x = -x
				defer func() { x = 0 }()
				return x
			}
			x = math.Exp(m.NormFloat64() * 40)
			return x
		}
	},
	"tiny": func(m maker) func() float64 { return func() float64 { return float64(m.IntN(9)) * 5e-324 } },
}

// float makes a series of floats of one sort.
func (m maker) float(sort string, end int64) []columntest.Sample {
	next := floats[sort](m)
	stale := m.one(2)
	var all []columntest.Sample
	for _, t := range m.times(end) {
		x := columntest.Sample{T: t, V: next()}
		if stale && m.one(50) {
			x.V = math.Float64frombits(value.StaleNaN)
		}
		all = append(all, x)
	}
	return all
}

// starts gives samples start timestamps.
func (m maker) starts(s []columntest.Sample) {
	start := int64(1)
	way := m.IntN(3)
	for i := range s {
		switch {
		case way == 1 && i > 0: // deltas
			start = s[i-1].T
		case m.one(15):
			start = s[i].T - m.Int64N(20_000)
		case m.one(40):
			start = s[i].T + 5 - m.Int64N(6)
		}
		s[i].ST = start
		if m.one(20) {
			s[i].ST = 0
		}
	}
}

// histogram makes a series of native histograms; mixed: with floats among them.
func (m maker) histogram(end int64, mixed bool) []columntest.Sample {
	custom, gauge := m.one(3), m.one(4)
	twist := twists[m.IntN(len(twists))]
	schema := int32(m.IntN(5))
	counts := make([]float64, 6)
	var all []columntest.Sample
	float := false
	for _, t := range m.times(end) {
		if m.one(30) {
			clear(counts)
		}
		if m.one(60) {
			schema = int32(m.IntN(5))
		}
		if m.one(150) {
			custom = !custom
		}
		for i := range counts {
			counts[i] += float64(m.IntN(4)) / 2
		}
		if mixed && m.one(12) {
			float = !float
		}
		x := columntest.Sample{T: t}
		switch {
		case float:
			x.V = float64(m.IntN(100))
		default:
			x.FH = m.of(counts, schema, custom, gauge)
			twist(m, x.FH)
		}
		all = append(all, x)
	}
	return all
}

// twists are what can be strange about the histograms of a series.
var twists = []func(m maker, h *histogram.FloatHistogram){
	func(maker, *histogram.FloatHistogram) {},
	func(maker, *histogram.FloatHistogram) {},
	func(m maker, h *histogram.FloatHistogram) { // sums overflow, now and then
		if m.one(3) {
			h.Sum = 1e308
			h.PositiveBuckets[1] = 1.5e308
		}
	},
	func(m maker, h *histogram.FloatHistogram) { // an observation of NaN
		if m.one(4) {
			h.Sum = math.NaN()
		}
	},
	func(_ maker, h *histogram.FloatHistogram) { // spans that touch, and empty ones
		if !h.UsesCustomBuckets() {
			h.PositiveSpans = []histogram.Span{{Offset: 1, Length: 2}, {Offset: 0, Length: 1}, {Offset: 3, Length: 0}, {Offset: 1, Length: 3}}
		}
	},
	appearing, appearing,
	func(_ maker, h *histogram.FloatHistogram) { // buckets within the zero bucket
		if !h.UsesCustomBuckets() {
			h.ZeroThreshold = 3
		}
	},
}

// appearing leaves out buckets until they have counted for a while, as clients do before the first observation.
func appearing(_ maker, h *histogram.FloatHistogram) {
	for i, x := range h.PositiveBuckets {
		h.PositiveBuckets[i] = max(0, x-float64(4*i))
	}
	for i, x := range h.NegativeBuckets {
		h.NegativeBuckets[i] = max(0, x-float64(9*(1-i)))
	}
	h.Compact(0)
}

func (m maker) of(counts []float64, schema int32, custom, gauge bool) *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{Schema: schema, PositiveBuckets: append([]float64(nil), counts...)}
	for i, c := range counts {
		h.Count += c
		h.Sum += c * float64(i)
	}
	h.PositiveSpans = []histogram.Span{{Offset: 1, Length: 2}, {Offset: 2, Length: 4}}
	switch {
	case custom:
		h.Schema = histogram.CustomBucketsSchema
		h.PositiveSpans = []histogram.Span{{Offset: 0, Length: 6}}
		h.CustomValues = []float64{1, 2, 3, 4, 5}
		if m.one(25) {
			h.CustomValues = []float64{1, 2.5, 3, 4, 6}
		}
	default:
		h.ZeroThreshold = 0.001
		h.ZeroCount = counts[0]
		h.Count += h.ZeroCount
		if m.one(30) {
			h.ZeroThreshold = 0.01
		}
		h.NegativeSpans = []histogram.Span{{Offset: -1, Length: 2}}
		h.NegativeBuckets = []float64{counts[1], counts[3]}
		h.Count += counts[1] + counts[3]
	}
	switch {
	case gauge && !m.one(50):
		h.CounterResetHint = histogram.GaugeType
	case m.one(100):
		h.CounterResetHint = histogram.CounterReset
	case m.one(100):
		h.CounterResetHint = histogram.NotCounterReset
	}
	return h
}

// data makes a data set: a metric of all sorts of series.
func (m maker) data(end int64, starts bool) []series {
	var all []series
	add := func(sort string, s []columntest.Sample) {
		if starts {
			m.starts(s)
		}
		all = append(all, series{ls: labels.FromStrings(labels.MetricName, "m", "i", fmt.Sprint(len(all)), "sort", sort), samples: s})
	}
	for _, sort := range sorts {
		add(sort, m.float(sort, end))
	}
	for range 5 {
		add("histogram", m.histogram(end, false))
		add("mixed", m.histogram(end, true))
	}
	return all
}

var sorts = []string{
	"counter", "fraction", "gauge", "decimal", "small", "constant", "zero", "holes", "nothing", "infinite", "upwards",
	"huge", "cancelling", "tiny",
}
