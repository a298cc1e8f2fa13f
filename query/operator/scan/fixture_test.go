// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

const (
	second = int64(1000)
	minute = 60 * second
)

// fixture is a store with one query's environment.
type fixture struct {
	store *columntest.Store
	env   *operator.Env
	name  *labels.Matcher
}

func newFixture(tb testing.TB, store *columntest.Store) *fixture {
	tb.Helper()
	view, err := store.View(math.MinInt64/2, math.MaxInt64/2)
	if err != nil {
		tb.Fatal(err)
	}
	f := &fixture{store: store, name: labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "m")}
	f.env = &operator.Env{View: view, Dict: vector.NewDict(), Account: budget.NewRoot("query", 0)}
	f.env.LookbackDelta, f.env.DelayedNameRemoval, f.env.UseStartTimestamps = 5*minute, true, true
	f.env.Samples = operator.NewSamplesum(0, 0)
	tb.Cleanup(func() {
		if used := f.env.Account.Used(); used != 0 {
			tb.Errorf("%d bytes are still charged", used)
		}
		if err := view.Close(); err != nil {
			tb.Error(err)
		}
	})
	return f
}

// randomStore has series of floats with gaps, stale markers and jitter, one of histograms, and mixed ones.
func randomStore(r *rand.Rand) *columntest.Store {
	s := &columntest.Store{}
	for i := range 12 {
		ls := labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%02d", i))
		randomSeries(r, s, ls, i%4)
	}
	randomSeries(r, s, labels.FromStrings("__name__", "other"), 0)
	return s
}

func randomSeries(r *rand.Rand, s *columntest.Store, ls labels.Labels, kind int) {
	step := []int64{5, 15, 60, 200}[r.IntN(4)] * second
	t := -40*minute + r.Int64N(20)*minute
	count := int64(5)
	for t < 60*minute {
		t += step
		switch r.IntN(20) {
		case 0:
			t += r.Int64N(12 * minute)
		case 1:
			t += r.Int64N(step)
		}
		x := columntest.Sample{T: t, V: float64(r.IntN(1000))}
		if r.IntN(3) == 0 {
			x.ST = t - r.Int64N(minute)
		}
		if kind == 2 || kind == 3 && r.IntN(3) == 0 {
			count += r.Int64N(4) - 1
			x = randomHistogram(r, x, max(count, 0))
		}
		if r.IntN(15) == 0 {
			x = stale(x)
		}
		s.Append(ls, x)
	}
}

func randomHistogram(r *rand.Rand, x columntest.Sample, n int64) columntest.Sample {
	h := &histogram.Histogram{
		Schema: int32(r.IntN(2)), Count: uint64(2*n + 1), Sum: float64(n), ZeroThreshold: 0.001, ZeroCount: 1,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []int64{n, 0},
	}
	switch r.IntN(12) {
	case 0:
		h.CounterResetHint = histogram.GaugeType
	case 1:
		h.CounterResetHint = histogram.CounterReset
	}
	if r.IntN(8) == 0 {
		x.FH = h.ToFloat(nil)
	} else {
		x.H = h
	}
	return x
}

func stale(x columntest.Sample) columntest.Sample {
	mark := math.Float64frombits(value.StaleNaN)
	switch {
	case x.H != nil:
		x.H = &histogram.Histogram{Sum: mark}
	case x.FH != nil:
		x.FH = &histogram.FloatHistogram{Sum: mark}
	default:
		x.V = mark
	}
	return x
}

// run evaluates a query with Prometheus' engine over the same store.
func (f *fixture) run(tb testing.TB, query string, g vector.Grid) (promql.Matrix, annotations.Annotations) {
	tb.Helper()
	eng := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e9, Timeout: time.Minute, LookbackDelta: time.Duration(f.env.LookbackDelta) * time.Millisecond,
		EnableAtModifier: true, EnableNegativeOffset: true, EnableDelayedNameRemoval: false,
		UseStartTimestamps:       f.env.UseStartTimestamps,
		NoStepSubqueryIntervalFn: func(int64) int64 { return minute },
		Parser:                   parser.NewParser(promqltest.TestParserOpts),
	})
	tb.Cleanup(func() {
		if err := eng.Close(); err != nil {
			tb.Error(err)
		}
	})
	var src storage.Queryable = queryable.New(f.store)
	at := func(i int) time.Time { return time.UnixMilli(g.At(i)) }
	q, err := eng.NewInstantQuery(tb.Context(), src, nil, query, at(0))
	if g.N > 1 {
		q, err = eng.NewRangeQuery(tb.Context(), src, nil, query, at(0), at(g.N-1), time.Duration(g.Step)*time.Millisecond)
	}
	if err != nil {
		tb.Fatal(err)
	}
	defer q.Close()
	res := q.Exec(tb.Context())
	if res.Err != nil {
		tb.Fatalf("%s: %v", query, res.Err)
	}
	switch v := res.Value.(type) {
	case promql.Matrix:
		return slices.Clone(v), res.Warnings
	case promql.Vector:
		var m promql.Matrix
		for _, s := range v {
			p := promql.Series{Metric: s.Metric}
			if s.H != nil {
				p.Histograms = []promql.HPoint{{T: s.T, H: s.H}}
			} else {
				p.Floats = []promql.FPoint{{T: s.T, F: s.F}}
			}
			m = append(m, p)
		}
		return m, res.Warnings
	default:
		tb.Fatalf("%s is a %T", query, res.Value)
		return nil, nil
	}
}

