// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"context"
	"maps"
	"math"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/operator/window"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const lookback = 5 * time.Minute

// series is one series of a data set.
type series struct {
	ls      labels.Labels
	samples []columntest.Sample
}

// ranges is a range vector over series in memory.
type ranges struct {
	windows operator.Windows
	series  []series
	table   *vector.Table
	st      bool
}

func newRanges(env *operator.Env, w operator.Windows, data []series) *ranges {
	r := &ranges{windows: w, st: env.UseStartTimestamps}
	r.series = slices.Clone(data)
	slices.SortFunc(r.series, func(a, b series) int { return labels.Compare(a.ls, b.ls) })
	rows := make([]operatortest.Series, len(r.series))
	for i, s := range r.series {
		rows[i].Labels = s.ls
	}
	r.table = operatortest.Table(env.Dict, rows)
	return r
}

func (*ranges) Open(context.Context) error  { return nil }
func (r *ranges) Table() *vector.Table      { return r.table }
func (r *ranges) Windows() operator.Windows { return r.windows }
func (*ranges) Close()                      {}
func (r *ranges) Cursor(ids []uint32) operator.RangeCursor {
	if ids == nil {
		for i := range r.series {
			ids = append(ids, uint32(i))
		}
	}
	return &rangeCursor{r: r, ids: ids}
}

type rangeCursor struct {
	r   *ranges
	ids []uint32
	s   operator.Samples
}

func (c *rangeCursor) Next(context.Context) (operator.Samples, bool, error) {
	if len(c.ids) == 0 {
		return operator.Samples{}, false, nil
	}
	id := c.ids[0]
	c.ids = c.ids[1:]
	s := &c.s
	*s = operator.Samples{ID: id, T: s.T[:0], ST: s.ST[:0], V: s.V[:0], H: s.H[:0]}
	w := c.r.windows
	left, right := w.At(0)-w.Range, w.At(w.Grid.N-1)
	if w.Anchored || w.Smoothed {
		left -= w.Lookback
	}
	if w.Smoothed {
		right += w.Lookback
	}
	var kinds []sample.Kind
	mixed := false
	for _, x := range c.r.series[id].samples {
		if x.T <= left || x.T > right {
			continue
		}
		fh := x.FH
		if x.H != nil {
			fh = x.H.ToFloat(nil)
		}
		if fh != nil && value.IsStaleNaN(fh.Sum) || fh == nil && value.IsStaleNaN(x.V) {
			continue
		}
		s.T, s.V, s.H = append(s.T, x.T), append(s.V, x.V), append(s.H, fh)
		kind := sample.Float
		if fh != nil {
			kind, mixed = sample.FloatHistogram, true
		}
		kinds = append(kinds, kind)
		if c.r.st {
			s.ST = append(s.ST, x.ST)
		}
	}
	if mixed {
		s.Kind = kinds
	} else {
		s.H = nil
	}
	if !c.r.st {
		s.ST = nil
	}
	return *s, true, nil
}

func (*rangeCursor) Close() {}

// scalar is an argument that depends on the time of the step, in seconds.
type scalar struct {
	grid vector.Grid
	of   func(seconds float64) float64
}

func (scalar) Open(context.Context) error { return nil }
func (scalar) Close()                     {}
func (s scalar) Values() []float64 {
	v := make([]float64, s.grid.N)
	for i := range v {
		v[i] = s.of(float64(s.grid.At(i)) / 1000)
	}
	return v
}

// query is a call in PromQL, and the same as an operator.
type query struct {
	text    string
	fn      string
	args    []func(seconds float64) float64
	windows operator.Windows
	rung    window.Rung
}

// answer is what an engine returned.
type answer struct {
	matrix promql.Matrix
	notes  []string
	err    error
}

