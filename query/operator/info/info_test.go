// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info_test

import (
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
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/schema"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/info"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

const (
	step     = 1000
	lookback = 2500
	start    = 3000
)

// data is series with their samples, and how a reader of the operator is to behave.
type data struct {
	series   []series // in label order
	steps    int
	delayed  bool
	workers  int
	perBatch int
	skip     bool
	phantoms bool // the base lists series that have no cell
}

type series struct {
	labels  labels.Labels
	samples []columntest.Sample
}

// at returns the sample that an instant selector finds.
func (s series) at(t int64) (columntest.Sample, bool) {
	for _, x := range slices.Backward(s.samples) {
		if x.T <= t {
			return x, x.T > t-lookback && !value.IsStaleNaN(x.V)
		}
	}
	return columntest.Sample{}, false
}

// rows evaluates an instant selector. times wants the times of samples instead of values.
func (d *data) rows(ms []*labels.Matcher, times bool) []operatortest.Series {
	var rows []operatortest.Series
	for _, s := range d.series {
		if slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			continue
		}
		row := operatortest.Series{
			Labels: s.labels, V: make([]float64, d.steps), K: make([]vector.Kind, d.steps), H: make([]*histogram.FloatHistogram, d.steps),
		}
		found := false
		for i := range d.steps {
			x, ok := s.at(start + int64(i)*step)
			if !ok {
				continue
			}
			found = true
			switch row.K[i], row.V[i] = vector.Float, x.V; {
			case x.FH != nil:
				row.K[i], row.H[i] = vector.Histogram, x.FH
			case times:
				row.V[i] = float64(x.T)
			}
		}
		if found || d.phantoms {
			rows = append(rows, row)
		}
	}
	return rows
}

type outcome struct {
	rows []string
	err  string
}

func (o outcome) String() string {
	return fmt.Sprintf("error: %s\n%s", o.err, strings.Join(o.rows, "\n"))
}

func newParser() parser.Parser {
	return parser.NewParser(parser.Options{EnableExperimentalFunctions: true})
}

func (d *data) want(t *testing.T, query string) outcome {
	t.Helper()
	var store columntest.Store
	for _, s := range d.series {
		for _, x := range s.samples {
			store.Append(s.labels, x)
		}
	}
	e := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e8, Timeout: time.Minute, LookbackDelta: lookback * time.Millisecond,
		EnableDelayedNameRemoval: d.delayed, Parser: newParser(),
	})
	res := operatortest.Ask(t, e, queryable.New(&store), query, d.grid())
	if res.Err != nil {
		return outcome{err: res.Err.Error()}
	}
	return outcome{rows: slices.Sorted(slices.Values(operatortest.RowTexts(res.Value, d.grid(), cellText)))}
}

func (d *data) grid() vector.Grid { return vector.Grid{Start: start, Step: step, N: d.steps} }

func cellText(i int, f float64, h *histogram.FloatHistogram) string {
	if h != nil {
		return fmt.Sprintf("%d:%v", i, h.Sum)
	}
	return fmt.Sprintf("%d:%x", i, math.Float64bits(f))
}

func (d *data) got(t *testing.T, query string) outcome {
	t.Helper()
	expr, err := newParser().ParseExpr(query)
	if err != nil {
		t.Fatalf("parse %s: %v", query, err)
	}
	call := expr.(*parser.Call)
	env := &operator.Env{
		Dict: vector.NewDict(), Account: budget.NewRoot("test", 0),
		Options: operator.Options{DelayedNameRemoval: d.delayed},
	}
	if d.workers > 0 {
		env.Workers = operator.NewWorkers(d.workers)
	}
	var nodes []*operatortest.Node
	rows := func(ms []*labels.Matcher, times, drop bool) *operatortest.Node {
		found := d.rows(ms, times)
		for i := range found {
			found[i].Drop = drop
		}
		n := operatortest.Rows(env, d.grid(), found...)
		n.PerBatch, n.SkipEmpty = d.perBatch, d.skip
		nodes = append(nodes, n)
		return n
	}
	c := info.Call{Select: func(ms []*labels.Matcher) operator.Node { return rows(ms, true, false) }}
	if abs, ok := call.Args[0].(*parser.Call); ok {
		c.Base = rows(abs.Args[0].(*parser.VectorSelector).LabelMatchers, false, true)
	} else {
		c.Base = rows(call.Args[0].(*parser.VectorSelector).LabelMatchers, false, false)
	}
	if len(call.Args) > 1 {
		c.Matchers = call.Args[1].(*parser.VectorSelector).LabelMatchers
	}
	n := info.New(env, c)
	var o outcome
	err = n.Open(t.Context())
	if err == nil {
		err = d.read(t, env, n, &o)
	}
	n.Close()
	if used := env.Account.Used(); used != 0 {
		t.Errorf("%s: %d bytes are still charged after Close", query, used)
	}
	for _, x := range nodes {
		if x.OpenCursors() != 0 {
			t.Errorf("%s: cursors are still open", query)
		}
		if err == nil && slices.ContainsFunc(x.Read(), func(n int) bool { return n != 1 }) {
			t.Errorf("%s: rows were read %v times", query, x.Read())
		}
	}
	if err != nil {
		return outcome{err: err.Error()}
	}
	return o
}

