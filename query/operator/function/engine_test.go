// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/function"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/operator/scalar"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// data is series with a sample, or none, at each step of a grid. With a lookback of a millisecond both engines see
// exactly these.
type data struct {
	grid vector.Grid
	rows []operatortest.Series
}

// store returns the samples as Prometheus' engine reads them.
func (d *data) store() *columntest.Store {
	s := &columntest.Store{}
	for _, r := range d.rows {
		for j, k := range r.K {
			switch k {
			case vector.Float:
				s.Append(r.Labels, columntest.Sample{T: d.grid.At(j), V: r.V[j]})
			case vector.Histogram:
				s.Append(r.Labels, columntest.Sample{T: d.grid.At(j), FH: r.H[j]})
			case vector.Absent:
			}
		}
	}
	return s
}

// answer is what a query gives, in a form to be compared.
type answer struct {
	err         string
	rows        []string // of an instant query in its order, else sorted
	annotations []string
}

func (a *answer) annotate(q string, as annotations.Annotations) {
	for _, err := range as {
		// The first line is enough to see which annotation it is; AsStrings adds the position.
		w, i := annotations.New().Add(err).AsStrings(q, 0, 0)
		a.annotations = append(a.annotations, slices.Concat(w, i)...)
	}
	slices.Sort(a.annotations)
}

// query is one query with how it is run.
type query struct {
	text    string
	grid    vector.Grid
	end     int64 // of a range query; may lie behind the last step
	instant bool
	delayed bool
}

func (q *query) prometheus(t *testing.T, d *data) answer {
	t.Helper()
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{
		MaxSamples: 1 << 30, Timeout: time.Minute, LookbackDelta: time.Millisecond,
		EnableAtModifier: true, EnableNegativeOffset: true, EnableDelayedNameRemoval: q.delayed,
		Parser: parser.NewParser(promqltest.TestParserOpts),
	})
	var run promql.Query
	var err error
	from := queryable.New(d.store())
	if q.instant {
		run, err = engine.NewInstantQuery(t.Context(), from, nil, q.text, time.UnixMilli(q.grid.Start))
	} else {
		run, err = engine.NewRangeQuery(t.Context(), from, nil, q.text, time.UnixMilli(q.grid.Start),
			time.UnixMilli(q.end), time.Duration(q.grid.Step)*time.Millisecond)
	}
	if err != nil {
		t.Fatalf("%s: %v", q.text, err)
	}
	defer run.Close()
	res := run.Exec(t.Context())
	var a answer
	if res.Err != nil {
		a.err = res.Err.Error()
		return a
	}
	switch v := res.Value.(type) {
	case promql.Vector:
		for _, s := range v {
			cell := cellText(q.grid.Start, s.F, s.H)
			a.rows = append(a.rows, s.Metric.String()+" "+cell)
		}
	case promql.Matrix:
		for _, s := range v {
			a.rows = append(a.rows, s.Metric.String()+" "+seriesText(s))
		}
	case promql.Scalar:
		a.rows = append(a.rows, "{} "+cellText(v.T, v.V, nil))
	}
	a.finish(q, res.Warnings)
	return a
}

func (a *answer) finish(q *query, as annotations.Annotations) {
	if !q.instant {
		slices.Sort(a.rows)
	}
	a.annotate(q.text, as)
}

func seriesText(s promql.Series) string {
	byTime := map[int64]string{}
	for _, p := range s.Floats {
		byTime[p.T] = cellText(p.T, p.F, nil)
	}
	for _, p := range s.Histograms {
		if _, ok := byTime[p.T]; !ok {
			byTime[p.T] = cellText(p.T, 0, p.H)
		}
	}
	var times []int64
	for t := range byTime {
		times = append(times, t)
	}
	slices.Sort(times)
	out := ""
	for _, t := range times {
		out += byTime[t]
	}
	return out
}

func cellText(t int64, f float64, h *histogram.FloatHistogram) string {
	switch {
	case h != nil:
		return fmt.Sprintf(" %d:%s/%d", t, h.TestExpression(), h.CounterResetHint)
	case math.IsNaN(f):
		return fmt.Sprintf(" %d:NaN", t)
	default:
		return fmt.Sprintf(" %d:%x", t, math.Float64bits(f))
	}
}

