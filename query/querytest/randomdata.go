// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// RandomData makes a data set from seed: some 80 series of 17 metrics whose label dimensions overlap, so that joins
// of every cardinality happen, with all that is awkward about samples: see the methods of dataMaker.
func RandomData(seed uint64) DataSet {
	rng := rand.New(rand.NewPCG(seed, 2))
	m := &dataMaker{
		rng: rng, n: 30 + rng.IntN(60),
		base:     []int64{0, 0, 300_000, 1_700_000_000_000, 1_700_000_001_234}[rng.IntN(5)],
		interval: []int64{10_000, 15_000, 30_000, 60_000}[rng.IntN(4)],
		typed:    rng.IntN(3) == 0,
	}
	m.set.Interval = m.interval
	m.counters()
	m.gauges()
	m.histograms()
	m.classic()
	m.infos()
	m.passing()
	m.set.finish()
	return m.set
}

type dataMaker struct {
	rng            *rand.Rand
	set            DataSet
	base, interval int64
	n              int
	typed          bool // metrics have __type__ and __unit__ labels
}

func (m *dataMaker) chance(p float64) bool { return m.rng.Float64() < p }

// add makes a series of the times and values that are drawn; kind is its __type__.
func (m *dataMaker) add(kind string, next func(i int) Sample, times []int64, nameAndLabels ...string) {
	b := labels.NewBuilder(labels.EmptyLabels())
	b.Set(labels.MetricName, nameAndLabels[0])
	for i := 1; i < len(nameAndLabels); i += 2 {
		b.Set(nameAndLabels[i], nameAndLabels[i+1])
	}
	if m.typed && kind != "" {
		b.Set("__type__", kind)
		if m.chance(0.5) {
			b.Set("__unit__", []string{"seconds", "bytes"}[m.rng.IntN(2)])
		}
	}
	samples := make([]Sample, 0, len(times))
	stale := m.chance(0.5)
	for i, t := range times {
		x := next(i)
		x.T = t
		if stale && m.chance(0.04) {
			x = Sample{T: t, V: math.Float64frombits(value.StaleNaN)}
		}
		samples = append(samples, x)
	}
	m.startTimes(samples)
	m.set.Series = append(m.set.Series, Series{b.Labels(), samples})
}

// startTimes gives the samples no start timestamps, those of a cumulative or of a delta series, or wrong ones.
func (m *dataMaker) startTimes(samples []Sample) {
	if len(samples) == 0 {
		return
	}
	st := max(samples[0].T-m.rng.Int64N(2*m.interval), 1)
	switch m.rng.IntN(5) {
	case 0: // cumulative
		for i := range samples {
			if i > 0 && (samples[i].V < samples[i-1].V || m.chance(0.03)) {
				st = samples[i-1].T + m.rng.Int64N(samples[i].T-samples[i-1].T+1)
			}
			samples[i].ST = st
		}
	case 1: // delta
		for i := range samples {
			samples[i].ST = st
			st = samples[i].T
		}
	case 2: // wrong: in the future, overlapping, missing at times
		for i := range samples {
			if m.chance(0.6) {
				samples[i].ST = max(samples[i].T-m.rng.Int64N(5*m.interval)+m.interval/2, 0)
			}
		}
	}
}

// times draws the times of a series between the shares from and to of the whole: regular, jittered, with gaps, with
// samples a millisecond apart.
func (m *dataMaker) times(from, to float64) []int64 {
	first, last := int(from*float64(m.n)), int(to*float64(m.n))
	style := m.rng.IntN(4)
	var ts []int64
	skip := 0
	for i := first; i < last; i++ {
		if skip > 0 {
			skip--
			continue
		}
		t := m.base + int64(i)*m.interval
		if style == 1 || style == 3 {
			t += m.rng.Int64N(m.interval / 3)
		}
		if style >= 2 && m.chance(0.05) {
			skip = 1 + m.rng.IntN(8)
		}
		ts = append(ts, t)
		if style == 2 && m.chance(0.05) {
			ts = append(ts, t+1)
		}
	}
	return ts
}

func (m *dataMaker) whole() []int64 { return m.times(0, 1) }

func (m *dataMaker) counter() func(int) Sample {
	step := []float64{1, 1, 0.1, 1e3, 1e12}[m.rng.IntN(5)]
	whole, resets := m.chance(0.5), m.chance(0.6)
	v := 0.0
	if m.chance(0.3) {
		v = m.rng.Float64() * 1e4
	}
	return func(int) Sample {
		inc := m.rng.ExpFloat64() * step * 5
		if whole {
			inc = math.Floor(inc)
		}
		if v += inc; resets && m.chance(0.04) {
			v = inc
		}
		return Sample{V: v}
	}
}

func (m *dataMaker) gauge() func(int) Sample {
	v, whole := m.rng.NormFloat64()*10, m.chance(0.4)
	hold := m.chance(0.3)
	return func(int) Sample {
		if !hold || m.chance(0.3) {
			v += m.rng.NormFloat64()
		}
		if whole {
			v = math.Round(v)
		}
		return Sample{V: v}
	}
}