// dump writes a matrix as text, hints included.
func dump(m promql.Matrix) map[string]string {
	out := map[string]string{}
	for _, s := range m {
		var b strings.Builder
		f, h := s.Floats, s.Histograms
		for len(f) > 0 || len(h) > 0 {
			if len(h) == 0 || len(f) > 0 && f[0].T < h[0].T {
				fmt.Fprintf(&b, "%d:%v\n", f[0].T, f[0].F)
				f = f[1:]
				continue
			}
			fmt.Fprintf(&b, "%d:%s/%d/%d\n", h[0].T, h[0].H, h[0].H.CounterResetHint, h[0].H.Schema)
			h = h[1:]
		}
		out[s.Metric.String()] = b.String()
	}
	return out
}

// rows evaluates a node and returns its cells as a matrix.
func (f *fixture) rows(tb testing.TB, n operator.Node) promql.Matrix {
	tb.Helper()
	defer n.Close()
	if err := n.Open(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	var m promql.Matrix
	var sb labels.ScratchBuilder
	g := n.Grid()
	err := f.env.Drain(tb.Context(), n, nil, func(b *vector.Batch) error {
		for i := range b.Rows() {
			v, k, h := b.Row(i)
			s := promql.Series{Metric: n.Table().Labels(b.IDs[i], &sb)}
			shape := b.Shape[i]
			if b.Measure(i); b.Shape[i] != shape {
				return fmt.Errorf("row %v has shape %b, marked %b", s.Metric, b.Shape[i], shape)
			}
			for j := range v {
				switch k[j] {
				case vector.Float:
					s.Floats = append(s.Floats, promql.FPoint{T: g.At(j), F: v[j]})
				case vector.Histogram:
					s.Histograms = append(s.Histograms, promql.HPoint{T: g.At(j), H: h[j]}) // may be kept
				case vector.Absent:
				}
			}
			m = append(m, s)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// samples reads a range vector to the end, cut to the window of its only step.
func (f *fixture) samples(tb testing.TB, n operator.Ranges) promql.Matrix {
	tb.Helper()
	defer n.Close()
	if err := n.Open(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	w := n.Windows()
	var m promql.Matrix
	var sb labels.ScratchBuilder
	c := n.Cursor(nil)
	defer c.Close()
	for {
		x, ok, err := c.Next(context.Background())
		if err != nil {
			tb.Fatal(err)
		}
		if !ok {
			return m
		}
		s := promql.Series{Metric: n.Table().Labels(x.ID, &sb)}
		for i, t := range x.T {
			switch {
			case t <= w.At(0)-w.Range || t > w.At(0):
			case x.Kind == nil || x.Kind[i] == 0:
				s.Floats = append(s.Floats, promql.FPoint{T: t, F: x.V[i]})
			default:
				s.Histograms = append(s.Histograms, promql.HPoint{T: t, H: x.H[i].Copy()})
			}
		}
		if len(s.Floats)+len(s.Histograms) > 0 {
			m = append(m, s)
		}
	}
}

// notes returns the annotations of a node that stands at pos.
func notes(n operator.Node, pos posrange.PositionRange) []string {
	var a annotations.Annotations = map[string]error{}
	if x, ok := n.(operator.Annotated); ok {
		x.Notes().AddTo(&a, []posrange.PositionRange{pos})
	}
	return texts(a)
}

func texts(a annotations.Annotations) []string {
	var out []string
	for _, err := range a {
		out = append(out, err.Error())
	}
	slices.Sort(out)
	return out
}

// noHints is dump for queries where what the hints say is not compared.
func randomGrid(r *rand.Rand) vector.Grid {
	g := vector.Grid{Start: -30*minute + r.Int64N(70*minute), Step: 1, N: 1}
	if r.IntN(3) > 0 {
		g.Step = []int64{1, 7, 15, 60, 300, 900}[r.IntN(6)] * second
		g.N = 1 + r.IntN(60)
	}
	if g.N == 1 {
		g.Step = 1
	}
	return g
}

// asLatest gives a view a LatestReader that knows the newest of some series.
type asLatest struct {
	column.View
	r *rand.Rand
}

func (l asLatest) Latest(ctx context.Context, s *column.SeriesSet, ids []uint32, at int64, dst *column.Latest) error {
	var b column.Block
	for i, id := range ids {
		dst.Known[i] = l.r.IntN(2) == 0
		dst.T[i], dst.V[i] = at-int64(i), 666 // wrong where it is not known
		if !dst.Known[i] {
			continue
		}
		if _, err := l.Scan(ctx, s, []uint32{id}, column.Need{MinT: math.MinInt64 / 2, MaxT: math.MaxInt64 / 2}, &b); err != nil {
			return err
		}
		n, _ := slices.BinarySearch(b.T, at+1)
		if len(b.Kind) > 0 || n < len(b.T) {
			dst.Known[i] = false
			continue
		}
		if n == 0 {
			dst.T[i] = math.MinInt64
			continue
		}
		dst.T[i], dst.V[i] = b.T[n-1], b.V[n-1]
	}
	return nil
}