// builder makes operators of an expression.
type builder struct {
	env      *operator.Env
	d        *data
	q        *query
	perBatch int
	notes    []placed
	leaf     operator.Node // every selector; nil: the rows of d that it selects
	// leaves are closed and counted at the end.
	leaves []*operatortest.Node
}

type placed struct {
	from operator.Annotated
	at   []posrange.PositionRange
}

func (b *builder) node(t testing.TB, e parser.Expr) operator.Node {
	t.Helper()
	switch e := e.(type) {
	case *parser.ParenExpr:
		return b.node(t, e.Expr)
	case *parser.VectorSelector:
		return b.selector(e)
	case *parser.UnaryExpr:
		if e.Op == parser.ADD {
			return b.node(t, e.Expr)
		}
		return function.NewNegate(b.env, b.node(t, e.Expr))
	case *parser.BinaryExpr:
		x := function.Binary{Op: e.Op, Bool: e.ReturnBool}
		if x.Swapped = e.LHS.Type() == parser.ValueTypeScalar; x.Swapped {
			x.Scalar, x.Vector = b.scalar(t, e.LHS), b.node(t, e.RHS)
		} else {
			x.Vector, x.Scalar = b.node(t, e.LHS), b.scalar(t, e.RHS)
		}
		return b.annotated(function.NewBinary(b.env, x), e)
	case *parser.Call:
		return b.call(t, e)
	}
	t.Fatalf("%s: no operator for %T", b.q.text, e)
	return nil
}

func (b *builder) annotated(n operator.Node, e parser.Expr) operator.Node {
	if a, ok := n.(operator.Annotated); ok {
		b.notes = append(b.notes, placed{a, []posrange.PositionRange{e.PositionRange()}})
	}
	return n
}

func (b *builder) selector(e *parser.VectorSelector) operator.Node {
	if b.leaf != nil {
		return b.leaf
	}
	var rows []operatortest.Series
	for _, r := range b.d.rows {
		if slices.ContainsFunc(e.LabelMatchers, func(m *labels.Matcher) bool { return !m.Matches(r.Labels.Get(m.Name)) }) {
			continue
		}
		n := b.q.grid.N
		r.V, r.K = slices.Clone(r.V[:n]), slices.Clone(r.K[:n])
		if r.H != nil {
			r.H = r.H[:n]
		}
		rows = append(rows, r)
	}
	n := operatortest.Rows(b.env, b.q.grid, rows...)
	n.PerBatch, n.SkipEmpty = b.perBatch, b.perBatch%2 == 1
	b.leaves = append(b.leaves, n)
	return n
}

func unwrap(e parser.Expr) parser.Expr {
	for {
		p, ok := e.(*parser.ParenExpr)
		if !ok {
			return e
		}
		e = p.Expr
	}
}

func (b *builder) call(t testing.TB, e *parser.Call) operator.Node {
	t.Helper()
	c := function.Call{Func: e.Func.Name, Grid: b.q.grid, Many: !b.q.instant && b.q.end != b.q.grid.Start}
	for _, a := range e.Args {
		switch a.Type() {
		case parser.ValueTypeVector:
			c.In = b.node(t, a)
		case parser.ValueTypeScalar:
			c.Scalars = append(c.Scalars, b.scalar(t, a))
		case parser.ValueTypeString:
			c.Texts = append(c.Texts, unwrap(a).(*parser.StringLiteral).Val)
		default:
			t.Fatalf("%s: an argument of type %s", b.q.text, a.Type())
		}
	}
	if c.Func == "absent" {
		c.Labels = function.AbsentLabels(unwrap(e.Args[0]))
	}
	n, err := function.Build(b.env, c)
	if err != nil {
		t.Fatalf("%s: %v", b.q.text, err)
	}
	return b.annotated(n, e)
}