// run evaluates a query over data with the operator.
func run(t testing.TB, env *operator.Env, q query, data []series) answer {
	t.Helper()
	over := newRanges(env, q.windows, data)
	call := window.Call{Func: q.fn, Over: over, Rung: q.rung}
	for _, of := range q.args {
		call.Args = append(call.Args, scalar{grid: q.windows.Grid, of: of})
	}
	node := window.New(env, call)
	defer node.Close()
	if err := node.Open(t.Context()); err != nil {
		return answer{err: err}
	}
	var m promql.Matrix
	var lb labels.ScratchBuilder
	err := env.Drain(t.Context(), node, nil, func(b *vector.Batch) error {
		for i := range b.IDs {
			s := promql.Series{Metric: node.Table().Labels(b.IDs[i], &lb)}
			if node.Table().Dropped(b.IDs[i]) {
				s.Metric = s.Metric.DropReserved(schema.IsMetadataLabel)
			}
			v, k, h := b.Row(i)
			var shape vector.Shape
			for j := range k {
				at := q.windows.Grid.At(j)
				switch k[j] {
				case vector.Float:
					shape |= vector.HasFloats
					s.Floats = append(s.Floats, promql.FPoint{T: at, F: v[j]})
				case vector.Histogram:
					shape |= vector.HasHistograms
					s.Histograms = append(s.Histograms, promql.HPoint{T: at, H: h[j].Copy()})
				default:
					shape |= vector.HasGaps
				}
			}
			if shape != b.Shape[i] {
				t.Errorf("%s: %v: shape %b, want %b", q.text, s.Metric, b.Shape[i], shape)
			}
			m = append(m, s)
		}
		return nil
	})
	expr, perr := parser.NewParser(promqltest.TestParserOpts).ParseExpr(q.text)
	if perr != nil {
		t.Fatalf("%s: %v", q.text, perr)
	}
	e := expr.(*parser.Call)
	var notes annotations.Annotations
	node.(operator.Annotated).Notes().AddTo(&notes, []posrange.PositionRange{e.PositionRange(), e.Args[0].PositionRange()})
	return answer{matrix: m, notes: texts(notes, q.text), err: err}
}

func texts(a annotations.Annotations, text string) []string {
	warnings, infos := a.AsStrings(text, 0, 0)
	all := append(warnings, infos...)
	sort.Strings(all)
	return all
}

// reference evaluates a query over data with Prometheus' engine.
func reference(t testing.TB, opts operator.Options, q query, data []series) answer {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: math.MaxInt32, Timeout: time.Hour, LookbackDelta: lookback,
		EnableAtModifier: true, EnableNegativeOffset: true,
		EnableDelayedNameRemoval: opts.DelayedNameRemoval,
		EnableTypeAndUnitLabels:  opts.TypeAndUnitLabels,
		UseStartTimestamps:       opts.UseStartTimestamps,
		Parser:                   parser.NewParser(promqltest.TestParserOpts),
	})
	g := q.windows.Grid
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	rq, err := engine.NewRangeQuery(t.Context(), listQueryable(data), nil, q.text, at(g.Start), at(g.End()), time.Duration(g.Step)*time.Millisecond)
	if err != nil {
		t.Fatalf("%s: %v", q.text, err)
	}
	defer rq.Close()
	res := rq.Exec(t.Context())
	if res.Err != nil {
		return answer{err: res.Err}
	}
	m, err := res.Matrix()
	if err != nil {
		t.Fatal(err)
	}
	return answer{matrix: slices.Clone(m), notes: texts(maps.Clone(res.Warnings), q.text)}
}

// newEnv returns an environment, whose account has to be empty again when the test ends.
func newEnv(t testing.TB, opts operator.Options) *operator.Env {
	t.Helper()
	account := budget.NewRoot("test", math.MaxInt64)
	t.Cleanup(func() {
		if n := account.Used(); n != 0 {
			t.Errorf("%d bytes charged after the end", n)
		}
	})
	opts.LookbackDelta = lookback.Milliseconds()
	return &operator.Env{Dict: vector.NewDict(), Account: account, Options: opts}
}

// bits compares floats bit by bit, but NaN equals NaN.
func bits(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}

// near compares floats to a part in 10^12.
func near(a, b float64) bool {
	return bits(a, b) || math.Abs(a-b) <= 1e-12*max(math.Abs(a), math.Abs(b))
}

// diff says how two answers differ; "" if they do not.
func diff(got, want answer, same func(a, b float64) bool) string {
	if (got.err == nil) != (want.err == nil) || got.err != nil && got.err.Error() != want.err.Error() {
		return "error " + text(got.err) + ", want " + text(want.err)
	}
	if !slices.Equal(got.notes, want.notes) {
		return "notes:\n  " + join(got.notes) + "\nwant\n  " + join(want.notes)
	}
	rows := func(m promql.Matrix) map[string]promql.Series {
		by := map[string]promql.Series{}
		for _, s := range m {
			by[s.Metric.WithoutEmpty().String()] = s
		}
		return by
	}
	g, w := rows(got.matrix), rows(want.matrix)
	for key, s := range w {
		if d := diffSeries(g[key], s, same); d != "" {
			return key + ": " + d
		}
	}
	for key := range g {
		if _, ok := w[key]; !ok {
			return "unexpected row " + key
		}
	}
	return ""
}

func equalHistograms(a, b *histogram.FloatHistogram) bool {
	return a.Equals(b) && a.CounterResetHint == b.CounterResetHint
}
