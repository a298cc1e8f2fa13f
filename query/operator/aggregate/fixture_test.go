// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

const (
	stepMs  = 60_000
	startMs = 600_000
)

// values is a Scalar of constants.
type scalars []float64

func (scalars) Open(context.Context) error { return nil }
func (s scalars) Values() []float64        { return s }
func (scalars) Close()                     {}

// pool has the values that make sums hard.
var hardFloats = []float64{
	0, math.Copysign(0, -1), 1, -1, 1e100, -1e100, 1e308, -1e308, math.MaxFloat64, math.Inf(1), math.Inf(-1),
	math.NaN(), 5e-324, 0.1, 0.2, 0.3, 1e16, -1e16, 3,
}

func randomFloat(r *rand.Rand, hard bool) float64 {
	switch n := r.IntN(10); {
	case hard && n < 4:
		return hardFloats[r.IntN(len(hardFloats))]
	case n < 6:
		return float64(r.IntN(5))
	default:
		return r.NormFloat64() * math.Pow(10, float64(r.IntN(6)))
	}
}

func randomHistogram(r *rand.Rand) *histogram.FloatHistogram {
	hints := []histogram.CounterResetHint{
		histogram.UnknownCounterReset, histogram.UnknownCounterReset, histogram.GaugeType,
		histogram.CounterReset, histogram.NotCounterReset,
	}
	h := &histogram.FloatHistogram{CounterResetHint: hints[r.IntN(len(hints))], Sum: r.Float64() * 100}
	n := 1 + r.IntN(4)
	h.PositiveSpans = []histogram.Span{{Offset: int32(r.IntN(3)), Length: uint32(n)}}
	for range n {
		c := float64(r.IntN(9)) + r.Float64()
		if r.IntN(20) == 0 {
			c = 1e308
		}
		h.PositiveBuckets = append(h.PositiveBuckets, c)
		h.Count += c
	}
	if r.IntN(4) == 0 {
		h.Schema = histogram.CustomBucketsSchema
		h.CustomValues = []float64{1, 2, 5, 10, 20, 50}
		if r.IntN(2) == 0 {
			h.CustomValues = []float64{1, 2, 6, 10, 20, 50}
		}
		return h
	}
	h.Schema = int32(r.IntN(3))
	h.ZeroThreshold, h.ZeroCount = 1e-3, float64(r.IntN(3))
	h.Count += h.ZeroCount
	return h
}

// world is random rows, and the same as samples in a storage.
type world struct {
	rows  []operatortest.Series
	store columntest.Store
	steps int
}

type worldConfig struct {
	series, steps          int
	gaps, histograms, hard bool
	whole                  bool // small whole numbers, whose sums are exact in any order
}

func newWorld(r *rand.Rand, c worldConfig) *world {
	w := &world{steps: c.steps}
	seen := map[string]bool{}
	for range c.series {
		ls := labels.FromStrings(labels.MetricName, []string{"m", "n"}[r.IntN(2)],
			"a", fmt.Sprint(r.IntN(3)), "b", fmt.Sprint(r.IntN(40)))
		if r.IntN(4) == 0 {
			ls = labels.NewBuilder(ls).Set("c", fmt.Sprint(r.IntN(2))).Labels()
		}
		if seen[ls.String()] {
			continue
		}
		seen[ls.String()] = true
		w.rows = append(w.rows, randomSeries(r, ls, c))
	}
	sort.Slice(w.rows, func(i, j int) bool { return labels.Compare(w.rows[i].Labels, w.rows[j].Labels) < 0 })
	for _, s := range w.rows {
		for i, k := range s.K {
			t := int64(startMs + i*stepMs)
			switch k {
			case vector.Float:
				w.store.Append(s.Labels, columntest.Sample{T: t, V: s.V[i]})
			case vector.Histogram:
				w.store.Append(s.Labels, columntest.Sample{T: t, FH: s.H[i]})
			case vector.Absent:
			}
		}
	}
	return w
}

// evaluate returns what Prometheus' engine has for an expression, as rows, names not removed.
func (w *world) evaluate(t *testing.T, query string) []operatortest.Series {
	t.Helper()
	qry := w.query(t, query, true)
	defer qry.Close()
	res := qry.Exec(t.Context())
	if res.Err != nil {
		t.Fatalf("%s: %v", query, res.Err)
	}
	var rows []operatortest.Series
	add := func(ls labels.Labels) *operatortest.Series {
		rows = append(rows, operatortest.Series{Labels: ls, V: make([]float64, w.steps), K: make([]vector.Kind, w.steps)})
		return &rows[len(rows)-1]
	}
	put := func(s *operatortest.Series, ts int64, f float64, h *histogram.FloatHistogram) {
		i := (ts - startMs) / stepMs
		if s.V[i], s.K[i] = f, vector.Float; h != nil {
			if s.H == nil {
				s.H = make([]*histogram.FloatHistogram, w.steps)
			}
			s.H[i], s.K[i] = h.Copy(), vector.Histogram
		}
	}
	switch v := res.Value.(type) {
	case promql.Vector:
		for _, x := range v {
			put(add(x.Metric), x.T, x.F, x.H)
		}
	case promql.Matrix:
		for _, x := range v {
			s := add(x.Metric)
			for _, p := range x.Floats {
				put(s, p.T, p.F, nil)
			}
			for _, p := range x.Histograms {
				put(s, p.T, 0, p.H)
			}
		}
	}
	return rows
}

