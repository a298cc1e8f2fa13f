// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/join"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

const step = 1000

// data is series with one cell per step, and how a reader of the operator is to behave.
type data struct {
	series   []operatortest.Series // in label order
	steps    int
	delayed  bool
	workers  int
	perBatch int
	skip     bool
	narrow   bool
	reverse  bool // read the rows backwards

	store *columntest.Store // holds series; nil until it is needed
}

// parse reads an expression of one binary operator between two selectors, either of which may stand in abs().
func parse(t *testing.T, query string) *parser.BinaryExpr {
	t.Helper()
	expr, err := newParser().ParseExpr(query)
	if err != nil {
		t.Fatalf("parse %s: %v", query, err)
	}
	return expr.(*parser.BinaryExpr)
}

func newParser() parser.Parser {
	return parser.NewParser(parser.Options{EnableExperimentalFunctions: true, EnableBinopFillModifiers: true})
}

// outcome is an answer in a form to compare: rows as text, or an error, and annotations.
type outcome struct {
	rows  []string
	err   string
	notes []string
	// joined says that rows with equal labels were put together at the root, after which Prometheus' have no order.
	joined bool
}

func (o outcome) String() string {
	return fmt.Sprintf("error: %s\nnotes: %s\n%s", o.err, strings.Join(o.notes, "\n       "), strings.Join(o.rows, "\n"))
}

// want asks Prometheus' engine.
func (d *data) want(t *testing.T, query string) outcome {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e8, Timeout: time.Minute, LookbackDelta: time.Millisecond, EnableDelayedNameRemoval: d.delayed,
		Parser: newParser(),
	})
	if d.store == nil {
		d.fill()
		d.hint(t, engine)
	}
	res := d.exec(t, engine, query)
	o := outcome{notes: notes(res.Warnings, query)}
	if res.Err != nil {
		o.err = res.Err.Error()
		return o
	}
	o.rows = operatortest.RowTexts(res.Value, d.grid(), cellText)
	if d.steps > 1 {
		slices.Sort(o.rows)
	}
	return o
}

func (d *data) grid() vector.Grid { return vector.Grid{Step: step, N: d.steps} }

// fill puts the series in the store.
func (d *data) fill() {
	d.store = &columntest.Store{}
	for _, s := range d.series {
		for i := range d.steps {
			x := columntest.Sample{T: int64(i) * step, V: s.V[i]}
			switch s.K[i] {
			case vector.Absent:
				continue
			case vector.Histogram:
				x.FH = s.H[i].Copy()
			case vector.Float:
			}
			d.store.Append(s.Labels, x)
		}
	}
}

// hint gives the histograms of d the counter reset hints that the storage gives them.
func (d *data) hint(t *testing.T, e *promql.Engine) {
	t.Helper()
	hints := map[string]histogram.CounterResetHint{}
	res := d.exec(t, e, `{__name__=~".+"}`)
	switch v := res.Value.(type) {
	case promql.Vector:
		for _, s := range v {
			if s.H != nil {
				hints[s.Metric.String()] = s.H.CounterResetHint
			}
		}
	case promql.Matrix:
		for _, s := range v {
			for _, p := range s.Histograms {
				hints[fmt.Sprint(s.Metric, p.T/step)] = p.H.CounterResetHint
			}
		}
	}
	for _, s := range d.series {
		for i, h := range s.H {
			if h != nil && d.steps == 1 {
				h.CounterResetHint = hints[s.Labels.String()]
			} else if h != nil {
				h.CounterResetHint = hints[fmt.Sprint(s.Labels, i)]
			}
		}
	}
}

func (d *data) exec(t *testing.T, e *promql.Engine, query string) *promql.Result {
	t.Helper()
	return operatortest.Ask(t, e, queryable.New(d.store), query, d.grid())
}

func cellText(i int, f float64, h *histogram.FloatHistogram) string {
	switch {
	case h != nil:
		return fmt.Sprintf("%d:%s/%d", i, h.TestExpression(), h.CounterResetHint)
	case math.IsNaN(f):
		return fmt.Sprintf("%d:NaN", i)
	default:
		return fmt.Sprintf("%d:%x", i, math.Float64bits(f))
	}
}