func (b *builder) scalar(t testing.TB, e parser.Expr) operator.Scalar {
	t.Helper()
	switch e := e.(type) {
	case *parser.ParenExpr:
		return b.scalar(t, e.Expr)
	case *parser.NumberLiteral:
		return scalar.Number(b.env, b.q.grid, e.Val)
	case *parser.UnaryExpr:
		if e.Op == parser.ADD {
			return b.scalar(t, e.Expr)
		}
		return scalar.Negate(b.env, b.scalar(t, e.Expr))
	case *parser.BinaryExpr:
		return scalar.Binary(b.env, e.Op, b.scalar(t, e.LHS), b.scalar(t, e.RHS))
	case *parser.Call:
		c := scalar.Call{Func: e.Func.Name, Grid: b.q.grid}
		for _, a := range e.Args {
			if a.Type() == parser.ValueTypeVector {
				c.In = b.node(t, a)
			} else {
				c.Scalars = append(c.Scalars, b.scalar(t, a))
			}
		}
		s, err := scalar.Build(b.env, c)
		if err != nil {
			t.Fatalf("%s: %v", b.q.text, err)
		}
		return s
	}
	t.Fatalf("%s: no scalar for %T", b.q.text, e)
	return nil
}

// ours answers with our operators.
func (q *query) ours(t *testing.T, d *data, perBatch int) answer {
	t.Helper()
	account := budget.NewRoot("test", 0)
	env := &operator.Env{Dict: vector.NewDict(), Account: account, Options: operator.Options{DelayedNameRemoval: q.delayed}}
	e, err := parser.NewParser(promqltest.TestParserOpts).ParseExpr(q.text)
	if err != nil {
		t.Fatalf("%s: %v", q.text, err)
	}
	b := &builder{env: env, d: d, q: q, perBatch: perBatch}
	var a answer
	if e.Type() == parser.ValueTypeScalar {
		a, err = b.runScalar(t, e)
	} else {
		a, err = b.runVector(t, e)
	}
	if used := account.Used(); used != 0 {
		t.Errorf("%s: %d bytes are still charged", q.text, used)
	}
	for _, l := range b.leaves {
		if n := l.OpenCursors(); n != 0 {
			t.Errorf("%s: %d cursors are still open", q.text, n)
		}
	}
	if err != nil {
		return answer{err: err.Error()}
	}
	as := annotations.Annotations{}
	for _, n := range b.notes {
		n.from.Notes().AddTo(&as, n.at)
	}
	a.finish(q, as)
	return a
}

func (b *builder) runScalar(t *testing.T, e parser.Expr) (a answer, err error) {
	t.Helper()
	s := b.scalar(t, e)
	defer s.Close()
	if err := s.Open(t.Context()); err != nil {
		return a, err
	}
	row := "{} "
	for j, f := range s.Values() {
		row += cellText(b.q.grid.At(j), f, nil)
	}
	a.rows = []string{row}
	return a, nil
}

func (b *builder) runVector(t *testing.T, e parser.Expr) (a answer, err error) {
	t.Helper()
	root := b.node(t, e)
	if b.q.delayed {
		root = function.NewDropNames(b.env, root)
	}
	defer root.Close()
	if err := root.Open(context.Background()); err != nil {
		return a, err
	}
	var sb labels.ScratchBuilder
	err = b.env.Drain(t.Context(), root, nil, func(x *vector.Batch) error {
		for i, id := range x.IDs {
			v, k, h := x.Row(i)
			checkShape(t, b.q.text, x, i)
			row := ""
			for j := range k {
				switch k[j] {
				case vector.Float:
					row += cellText(b.q.grid.At(j), v[j], nil)
				case vector.Histogram:
					row += cellText(b.q.grid.At(j), 0, h[j])
				case vector.Absent:
				}
			}
			if row != "" {
				a.rows = append(a.rows, root.Table().Labels(id, &sb).String()+" "+row)
			}
		}
		return nil
	})
	return a, err
}

func checkShape(t *testing.T, text string, b *vector.Batch, i int) {
	t.Helper()
	got := b.Shape[i]
	b.Measure(i)
	if b.Shape[i] != got {
		t.Errorf("%s: row %d has shape %03b, said to be %03b", text, i, b.Shape[i], got)
	}
}

func sortRows(rows []operatortest.Series) {
	slices.SortFunc(rows, func(a, b operatortest.Series) int { return labels.Compare(a.Labels, b.Labels) })
}

func sortStrings(s []string) { slices.Sort(s) }

// unordered tells whether Prometheus leaves the order of an answer to chance: it does where it had to merge series.
func unordered(q *query, _ answer) bool {
	return strings.Contains(q.text, "label_") || q.delayed || strings.Contains(q.text, "-")
}