func randomSeries(r *rand.Rand, ls labels.Labels, c worldConfig) operatortest.Series {
	s := operatortest.Series{Labels: ls}
	native := c.histograms && r.IntN(3) == 0
	gappy := c.gaps && r.IntN(2) == 0
	for range c.steps {
		v, k := randomFloat(r, c.hard), vector.Float
		if c.whole {
			v = float64(r.IntN(9))
		}
		var h *histogram.FloatHistogram
		switch {
		case gappy && r.IntN(3) == 0:
			k = vector.Absent
		case native && r.IntN(8) > 0, c.histograms && r.IntN(30) == 0:
			k, h = vector.Histogram, randomHistogram(r)
		}
		s.V, s.K, s.H = append(s.V, v), append(s.K, k), append(s.H, h)
	}
	if !slices.Contains(s.K, vector.Histogram) {
		s.H = nil
	}
	return s
}

// outcome is what a query says, in a form that two engines share.
type outcome struct {
	Err   string
	Rows  []string
	Annos []string
}

func annotationTexts(query string, a annotations.Annotations) []string {
	w, i := a.AsStrings(query, 0, 0)
	all := append(w, i...)
	sort.Strings(all)
	return all
}

func rowText(ls labels.Labels, points []string) string { return fmt.Sprint(ls, points) }

func floatText(t int64, v float64) string {
	bits := math.Float64bits(v)
	if math.IsNaN(v) && !value.IsStaleNaN(v) {
		return fmt.Sprintf("%d:NaN", t)
	}
	return fmt.Sprintf("%d:%v(%x)", t, v, bits)
}

func histogramText(t int64, h *histogram.FloatHistogram) string {
	return fmt.Sprintf("%d:h%d %v %v %v", t, h.CounterResetHint, h.TestExpression(), h.PositiveBuckets, h.Sum)
}

// query prepares a query of Prometheus' engine.
func (w *world) query(t *testing.T, query string, delayed bool) promql.Query {
	t.Helper()
	e := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e9, Timeout: time.Minute, LookbackDelta: (stepMs - 1) * time.Millisecond,
		EnableAtModifier: true, EnableNegativeOffset: true, EnableDelayedNameRemoval: delayed,
		Parser: parser.NewParser(parser.Options{EnableExperimentalFunctions: true}),
	})
	q := queryable.New(&w.store)
	start := timestamp.Time(startMs)
	var qry promql.Query
	var err error
	if w.steps == 1 {
		qry, err = e.NewInstantQuery(t.Context(), q, nil, query, start)
	} else {
		end := timestamp.Time(startMs + int64(w.steps-1)*stepMs)
		qry, err = e.NewRangeQuery(t.Context(), q, nil, query, start, end, stepMs*time.Millisecond)
	}
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return qry
}

// reference evaluates a query with Prometheus' engine.
func (w *world) reference(t *testing.T, query string, delayed bool) outcome {
	t.Helper()
	qry := w.query(t, query, delayed)
	defer qry.Close()
	res := qry.Exec(t.Context())
	if res.Err != nil {
		return outcome{Err: res.Err.Error()}
	}
	o := outcome{Annos: annotationTexts(query, res.Warnings)}
	switch v := res.Value.(type) {
	case promql.Vector:
		for _, s := range v {
			p := ""
			if s.H != nil {
				p = histogramText(s.T, s.H)
			} else {
				p = floatText(s.T, s.F)
			}
			o.Rows = append(o.Rows, rowText(s.Metric, []string{p}))
		}
	case promql.Matrix:
		for _, s := range v {
			points := map[int64]string{}
			for _, p := range s.Floats {
				points[p.T] = floatText(p.T, p.F)
			}
			for _, p := range s.Histograms {
				points[p.T] = histogramText(p.T, p.H)
			}
			o.Rows = append(o.Rows, rowText(s.Metric, inOrder(points)))
		}
		sort.Strings(o.Rows)
	}
	return o
}

func inOrder(points map[int64]string) []string {
	var ts []int64
	for t := range points {
		ts = append(ts, t)
	}
	slices.Sort(ts)
	var out []string
	for _, t := range ts {
		out = append(out, points[t])
	}
	return out
}

func newEnv(delayed bool) *operator.Env {
	return &operator.Env{
		Dict: vector.NewDict(), Account: budget.NewRoot("query", 1<<40), Samples: operator.NewSamplesum(0, 0),
		Options: operator.Options{DelayedNameRemoval: delayed},
	}
}

// read evaluates a node and tells what it yields, with the names removed that go at the end.
func (w *world) read(t *testing.T, env *operator.Env, n Node, query string, at []posrange.PositionRange) outcome {
	t.Helper()
	defer n.Close()
	if err := n.Open(t.Context()); err != nil {
		return outcome{Err: err.Error()}
	}
	var o outcome
	var b labels.ScratchBuilder
	err := env.Drain(t.Context(), n, nil, func(x *vector.Batch) error {
		for i, id := range x.IDs {
			var points []string
			v, k, h := x.Row(i)
			for s := range v {
				ts := int64(startMs + s*stepMs)
				switch k[s] {
				case vector.Float:
					points = append(points, floatText(ts, v[s]))
				case vector.Histogram:
					points = append(points, histogramText(ts, h[s]))
				case vector.Absent:
				}
			}
			shape := x.Shape[i]
			if x.Measure(i); shape != x.Shape[i] {
				t.Errorf("%s: row %d has shape %v, want %v", query, i, shape, x.Shape[i])
			}
			ls := n.Table().Labels(id, &b)
			if n.Table().Dropped(id) {
				ls = labels.NewBuilder(ls).Del(labels.MetricName).Labels()
			}
			if len(points) > 0 {
				o.Rows = append(o.Rows, rowText(ls, points))
			}
		}
		return nil
	})
	if err != nil {
		return outcome{Err: err.Error()}
	}
	if w.steps > 1 {
		sort.Strings(o.Rows)
	}
	var a annotations.Annotations
	n.Notes().AddTo(&a, at)
	o.Annos = annotationTexts(query, a)
	return o
}
