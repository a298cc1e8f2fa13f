// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// generator makes random requests.
type generator struct {
	*rand.Rand
	now    time.Time
	deltas bool // some temporalities are not cumulative
	scales []int32
}

func newGenerator(seed uint64) *generator {
	return &generator{
		Rand: rand.New(rand.NewPCG(seed, 1)), now: time.Now().Add(-time.Hour).Truncate(time.Second),
		scales: []int32{-4, -1, 0, 3, 8},
	}
}

func (g *generator) metrics() pmetric.Metrics {
	md := pmetric.NewMetrics()
	for range 1 + g.IntN(3) {
		rm := md.ResourceMetrics().AppendEmpty()
		g.resource(rm.Resource().Attributes())
		for range 1 + g.IntN(2) {
			sm := rm.ScopeMetrics().AppendEmpty()
			g.scope(sm)
			for range g.IntN(6) {
				g.metric(sm.Metrics().AppendEmpty())
			}
		}
	}
	return md
}

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) resource(m pcommon.Map) {
	if g.IntN(5) > 0 {
		m.PutStr("service.name", g.one("shop", "cart", "pay roll"))
	}
	if g.IntN(2) > 0 {
		m.PutStr("service.namespace", g.one("prod", "test"))
	}
	if g.IntN(4) > 0 {
		m.PutStr("service.instance.id", fmt.Sprint(g.Uint64()))
	}
	g.attributes(m)
}

func (g *generator) scope(sm pmetric.ScopeMetrics) {
	sm.Scope().SetName(g.one("", "lib", "other lib"))
	sm.Scope().SetVersion(g.one("", "1.0"))
	sm.SetSchemaUrl(g.one("", "https://example.org/schema"))
	g.attributes(sm.Scope().Attributes())
}

func (g *generator) attributes(m pcommon.Map) {
	for range g.IntN(5) {
		g.value(m.PutEmpty(g.one("http.method", "http_method", "code", "k8s.pod.name", "_private", "__twice__", "host name", "ä", "le", "1st", "a__b", "empty", "job")), 2)
	}
}

func (g *generator) value(v pcommon.Value, depth int) {
	switch n := g.IntN(9); {
	case n == 0:
		v.SetInt(g.Int64N(1000) - 500)
	case n == 1:
		v.SetDouble(g.NormFloat64())
	case n == 2:
		v.SetBool(g.IntN(2) == 0)
	case n == 3 && depth > 0:
		list := v.SetEmptySlice()
		for range g.IntN(3) {
			g.value(list.AppendEmpty(), depth-1)
		}
	case n == 4 && depth > 0:
		m := v.SetEmptyMap()
		for range g.IntN(3) {
			g.value(m.PutEmpty(g.one("x", "y", "z")), depth-1)
		}
	case n == 5:
		v.SetEmptyBytes().FromRaw([]byte{byte(g.IntN(256)), 2})
	default:
		v.SetStr(g.one("GET", "", "a \"b\" <c>", "ünï", "200"))
	}
}

func (g *generator) metric(m pmetric.Metric) {
	m.SetName(g.one("http.requests", "queue_length", "1st.metric", "cpu time", "latency", "size_bytes", "ratio", "x.total"))
	m.SetUnit(g.one("", "s", "By", "1", "By/s", "{request}", "ms"))
	m.SetDescription(g.one("", "What it says."))
	temporality := pmetric.AggregationTemporalityCumulative
	if g.deltas {
		temporality = pmetric.AggregationTemporality(g.IntN(3))
	}
	points := func() int { return g.IntN(4) }
	switch g.IntN(6) {
	case 0:
		for range m.SetEmptyGauge().DataPoints().Len() + points() {
			g.number(m.Gauge().DataPoints().AppendEmpty())
		}
	case 1:
		m.SetEmptySum().SetAggregationTemporality(temporality)
		m.Sum().SetIsMonotonic(g.IntN(2) == 0)
		for range points() {
			g.number(m.Sum().DataPoints().AppendEmpty())
		}
	case 2:
		m.SetEmptyHistogram().SetAggregationTemporality(temporality)
		for range points() {
			g.histogram(m.Histogram().DataPoints().AppendEmpty())
		}
	case 3:
		m.SetEmptyExponentialHistogram().SetAggregationTemporality(temporality)
		for range points() {
			g.exponential(m.ExponentialHistogram().DataPoints().AppendEmpty())
		}
	case 4:
		m.SetEmptySummary()
		for range points() {
			g.summary(m.Summary().DataPoints().AppendEmpty())
		}
	default:
		g.number(m.SetEmptyGauge().DataPoints().AppendEmpty())
	}
}

