// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operatortest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// Reference is samples, at the times of a grid, of which Prometheus' engine is asked.
type Reference struct {
	Store columntest.Store
	Grid  vector.Grid
}

// AnnotatedNode is an operator that raises annotations.
type AnnotatedNode interface {
	operator.Node
	operator.Annotated
}

// Answer is what a query says, in a form that two engines share. Rows are sorted, except those of an instant query.
type Answer struct {
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

// RowText returns a row: its labels, and the texts of its cells; "" is none.
func RowText(labels string, cells []string) string {
	return labels + " " + strings.Join(slices.DeleteFunc(cells, func(c string) bool { return c == "" }), " ")
}

// CellText returns a cell of step i; h is nil where it is a float.
type CellText func(i int, f float64, h *histogram.FloatHistogram) string

// RowTexts returns the rows of an answer of Prometheus' engine over g.
func RowTexts(answer parser.Value, g vector.Grid, text CellText) []string {
	var rows []string
	switch v := answer.(type) {
	case promql.Vector:
		for _, s := range v {
			rows = append(rows, RowText(s.Metric.String(), []string{text(0, s.F, s.H)}))
		}
	case promql.Matrix:
		for _, s := range v {
			cells := make([]string, g.N)
			at := func(t int64) int { return int((t - g.Start) / g.Step) }
			for _, p := range s.Floats {
				cells[at(p.T)] = text(at(p.T), p.F, nil)
			}
			for _, p := range s.Histograms {
				cells[at(p.T)] = text(at(p.T), 0, p.H)
			}
			rows = append(rows, RowText(s.Metric.String(), cells))
		}
	}
	return rows
}

// Ask evaluates a query with e at the steps of g. The answer stays valid.
func Ask(t testing.TB, e *promql.Engine, from storage.Queryable, query string, g vector.Grid) *promql.Result {
	t.Helper()
	start, end := timestamp.Time(g.Start), timestamp.Time(g.End())
	var q promql.Query
	var err error
	if g.N == 1 {
		q, err = e.NewInstantQuery(t.Context(), from, nil, query, start)
	} else {
		q, err = e.NewRangeQuery(t.Context(), from, nil, query, start, end, time.Duration(g.Step)*time.Millisecond)
	}
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return q.Exec(t.Context()) // Not closed: the memory of the answer would be used again.
}

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

// ask evaluates a query with Prometheus' engine.
func (r *Reference) ask(t testing.TB, query string, delayed bool) *promql.Result {
	t.Helper()
	return Ask(t, promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e9, Timeout: time.Minute, LookbackDelta: time.Duration(r.Grid.Step-1) * time.Millisecond,
		EnableAtModifier: true, EnableNegativeOffset: true, EnableDelayedNameRemoval: delayed,
		Parser: parser.NewParser(parser.Options{EnableExperimentalFunctions: true}),
	}), queryable.New(&r.Store), query, r.Grid)
}

func (r *Reference) cellText(i int, f float64, h *histogram.FloatHistogram) string {
	if h != nil {
		return histogramText(r.Grid.At(i), h)
	}
	return floatText(r.Grid.At(i), f)
}

// Answer evaluates a query with Prometheus' engine.
func (r *Reference) Answer(t testing.TB, query string, delayed bool) Answer {
	t.Helper()
	res := r.ask(t, query, delayed)
	if res.Err != nil {
		return Answer{Err: res.Err.Error()}
	}
	o := Answer{Annos: annotationTexts(query, res.Warnings), Rows: RowTexts(res.Value, r.Grid, r.cellText)}
	if r.Grid.N > 1 {
		sort.Strings(o.Rows)
	}
	return o
}

