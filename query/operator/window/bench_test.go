// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/operator/window"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// repeated is a range vector that yields the same samples for each of its series, at no cost.
type repeated struct {
	ranges
	samples operator.Samples
}

func (r *repeated) Cursor([]uint32) operator.RangeCursor { return &repeatedCursor{r: r} }

type repeatedCursor struct {
	r *repeated
	n int
}

func (c *repeatedCursor) Next(context.Context) (operator.Samples, bool, error) {
	s := c.r.samples
	s.ID = uint32(c.n)
	c.n++
	return s, c.n <= c.r.table.N, nil
}

func (*repeatedCursor) Close() {}

// shape is how the windows of a benchmark lie over the samples.
type shape struct {
	name     string
	interval int64 // of samples
	window   int64
	step     int64
	steps    int
	series   int
}

var shapes = []shape{
	{"instant5m", 15_000, 300_000, 1, 1, 10_000},
	{"range5m", 15_000, 300_000, 15_000, 241, 100},
	{"range1d", 10_000, 86_400_000, 10_000, 1000, 4},
}

var values = map[string]func(r *rand.Rand, i int) float64{
	"counter": func(r *rand.Rand, i int) float64 { return float64(i%2000) * 17 },
	"gauge":   func(r *rand.Rand, _ int) float64 { return r.NormFloat64() },
}

// bench runs a function over one shape and reports nanoseconds per sample and step.
func bench(b *testing.B, c call, sh shape, s operator.Samples) {
	b.Helper()
	w := operator.Windows{
		Grid:  vector.Grid{Start: sh.window + 7, Step: sh.step, N: sh.steps},
		Start: sh.window + 7, Step: sh.step, Range: sh.window,
	}
	rows := make([]operatortest.Series, sh.series)
	for i := range rows {
		rows[i].Labels = labels.FromStrings(labels.MetricName, "m_total")
	}
	env := newEnv(b, operator.Options{})
	over := &repeated{ranges: ranges{windows: w, table: operatortest.Table(env.Dict, rows)}, samples: s}
	wc := window.Call{Func: c.fn, Over: over}
	if c.fn == "double_exponential_smoothing" {
		c.args = []func(float64) float64{constant(0.3), constant(0.3)}
	}
	for _, of := range c.args {
		wc.Args = append(wc.Args, scalar{grid: w.Grid, of: of})
	}
	node := window.New(env, wc)
	if err := node.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := env.Drain(b.Context(), node, nil, func(*vector.Batch) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	perOp := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(sh.series)
	b.ReportMetric(perOp, "ns/series")
	b.ReportMetric(perOp/float64(len(s.T)+sh.steps), "ns/sample+step")
}

func (sh shape) times() []int64 {
	var t []int64
	for x := int64(10); x <= sh.window+7+int64(sh.steps-1)*sh.step; x += sh.interval {
		t = append(t, x)
	}
	return t
}

func BenchmarkFloats(b *testing.B) {
	for _, c := range calls {
		for _, sh := range shapes {
			for name, of := range values {
				b.Run(c.fn+"/"+sh.name+"/"+name, func(b *testing.B) {
					r := rand.New(rand.NewPCG(1, 2))
					s := operator.Samples{T: sh.times()}
					for i := range s.T {
						s.V = append(s.V, of(r, i))
					}
					bench(b, c, sh, s)
				})
			}
		}
	}
}

func BenchmarkHistograms(b *testing.B) {
	sh := shape{"range5m", 15_000, 300_000, 30_000, 241, 10}
	for _, c := range calls {
		b.Run(c.fn, func(b *testing.B) {
			s := operator.Samples{T: sh.times()}
			for i := range s.T {
				h := &histogram.FloatHistogram{
					Schema: 3, Count: float64(i * 30), CounterResetHint: histogram.UnknownCounterReset, Sum: float64(i) * 7, ZeroThreshold: 0.001,
					PositiveSpans: []histogram.Span{{Offset: -10, Length: 20}, {Offset: 3, Length: 10}},
				}
				for range 30 {
					h.PositiveBuckets = append(h.PositiveBuckets, float64(i))
				}
				s.V, s.H, s.Kind = append(s.V, 0), append(s.H, h), append(s.Kind, sample.FloatHistogram)
			}
			bench(b, c, sh, s)
		})
	}
}