// extreme draws from the values on which arithmetic breaks, mostly of the same few.
func (m *dataMaker) extreme() func(int) Sample {
	all := []float64{
		math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0, 1, -1, 5e-324, 1e-308, 1e300, -1e300, 1e308, -1e308,
		math.MaxFloat64, 1e17, 3, 0.1, 1e-300,
	}
	some := make([]float64, 2+m.rng.IntN(4))
	for i := range some {
		some[i] = all[m.rng.IntN(len(all))]
	}
	return func(int) Sample {
		if m.chance(0.3) {
			return Sample{V: some[m.rng.IntN(len(some))]}
		}
		return Sample{V: math.Floor(m.rng.NormFloat64() * 4)}
	}
}

func (m *dataMaker) counters() {
	for _, job := range []string{"a", "b"} {
		for i := range 3 {
			instance := strconv.Itoa(i)
			for _, code := range []string{"200", "500"} {
				if m.chance(0.8) {
					m.add("counter", m.counter(), m.whole(), "m_total", "job", job, "instance", instance, "code", code)
				}
			}
			if m.chance(0.8) {
				m.add("counter", m.counter(), m.whole(), "n_total", "job", job, "instance", instance)
			}
		}
	}
}

func (m *dataMaker) gauges() {
	for _, job := range []string{"a", "b"} {
		for i := range 3 {
			if m.chance(0.8) {
				m.add("gauge", m.gauge(), m.whole(), "g", "job", job, "instance", strconv.Itoa(i))
			}
		}
		m.add("gauge", m.gauge(), m.whole(), "u", "job", job, "ver", []string{"1", "2"}[m.rng.IntN(2)])
		if m.chance(0.3) {
			m.add("gauge", m.gauge(), m.whole(), "u", "job", job, "ver", "3")
		}
		m.add("", m.gauge(), m.times(m.rng.Float64()*0.7, 1), "sparse", "job", job)
	}
	for i := range 4 {
		m.add("", m.extreme(), m.whole(), "x", "instance", strconv.Itoa(i%3), "k", strconv.Itoa(i))
	}
	for i := range 3 {
		v := m.rng.IntN(3)
		m.add("gauge", func(int) Sample { return Sample{V: float64(m.rng.IntN(3) + v)} }, m.whole(), "i", "job", "a", "instance", strconv.Itoa(i))
	}
	m.add("", m.gauge(), m.whole(), "my.metric", "a.b", "x", "job", "a")
	m.add("", m.gauge(), m.whole(), "my.metric", "a.b", "y", "job", "b")
}

// classic makes classic histograms: with counts that go down from one bucket to the next, buckets that are missing,
// an le that is no number, and two series whose le are the same number.
func (m *dataMaker) classic() {
	for _, job := range []string{"a", "b"} {
		for _, instance := range []string{"0", "1"} {
			bounds := []string{"0.1", "0.5", "1", "5", "+Inf"}
			if m.chance(0.2) {
				bounds = append(bounds, "wrong")
			}
			if m.chance(0.2) {
				bounds = append(bounds, "1.0")
			}
			if m.chance(0.2) {
				bounds = append(bounds, "-2")
			}
			times := m.whole()
			speed := m.rng.Float64() * 10
			for i, le := range bounds {
				if m.chance(0.05) {
					continue
				}
				v, inc := 0.0, speed*float64(i+1)
				dips := m.chance(0.2)
				next := func(int) Sample {
					v += math.Floor(m.rng.Float64() * inc)
					if dips && m.chance(0.1) {
						v = math.Floor(v / 2)
					}
					return Sample{V: v}
				}
				m.add("histogram", next, times, "b_bucket", "job", job, "instance", instance, "le", le)
			}
			m.add("histogram", m.counter(), times, "b_count", "job", job, "instance", instance)
			m.add("histogram", m.counter(), times, "b_sum", "job", job, "instance", instance)
		}
	}
	if m.chance(0.4) {
		m.add("histogram", m.nativeCounter(), m.whole(), "b_bucket", "job", "a", "instance", "0")
	}
}

// infos makes what info() joins with: one per target, some replaced on the way, some in conflict.
func (m *dataMaker) infos() {
	one := func(int) Sample { return Sample{V: 1} }
	for _, job := range []string{"a", "b"} {
		for i := range 3 {
			instance := strconv.Itoa(i)
			change := 1.0
			if m.chance(0.4) {
				change = m.rng.Float64()
				m.add("", one, m.times(change, 1), "target_info", "job", job, "instance", instance, "ver", "2", "env", "prod")
			}
			if m.chance(0.1) {
				change = min(1, change+0.2)
			}
			if m.chance(0.9) {
				m.add("", one, m.times(0, change), "target_info", "job", job, "instance", instance, "ver", "1", "env", "dev")
			}
			if m.chance(0.5) {
				m.add("", one, m.whole(), "build_info", "job", job, "instance", instance, "rev", strconv.Itoa(m.rng.IntN(2)))
			}
		}
	}
}

// passing makes series that come and go, and that are the same but for their name and a label.
func (m *dataMaker) passing() {
	for i := range 8 {
		from := m.rng.Float64() * 0.8
		to := min(1, from+0.1+m.rng.Float64()*0.5)
		ts := m.times(from, to)
		m.add("gauge", m.gauge(), ts, []string{"pod_a", "pod_b"}[i%2], "job", []string{"a", "b"}[i/2%2], "pod", strconv.Itoa(i/2))
		if n := len(m.set.Series); len(ts) > 0 && m.chance(0.5) {
			s := &m.set.Series[n-1]
			s.Samples[len(s.Samples)-1].V = math.Float64frombits(value.StaleNaN)
		}
	}
}