// Rows returns what Prometheus' engine has for an expression, as rows, names not removed.
func (r *Reference) Rows(t testing.TB, query string) []Series {
	t.Helper()
	res := r.ask(t, query, true)
	if res.Err != nil {
		t.Fatalf("%s: %v", query, res.Err)
	}
	var rows []Series
	add := func(ls labels.Labels) *Series {
		rows = append(rows, Series{Labels: ls, V: make([]float64, r.Grid.N), K: make([]vector.Kind, r.Grid.N)})
		return &rows[len(rows)-1]
	}
	put := func(s *Series, ts int64, f float64, h *histogram.FloatHistogram) {
		i := int((ts - r.Grid.Start) / r.Grid.Step)
		if s.V[i], s.K[i] = f, vector.Float; h != nil {
			if s.H == nil {
				s.H = make([]*histogram.FloatHistogram, r.Grid.N)
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

// Read evaluates a node and tells what it yields, with the names removed that go at the end.
func (r *Reference) Read(t testing.TB, env *operator.Env, n AnnotatedNode, query string, at []posrange.PositionRange) Answer {
	t.Helper()
	defer n.Close()
	if err := n.Open(t.Context()); err != nil {
		return Answer{Err: err.Error()}
	}
	var o Answer
	var b labels.ScratchBuilder
	err := env.Drain(t.Context(), n, nil, func(x *vector.Batch) error {
		for i, id := range x.IDs {
			var points []string
			v, k, h := x.Row(i)
			for s := range v {
				switch k[s] {
				case vector.Float:
					points = append(points, r.cellText(s, v[s], nil))
				case vector.Histogram:
					points = append(points, r.cellText(s, 0, h[s]))
				case vector.Absent:
				}
			}
			shape := x.Shape[i]
			if x.Measure(i); shape != x.Shape[i] {
				t.Errorf("%s: row %d has shape %v, want %v", query, i, shape, x.Shape[i])
			}
			ls := n.Table().Labels(id, &b)
			if n.Table().Dropped(id) {
				ls = ls.DropReserved(schema.IsMetadataLabel)
			}
			if len(points) > 0 {
				o.Rows = append(o.Rows, RowText(ls.String(), points))
			}
		}
		return nil
	})
	if err != nil {
		return Answer{Err: err.Error()}
	}
	if r.Grid.N > 1 {
		sort.Strings(o.Rows)
	}
	var a annotations.Annotations
	n.Notes().AddTo(&a, at)
	o.Annos = annotationTexts(query, a)
	return o
}

// Load stores the cells of rows as samples.
func (r *Reference) Load(rows []Series) {
	for _, s := range rows {
		for i, v := range s.V {
			x := columntest.Sample{T: r.Grid.At(i), V: v}
			switch {
			case s.K == nil || s.K[i] == vector.Float:
			case s.K[i] == vector.Histogram:
				x.V, x.FH = 0, s.H[i]
			default:
				continue
			}
			r.Store.Append(s.Labels, x)
		}
	}
}

// Constants is a scalar with the values given.
type Constants []float64

// Open implements operator.Scalar.
func (Constants) Open(context.Context) error { return nil }

// Values implements operator.Scalar.
func (c Constants) Values() []float64 { return c }

// Close implements operator.Scalar.
func (Constants) Close() {}

// Scalar returns what Prometheus' engine has for a scalar expression.
func (r *Reference) Scalar(t testing.TB, query string) Constants {
	t.Helper()
	rows := r.Rows(t, "vector("+query+")")
	if len(rows) != 1 {
		t.Fatalf("%s is %d rows, want 1", query, len(rows))
	}
	return rows[0].V
}

// RandomFloat returns a value such as metrics have, and if hard in two of five cases one that makes sums hard.
func RandomFloat(r *rand.Rand, hard bool) float64 {
	extremes := []float64{
		0, math.Copysign(0, -1), 1, -1, 1e100, -1e100, 1e308, -1e308, math.MaxFloat64, math.Inf(1), math.Inf(-1),
		math.NaN(), 5e-324, 0.1, 0.2, 0.3, 1e16, -1e16, 3,
	}
	switch n := r.IntN(10); {
	case hard && n < 4:
		return extremes[r.IntN(len(extremes))]
	case n < 6:
		return float64(r.IntN(5))
	default:
		return r.NormFloat64() * math.Pow(10, float64(r.IntN(6)))
	}
}

// RandomHistogram returns a native histogram, one in four with custom buckets.
func RandomHistogram(r *rand.Rand) *histogram.FloatHistogram {
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

// Sorted returns the answer with its rows in the order of their texts.
func (a Answer) Sorted() Answer {
	a.Rows = slices.Sorted(slices.Values(a.Rows))
	return a
}