func (d *data) read(t *testing.T, env *operator.Env, n operator.Node, o *outcome) error {
	t.Helper()
	table := n.Table()
	var sb labels.ScratchBuilder
	byLabels := map[string][]string{}
	err := env.Drain(t.Context(), n, nil, func(b *vector.Batch) error {
		for i, id := range b.IDs {
			ls := table.Labels(id, &sb)
			if table.Dropped(id) {
				ls = ls.DropReserved(schema.IsMetadataLabel)
			}
			v, k, h := b.Row(i)
			cells := byLabels[ls.String()]
			if cells == nil {
				cells = make([]string, d.steps)
			}
			for s := range k {
				if k[s] == vector.Absent {
					continue
				}
				byLabels[ls.String()] = cells
				if cells[s] != "" {
					return errors.New("vector cannot contain metrics with the same labelset")
				}
				cells[s] = cellText(s, v[s], nil)
				if k[s] == vector.Histogram {
					cells[s] = cellText(s, 0, h[s])
				}
			}
		}
		return nil
	})
	for ls, cells := range byLabels {
		o.rows = append(o.rows, operatortest.RowText(ls, cells))
	}
	slices.Sort(o.rows)
	return err
}

func (d *data) check(t *testing.T, query string) outcome {
	t.Helper()
	want, got := d.want(t, query), d.got(t, query)
	// Which of several conflicting labels is named is open.
	if strings.HasPrefix(want.err, "conflicting label") && strings.HasPrefix(got.err, "conflicting label") {
		return want
	}
	if got.String() != want.String() {
		t.Errorf("%s (%d steps, delayed %v, phantoms %v)\ngot\n%s\nwant\n%s\ndata\n%s", query, d.steps, d.delayed, d.phantoms, got, want, d)
	}
	return want
}

func (d *data) String() string {
	var sb strings.Builder
	for _, s := range d.series {
		fmt.Fprintf(&sb, "%s", s.labels)
		for _, x := range s.samples {
			fmt.Fprintf(&sb, " %d:%v", x.T, x.V)
		}
		sb.WriteString("\n")
	}
	return sb.String()
}

func random(r *rand.Rand) *data {
	d := &data{
		steps: []int{1, 2, 5, 9}[r.IntN(4)], delayed: r.IntN(2) == 0, workers: r.IntN(3), perBatch: r.IntN(4),
		skip: r.IntN(2) == 0, phantoms: r.IntN(3) == 0,
	}
	seen := map[string]bool{}
	clash := r.IntN(3) == 0
	for range 1 + r.IntN(10) {
		b := labels.NewBuilder(labels.EmptyLabels())
		name := []string{"m1", "m2", "m1", "target_info", "build_info", "target_info"}[r.IntN(6)]
		b.Set("__name__", name)
		for _, l := range []string{"instance", "job"} {
			if n := r.IntN(8); n > 0 {
				b.Set(l, []string{"a", "b.c"}[n/5])
			}
		}
		for _, l := range []string{"data", "version", "build"} {
			if n := r.IntN(5); n > 2 || n > 1 && name == "target_info" {
				b.Set(l, []string{"x", "y"}[r.IntN(2)])
			}
		}
		if ls := b.Labels(); !seen[ls.String()] {
			seen[ls.String()] = true
			d.series = append(d.series, series{ls, samples(r, name, clash)})
		}
	}
	slices.SortFunc(d.series, func(a, b series) int { return labels.Compare(a.labels, b.labels) })
	return d
}

func samples(r *rand.Rand, name string, clash bool) []columntest.Sample {
	var all []columntest.Sample
	jitter := int64(r.IntN(step))
	if clash {
		jitter = 0
	}
	from, to := r.Int64N(12)-3, 12-r.Int64N(6)
	for i := max(from, 0); i < to; i++ {
		x := columntest.Sample{T: i*step + jitter, V: float64(r.IntN(3))}
		switch n := r.IntN(60); {
		case n < 12:
			continue
		case n < 18:
			x.V = math.Float64frombits(value.StaleNaN)
		case n == 18 && (name != "target_info" || r.IntN(4) == 0):
			x.FH = &histogram.FloatHistogram{Count: 2, Sum: 7, CounterResetHint: histogram.GaugeType}
		}
		all = append(all, x)
	}
	return all
}

func randomQuery(r *rand.Rand, delayed bool) string {
	base := []string{"m1", "m1", `{__name__=~"m."}`, `{__name__=~".+"}`, `{job!=""}`, "target_info"}[r.IntN(6)]
	if delayed && r.IntN(5) == 0 {
		base = "abs(" + base + ")"
	}
	var ms []string
	if r.IntN(2) == 0 {
		ms = append(ms, []string{
			`__name__="target_info"`, `__name__=~".+_info"`, `__name__!="target_info"`, `__name__!~"build.*"`,
			`__name__=~".+_info", __name__!="build_info"`, `__name__="m1"`,
		}[r.IntN(6)])
	}
	for range r.IntN(3) {
		ms = append(ms, []string{
			`data=~".+"`, `data=~".*"`, `data="x"`, `version!="x"`, `version=~"x|y"`, `build=~".*"`, `none=""`, `job="a"`,
		}[r.IntN(8)])
	}
	if len(ms) == 0 && r.IntN(3) > 0 {
		return "info(" + base + ")"
	}
	return "info(" + base + ", {" + strings.Join(ms, ", ") + "})"
}

func TestInfoAnswersAsPrometheus(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	counts := map[string]int{}
	for range 3000 {
		d := random(r)
		query := randomQuery(r, d.delayed)
		if strings.Contains(query, "abs(") {
			for i := range d.series {
				d.series[i].samples = slices.DeleteFunc(d.series[i].samples, func(x columntest.Sample) bool { return x.FH != nil })
			}
		}
		want := d.check(t, query)
		kind, _, _ := strings.Cut(want.err, "{")
		if want.err == "" && len(want.rows) == 0 {
			kind = "empty"
		}
		counts[kind]++
		if t.Failed() {
			return
		}
	}
	for kind, n := range counts {
		t.Logf("%5d %s", n, kind)
	}
}
