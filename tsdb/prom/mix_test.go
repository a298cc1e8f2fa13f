// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	hour  = int64(3_600_000)
	epoch = 1_700_000_000_000 // 800 s after a boundary of two hours
)

var stale = math.Float64frombits(value.StaleNaN)

// mix is a set of series with samples of all kinds, and what every one of them must give back.
type mix struct {
	series []mixSeries
}

type mixSeries struct {
	ls      labels.Labels
	samples []columntest.Sample
}

// newMix makes n series over a range: counters, gauges with odd values, integer and float histograms, gauge histograms,
// series that end with a stale marker, pause or change their kind.
func newMix(rng *rand.Rand, n int, mint, maxt, step int64) *mix {
	m := &mix{}
	for i := range n {
		s := mixSeries{ls: labels.FromStrings("__name__", fmt.Sprintf("m%d", i%5), "i", fmt.Sprint(i), "odd", []string{"ß", "\"", "\n"}[i%3])}
		kind, h, count := i%7, (*histogram.Histogram)(nil), 0.0
		from, to := mint, maxt
		if rng.IntN(4) == 0 {
			from += rng.Int64N(maxt - mint)
		}
		for t := from + rng.Int64N(step); t <= to; t += step + rng.Int64N(5) {
			x := columntest.Sample{T: t}
			h = nextHistogram(rng, h, kind == 4)
			count += float64(rng.IntN(100))
			switch {
			case rng.IntN(200) == 0:
				t += rng.Int64N(hour)
				x.V = stale
				if kind >= 2 && kind <= 4 {
					x.V, x.H = 0, &histogram.Histogram{Sum: stale}
				}
			case kind == 1:
				x.V = []float64{math.NaN(), math.Inf(-1), math.Copysign(0, -1), 5e-324, rng.NormFloat64(), math.Float64frombits(0x7ff8000000000042)}[rng.IntN(6)]
			case kind == 2 || kind == 4:
				x.H = h.Copy()
			case kind == 3:
				x.FH = h.ToFloat(nil)
			case kind == 5 && rng.IntN(8) == 0:
				x.H = h.Copy()
			default:
				x.V = count
			}
			s.samples = append(s.samples, x)
		}
		if len(s.samples) > 0 {
			m.series = append(m.series, s)
		}
	}
	slices.SortFunc(m.series, func(a, b mixSeries) int { return labels.Compare(a.ls, b.ls) })
	return m
}

// nextHistogram goes on counting, or now and then begins anew with other buckets.
func nextHistogram(rng *rand.Rand, prev *histogram.Histogram, gauge bool) *histogram.Histogram {
	if prev == nil || rng.IntN(60) == 0 {
		h := &histogram.Histogram{Schema: int32(rng.IntN(3)), ZeroThreshold: 0.001, Count: 9, Sum: 1.5}
		h.PositiveSpans = []histogram.Span{{Offset: int32(rng.IntN(4)), Length: 2}, {Offset: int32(1 + rng.IntN(3)), Length: 1}}
		h.PositiveBuckets = []int64{2, 1, -1}
		h.NegativeSpans, h.NegativeBuckets = []histogram.Span{{Offset: 1, Length: 2}}, []int64{1, 0}
		if gauge {
			h.CounterResetHint = histogram.GaugeType
		}
		return h
	}
	h := prev.Copy()
	h.PositiveBuckets[0] += 2
	h.PositiveBuckets[1] -= 2
	h.Count, h.Sum = h.Count+2, h.Sum+rng.Float64()
	return h
}

// store is the mix as a column source.
func (m *mix) store() *columntest.Store {
	s := &columntest.Store{}
	for _, x := range m.series {
		for _, smp := range x.samples {
			s.Append(x.ls, smp)
		}
	}
	return s
}

// lines is the text of all samples in [mint, maxt], bit for bit, by series.
func (m *mix) lines(mint, maxt int64) map[string][]string {
	out := map[string][]string{}
	for _, s := range m.series {
		for _, x := range s.samples {
			if x.T >= mint && x.T <= maxt {
				out[s.ls.String()] = append(out[s.ls.String()], line(x.T, x.V, x.H, x.FH))
			}
		}
	}
	return out
}

// line is one sample. Histograms are compared by what they count: encodings may change their spans, and hints are told apart only
// into gauge and not.
func line(t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) string {
	switch {
	case h != nil && value.IsStaleNaN(h.Sum) || fh != nil && value.IsStaleNaN(fh.Sum):
		return fmt.Sprintf("%d stale histogram", t)
	case h != nil:
		c := h.Copy().Compact(0)
		return fmt.Sprintf("%d %s gauge=%t %d", t, c, h.CounterResetHint == histogram.GaugeType, c.Schema)
	case fh != nil:
		c := fh.Copy().Compact(0)
		return fmt.Sprintf("%d float %s gauge=%t %d", t, c, fh.CounterResetHint == histogram.GaugeType, c.Schema)
	}
	return fmt.Sprintf("%d %016x", t, math.Float64bits(v))
}

// viewLines is what a view gives for all its series.
func viewLines(tb testing.TB, v column.View) map[string][]string {
	tb.Helper()
	set, err := v.Series(tb.Context(), nil, column.Hint{})
	if err != nil {
		tb.Fatal(err)
	}
	out, sb := map[string][]string{}, labels.ScratchBuilder{}
	var b column.Block
	for id := uint32(0); int(id) < set.N; {
		ids := make([]uint32, 0, set.N)
		for i := id; int(i) < set.N; i++ {
			ids = append(ids, i)
		}
		n, err := v.Scan(tb.Context(), set, ids, column.Need{}, &b)
		if err != nil {
			tb.Fatal(err)
		}
		for i := range n {
			if text := rowLines(&b, i); len(text) > 0 {
				out[set.Labels(ids[i], &sb).String()] = text
			}
		}
		id += uint32(n)
	}
	if w := v.Warnings(); len(w) > 0 {
		tb.Errorf("warnings of the view: %v", w)
	}
	return out
}

func rowLines(b *column.Block, series int) []string {
	var out []string
	from, to := b.Rows(series)
	for i := from; i < to; i++ {
		var h *histogram.Histogram
		var fh *histogram.FloatHistogram
		switch b.KindAt(i) {
		case sample.Histogram:
			h = b.H.Int[i]
		case sample.FloatHistogram:
			fh = b.H.Float[i]
		case sample.Float:
		}
		out = append(out, line(b.T[i], b.V[i], h, fh))
	}
	return out
}