func notes(a annotations.Annotations, query string) []string {
	warnings, infos := a.AsStrings(query, 0, 0)
	return slices.Sorted(slices.Values(slices.Concat(warnings, infos)))
}

// fixture is our operator over the same data.
type fixture struct {
	env         *operator.Env
	left, right *operatortest.Node
	node        operator.Node
}

func (d *data) build(t testing.TB, e *parser.BinaryExpr) *fixture {
	t.Helper()
	f := &fixture{env: &operator.Env{
		Dict: vector.NewDict(), Account: budget.NewRoot("test", 0),
		Options: operator.Options{DelayedNameRemoval: d.delayed},
	}}
	if d.workers > 0 {
		f.env.Workers = operator.NewWorkers(d.workers)
	}
	f.left, f.right = d.operand(f.env, e.LHS), d.operand(f.env, e.RHS)
	f.node = join.New(f.env, join.Call{
		Op: e.Op, Bool: e.ReturnBool, Matching: e.VectorMatching, Left: f.left, Right: f.right, Narrow: d.narrow,
	})
	return f
}

func (d *data) operand(env *operator.Env, e parser.Expr) *operatortest.Node {
	drop := false
	if call, ok := e.(*parser.Call); ok {
		drop, e = true, call.Args[0]
	}
	var rows []operatortest.Series
	for _, s := range d.series {
		if !matches(s, e.(*parser.VectorSelector).LabelMatchers) {
			continue
		}
		s.Drop = drop
		rows = append(rows, s)
	}
	n := operatortest.Rows(env, d.grid(), rows...)
	n.PerBatch, n.SkipEmpty = d.perBatch, d.skip
	return n
}

func matches(s operatortest.Series, ms []*labels.Matcher) bool {
	present := slices.ContainsFunc(s.K, func(k vector.Kind) bool { return k != vector.Absent })
	return present && !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(s.Labels.Get(m.Name)) })
}

// got asks our operator, and checks what it holds and leaves behind.
func (d *data) got(t *testing.T, query string) outcome {
	t.Helper()
	e := parse(t, query)
	f := d.build(t, e)
	var o outcome
	err := f.node.Open(t.Context())
	if err == nil {
		err = d.read(t.Context(), f, &o)
	}
	if a, ok := f.node.(operator.Annotated); ok {
		var all annotations.Annotations
		a.Notes().AddTo(&all, []posrange.PositionRange{e.PositionRange()})
		o.notes = notes(all, query)
	}
	f.node.Close()
	f.node.Close()
	if used := f.env.Account.Used(); used != 0 {
		t.Errorf("%s: %d bytes are still charged after Close", query, used)
	}
	if n := f.left.OpenCursors() + f.right.OpenCursors(); n != 0 {
		t.Errorf("%s: %d cursors are still open", query, n)
	}
	if err != nil {
		return outcome{err: err.Error(), notes: o.notes}
	}
	if !d.narrow && d.workers == 0 && !d.reverse {
		for _, n := range slices.Concat(f.left.Read(), f.right.Read()) {
			if n != 1 {
				t.Errorf("%s: rows were read %v and %v times", query, f.left.Read(), f.right.Read())
				break
			}
		}
	}
	return o
}