func (g *generator) times() (start, t pcommon.Timestamp) {
	if g.IntN(3) > 0 {
		start = pcommon.NewTimestampFromTime(g.now.Add(-time.Hour))
	}
	return start, pcommon.NewTimestampFromTime(g.now.Add(time.Duration(g.Int64N(int64(20 * time.Minute)))))
}

func (g *generator) stale() pmetric.DataPointFlags {
	return pmetric.DefaultDataPointFlags.WithNoRecordedValue(g.IntN(8) == 0)
}

func (g *generator) number(p pmetric.NumberDataPoint) {
	start, t := g.times()
	p.SetStartTimestamp(start)
	p.SetTimestamp(t)
	p.SetFlags(g.stale())
	if g.IntN(2) == 0 {
		p.SetIntValue(g.Int64N(1e9) - 100)
	} else {
		p.SetDoubleValue(g.NormFloat64())
	}
	g.attributes(p.Attributes())
	g.exemplars(p.Exemplars())
}

func (g *generator) exemplars(list pmetric.ExemplarSlice) {
	for range g.IntN(3) {
		e := list.AppendEmpty()
		if g.IntN(2) == 0 {
			_, t := g.times()
			e.SetTimestamp(t)
		}
		if g.IntN(2) == 0 {
			e.SetIntValue(g.Int64N(10))
		} else {
			e.SetDoubleValue(10 * g.Float64())
		}
		if g.IntN(2) == 0 {
			e.SetTraceID(pcommon.TraceID{1, byte(g.IntN(256))})
		}
		if g.IntN(2) == 0 {
			e.SetSpanID(pcommon.SpanID{2, byte(g.IntN(256))})
		}
		g.attributes(e.FilteredAttributes())
		if g.IntN(4) == 0 {
			e.FilteredAttributes().PutStr("long", fmt.Sprintf("%0120d", g.Uint64()))
		}
	}
}

func (g *generator) histogram(p pmetric.HistogramDataPoint) {
	start, t := g.times()
	p.SetStartTimestamp(start)
	p.SetTimestamp(t)
	p.SetFlags(g.stale())
	bounds, counts, all := []float64{}, []uint64{}, uint64(0)
	for i := range g.IntN(5) {
		bounds = append(bounds, float64(i)*2.5)
	}
	for range len(bounds) + 1 {
		counts = append(counts, uint64(g.IntN(4)))
		all += counts[len(counts)-1]
	}
	p.ExplicitBounds().FromRaw(bounds)
	p.BucketCounts().FromRaw(counts)
	p.SetCount(all)
	if g.IntN(4) > 0 && all > 0 {
		p.SetSum(g.Float64() * 100)
	}
	g.attributes(p.Attributes())
	g.exemplars(p.Exemplars())
}

func (g *generator) exponential(p pmetric.ExponentialHistogramDataPoint) {
	start, t := g.times()
	p.SetStartTimestamp(start)
	p.SetTimestamp(t)
	p.SetFlags(g.stale())
	p.SetScale(g.scales[g.IntN(len(g.scales))])
	p.SetZeroCount(g.Uint64N(3))
	all := p.ZeroCount()
	for _, b := range []pmetric.ExponentialHistogramDataPointBuckets{p.Positive(), p.Negative()} {
		b.SetOffset(int32(g.IntN(40) - 20))
		for range g.IntN(12) {
			n := uint64(max(g.IntN(6)-2, 0))
			b.BucketCounts().Append(n)
			all += n
		}
	}
	p.SetCount(all)
	if g.IntN(4) > 0 && all > 0 {
		p.SetSum(g.NormFloat64() * 100)
	}
	g.attributes(p.Attributes())
	g.exemplars(p.Exemplars())
}

func (g *generator) summary(p pmetric.SummaryDataPoint) {
	start, t := g.times()
	p.SetStartTimestamp(start)
	p.SetTimestamp(t)
	p.SetFlags(g.stale())
	p.SetCount(g.Uint64N(10))
	p.SetSum(g.NormFloat64())
	for _, q := range []float64{0, 0.5, 0.99}[:g.IntN(4)] {
		v := p.QuantileValues().AppendEmpty()
		v.SetQuantile(q)
		v.SetValue(g.NormFloat64())
	}
	g.attributes(p.Attributes())
}
