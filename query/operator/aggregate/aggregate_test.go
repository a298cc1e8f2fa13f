// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
)

// input is an expression and the rows that it evaluates to.
type input struct {
	text string
	rows func(t *testing.T, w *world, delayed bool) []operatortest.Series
}

var selected = input{`{__name__=~"m|n"}`, func(t *testing.T, w *world, _ bool) []operatortest.Series {
	t.Helper()
	return w.Rows(t, `{__name__=~"m|n"}`)
}}

// united has rows of which some lose their names. Prometheus yields them in no order over several steps.
var united = input{`-m or on (__name__, a, b, c) n`, func(t *testing.T, w *world, delayed bool) []operatortest.Series {
	t.Helper()
	var neg, rest []operatortest.Series
	for _, s := range w.Rows(t, `{__name__=~"m|n"}`) {
		if s.Labels.Get(labels.MetricName) == "n" {
			rest = append(rest, s)
			continue
		}
		neg = append(neg, negated(s, delayed))
	}
	return append(neg, rest...)
}}

func negated(s operatortest.Series, delayed bool) operatortest.Series {
	out := operatortest.Series{Labels: s.Labels, K: s.K, H: s.H, Drop: delayed}
	if !delayed {
		out.Labels = labels.NewBuilder(s.Labels).Del(labels.MetricName).Labels()
	}
	out.H = nil
	for i, v := range s.V {
		out.V = append(out.V, -v)
		if s.H != nil {
			h := s.H[i]
			if h != nil {
				h = h.Copy().Mul(-1)
			}
			out.H = append(out.H, h)
		}
	}
	return out
}

var modifiers = []string{"", "by (a)", "by (c)", "by (a, c)", "by (__name__)", "by (__name__, a)", "without (b)", "without ()", "without (b, c)", "by (b)"}

func randomParam(r *rand.Rand, op string) string {
	switch op {
	case "topk", "bottomk", "limitk":
		return []string{"0", "1", "2", "3", "7", "1000", "NaN", "-1", "1e30", "-1e30", "2.9", "scalar(vector(time() % 240 / 60))", "time() % 300 / 60"}[r.IntN(13)]
	case "quantile":
		return []string{"0", "0.5", "0.9", "1", "-1", "1.5", "NaN", "0.33", "time() % 300 / 240"}[r.IntN(9)]
	case "limit_ratio":
		return []string{"0", "0.5", "-0.5", "1", "-1", "2", "-2", "NaN", "0.1", "1 - time() % 300 / 120"}[r.IntN(10)]
	case "count_values":
		return []string{`"v"`, `"a"`, `"b"`, `"__name__"`}[r.IntN(4)]
	}
	return ""
}

type trial struct {
	world   *world
	query   string
	delayed bool
	input   input
	limit   int64 // of state; 0: the usual
	workers int
}

// config parses the query of a trial.
func (x trial) config(t *testing.T) (Config, []posrange.PositionRange) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(x.query)
	if err != nil {
		t.Fatalf("%s: %v", x.query, err)
	}
	e := expr.(*parser.AggregateExpr)
	c := Config{Op: e.Op, Grouping: e.Grouping, Without: e.Without}
	at := []posrange.PositionRange{e.PosRange, e.Expr.PositionRange(), {}}
	switch p := e.Param.(type) {
	case nil:
	case *parser.StringLiteral:
		c.Label = p.Val
	default:
		c.Param = x.world.Scalar(t, p.String())
		at[2] = p.PositionRange()
	}
	return c, at
}

func (x trial) run(t *testing.T) {
	t.Helper()
	c, at := x.config(t)
	env := newEnv(x.delayed)
	in := operatortest.Rows(env, x.world.Grid, x.input.rows(t, x.world, x.delayed)...)
	in.PerBatch = 3
	env.Workers = operator.NewWorkers(x.workers)
	op := New(env, c, in)
	if n, ok := op.(*node); ok && x.limit > 0 {
		n.limit = x.limit
	}
	got := x.world.Read(t, env, op, x.query, at)
	if n := in.OpenCursors(); n != 0 {
		t.Errorf("%s: %d cursors of the input are open", x.query, n)
	}
	want := x.world.Answer(t, x.query, x.delayed)
	if c.Op == parser.COUNT_VALUES {
		sort.Strings(got.Rows)
		sort.Strings(want.Rows)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%s (delayed %v, %d steps) differs, -prometheus +ours:\n%s", x.query, x.delayed, x.world.Grid.N, d)
	}
	if used := env.Account.Used(); used != 0 {
		t.Errorf("%s: %d bytes are still charged", x.query, used)
	}
}

func TestGroupOrderGivesTheSame(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 9))
	for _, op := range []string{"sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile", "topk", "bottomk"} {
		t.Run(op, func(t *testing.T) {
			for range 40 {
				w := newWorld(r, worldConfig{
					series: 1 + r.IntN(60), steps: 2 + r.IntN(6),
					gaps: r.IntN(2) == 0, histograms: r.IntN(2) == 0, hard: r.IntN(2) == 0,
				})
				x := trial{world: w, delayed: r.IntN(2) == 0, input: selected, limit: 1 + r.Int64N(500), workers: r.IntN(3)}
				arg := x.input.text
				if p := randomParam(r, op); p != "" {
					arg = p + ", " + arg
				}
				x.query = fmt.Sprintf("%s %s (%s)", op, modifiers[r.IntN(len(modifiers))], arg)
				x.run(t)
			}
		})
	}
}

type testCase struct {
	worldConfig
	input input
}

// randomCase returns what an aggregation gives one answer for.
func randomCase(r *rand.Rand, op string) testCase {
	c := testCase{input: selected, worldConfig: worldConfig{
		series: 1 + r.IntN(40), steps: []int{1, 1, 2, 5, 9}[r.IntN(5)],
		gaps: r.IntN(2) == 0, histograms: r.IntN(2) == 0, hard: r.IntN(2) == 0,
	}}
	if r.IntN(2) == 0 {
		return c
	}
	c.input = united
	if c.steps > 1 {
		switch op {
		case "sum", "avg":
			c.whole, c.histograms = true, false
		case "stddev", "stdvar", "topk", "bottomk", "limitk", "min", "max", "quantile":
			c.steps = 1
		}
	}
	return c
}

func TestAggregationsAreThoseOfPrometheus(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ops := []string{"sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile", "topk", "bottomk", "limitk", "limit_ratio", "count_values"}
	for _, op := range ops {
		t.Run(op, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			for range 150 {
				c := randomCase(r, op)
				w := newWorld(r, c.worldConfig)
				x := trial{world: w, delayed: r.IntN(2) == 0, input: c.input, workers: r.IntN(3)}
				arg := x.input.text
				if p := randomParam(r, op); p != "" {
					arg = p + ", " + arg
				}
				x.query = fmt.Sprintf("%s %s (%s)", op, modifiers[r.IntN(len(modifiers))], arg)
				x.run(t)
			}
		})
	}
}