// read reads the result and does what the root of a query does: names are dropped, and rows that are then equal
// are joined.
func (d *data) read(ctx context.Context, f *fixture, o *outcome) error {
	table := f.node.Table()
	byLabels := map[string][]string{}
	var order []string
	var sb labels.ScratchBuilder
	var ids []uint32
	if d.reverse {
		for i := range table.N {
			ids = append(ids, uint32(table.N-1-i))
		}
	}
	err := f.env.Drain(ctx, f.node, ids, func(b *vector.Batch) error {
		for i, id := range b.IDs {
			ls := table.Labels(id, &sb)
			if table.Dropped(id) && d.delayed {
				ls = ls.DropReserved(schema.IsMetadataLabel)
			}
			shape := b.Shape[i]
			if b.Measure(i); shape&vector.HasHistograms == 0 && b.Shape[i] != shape {
				return fmt.Errorf("row %d has shape %b and says %b", id, b.Shape[i], shape)
			}
			v, k, h := b.Row(i)
			for s := range k {
				if k[s] == vector.Absent {
					continue
				}
				cells, ok := byLabels[ls.String()]
				if !ok {
					cells = make([]string, d.steps)
					byLabels[ls.String()] = cells
					order = append(order, ls.String())
				}
				// Prometheus' engine does not mind a float beside a histogram here; the histogram is shown.
				there := cells[s] != ""
				o.joined = o.joined || there
				isHistogram := there && strings.Contains(cells[s], "{")
				if there && isHistogram == (k[s] == vector.Histogram) {
					return errors.New("vector cannot contain metrics with the same labelset")
				}
				switch {
				case isHistogram:
				case k[s] == vector.Histogram:
					cells[s] = cellText(s, 0, h[s])
				default:
					cells[s] = cellText(s, v[s], nil)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, ls := range order {
		o.rows = append(o.rows, operatortest.RowText(ls, byLabels[ls]))
	}
	if d.steps > 1 || d.reverse || o.joined {
		slices.Sort(o.rows)
	}
	return nil
}

// check compares the two.
func (d *data) check(t *testing.T, query string) outcome {
	t.Helper()
	want, got := d.want(t, query), d.got(t, query)
	if d.reverse || got.joined {
		slices.Sort(want.rows)
	}
	if want.err != "" {
		got.notes = want.notes // Nobody sees them.
	}
	if d.steps > 1 && strings.Contains(query, "abs(") {
		// The rows of a function come in no order there, and so any pair may be named.
		want.err, got.err = cutGroup(want.err), cutGroup(got.err)
	}
	if got.String() != want.String() {
		t.Errorf("%s (%+v)\ngot\n%s\nwant\n%s\ndata\n%s", query, d.options(), got, want, d)
	}
	return want
}

func cutGroup(err string) string {
	kind, _, _ := strings.Cut(err, "{")
	return kind
}

func (d *data) options() string {
	return fmt.Sprintf("steps %d, delayed %v, workers %d, per batch %d, skip %v, narrow %v, reverse %v",
		d.steps, d.delayed, d.workers, d.perBatch, d.skip, d.narrow, d.reverse)
}

func (d *data) String() string {
	var sb strings.Builder
	for _, s := range d.series {
		fmt.Fprintf(&sb, "%s %v %v\n", s.Labels, s.K, s.V)
	}
	return sb.String()
}

// random makes series of few labels with few values, so that they match and collide in all ways.
func random(r *rand.Rand) *data {
	d := &data{
		steps: []int{1, 1, 2, 5, 9}[r.IntN(5)], delayed: r.IntN(2) == 0, workers: r.IntN(3), perBatch: r.IntN(4),
		skip: r.IntN(2) == 0, narrow: r.IntN(4) == 0, reverse: r.IntN(5) == 0,
	}
	density := []float64{0.15, 0.5, 0.9, 1}[r.IntN(4)]
	histograms := []float64{0, 0, 0, 0.1, 0.5, 1}[r.IntN(6)]
	names := []string{"l", "r", "s", "l2", "r2"}[:2+r.IntN(4)]
	seen := map[string]bool{}
	for range 1 + r.IntN(14) {
		b := labels.NewBuilder(labels.EmptyLabels())
		b.Set("__name__", names[r.IntN(len(names))])
		for _, l := range []string{"a", "b", "c", "__type__"} {
			if n := r.IntN(4); n > 0 && (l != "__type__" || r.IntN(4) == 0) {
				b.Set(l, fmt.Sprint(min(n, 2)))
			}
		}
		if ls := b.Labels(); !seen[ls.String()] {
			seen[ls.String()] = true
			d.series = append(d.series, cells(r, ls, d.steps, density, histograms))
		}
	}
	slices.SortFunc(d.series, func(a, b operatortest.Series) int { return labels.Compare(a.Labels, b.Labels) })
	return d
}

func cells(r *rand.Rand, ls labels.Labels, steps int, density, histograms float64) operatortest.Series {
	s := operatortest.Series{
		Labels: ls, V: make([]float64, steps), K: make([]vector.Kind, steps), H: make([]*histogram.FloatHistogram, steps),
	}
	if r.IntN(3) == 0 {
		density = 1
	}
	for i := range steps {
		if r.Float64() >= density {
			continue
		}
		s.V[i], s.K[i] = []float64{0, 1, 2, 3, 0.1, 7e300, math.Inf(1), math.NaN(), math.Copysign(0, -1)}[r.IntN(9)], vector.Float
		if r.Float64() < histograms {
			s.K[i], s.H[i] = vector.Histogram, randomHistogram(r)
		}
	}
	return s
}

func randomHistogram(r *rand.Rand) *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{
		Count: 6, Sum: float64(r.IntN(3)), PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}},
		PositiveBuckets:  []float64{2, 4},
		CounterResetHint: []histogram.CounterResetHint{histogram.UnknownCounterReset, histogram.CounterReset, histogram.NotCounterReset, histogram.GaugeType}[r.IntN(4)],
	}
	if r.IntN(2) == 0 {
		h.Schema, h.CustomValues = histogram.CustomBucketsSchema, []float64{1, 2, 5}[:2+r.IntN(2)]
	}
	return h
}

// randomQuery makes a binary expression.
func randomQuery(r *rand.Rand, delayed bool) string {
	op := []string{"+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "</", ">/", "and", "or", "unless", "+", "-"}[r.IntN(20)]
	set := op == "and" || op == "or" || op == "unless"
	side := func(name string) string {
		return strings.ReplaceAll([]string{
			`{__name__=~"N.*"}`, `{__name__=~"N|s"}`, `{__name__=~"N.*|s"}`, `{__name__=~"N"}`, `{__name__=~".+",a!="N"}`,
		}[r.IntN(5)], "N", name)
	}
	l, o := side("l"), side("r")
	if delayed && r.IntN(4) == 0 {
		l = "abs(" + l + ")"
	}
	if delayed && r.IntN(4) == 0 {
		o = "abs(" + o + ")"
	}
	var q strings.Builder
	q.WriteString(l + " " + op)
	comparison := strings.Contains("== != > < >= <=", op)
	if comparison && r.IntN(2) == 0 {
		q.WriteString(" bool")
	}
	on := []string{"a", "b", "c", "a, b", "a, b, c", "", "__name__, a", "__type__", "__name__, a, b, c, __type__"}[r.IntN(9)]
	kind := []string{" on", " ignoring"}[r.IntN(2)]
	if matching := r.IntN(6) > 0; matching {
		fmt.Fprintf(&q, "%s (%s)", kind, on)
		if !set && r.IntN(2) == 0 {
			include := []string{"", "c", "b", "__name__", "a, c"}[r.IntN(5)]
			for l := range strings.SplitSeq(include, ", ") {
				if kind == " on" && strings.Contains(on, l) {
					include = ""
				}
			}
			fmt.Fprintf(&q, " group_%s (%s)", []string{"left", "right"}[r.IntN(2)], include)
		}
	}
	if !set {
		q.WriteString([]string{"", "", "", " fill (0)", " fill_left (1)", " fill_right (2)", " fill_left (1) fill_right (2)"}[r.IntN(7)])
	}
	return q.String() + " " + o
}

func TestEveryOperatorAnswersAsPrometheus(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	counts := map[string]int{}
	for range 3000 {
		d := random(r)
		query := randomQuery(r, d.delayed)
		if strings.Contains(query, "abs(") {
			for _, s := range d.series {
				for i, k := range s.K {
					s.V[i] = math.Abs(s.V[i])
					if k == vector.Histogram {
						s.K[i] = vector.Absent
					}
				}
			}
		}
		want := d.check(t, query)
		kind, _, _ := strings.Cut(want.err, "{")
		counts[kind]++
		for _, n := range want.notes {
			kind, _, _ := strings.Cut(n, ":")
			counts[kind]++
		}
		if t.Failed() {
			return
		}
	}
	for kind, n := range counts {
		t.Logf("%5d %s", n, kind)
	}
}
