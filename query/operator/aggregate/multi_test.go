// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

func TestSeveralAggregationsReadTheirInputOnce(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	exprs := []string{
		`sum by (a) ({__name__=~"m|n"})`, `max({__name__=~"m|n"})`, `count without (b) ({__name__=~"m|n"})`,
		`topk(2, {__name__=~"m|n"})`, `limit_ratio(0.5, {__name__=~"m|n"})`, `quantile by (c) (0.3, {__name__=~"m|n"})`,
		`count_values("v", {__name__=~"m|n"})`,
	}
	for range 30 {
		w := newWorld(r, worldConfig{series: 30, steps: 1 + r.IntN(5), gaps: true, histograms: r.IntN(2) == 0, hard: true})
		env := newEnv(true)
		in := operatortest.Rows(env, w.Grid, w.Rows(t, `{__name__=~"m|n"}`)...)
		var cfgs []Config
		var trials []trial
		for _, e := range exprs {
			x := trial{world: w, query: e, delayed: true}
			c, _ := x.config(t)
			cfgs, trials = append(cfgs, c), append(trials, x)
		}
		for i, n := range NewMulti(env, cfgs, in) {
			_, at := trials[i].config(t)
			got, want := w.Read(t, env, n, exprs[i], at), w.Answer(t, exprs[i], true)
			if cfgs[i].Op == parser.COUNT_VALUES {
				got, want = got.Sorted(), want.Sorted()
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("%s: %s", exprs[i], d)
			}
		}
		for id, n := range in.Read() {
			if n != 1 {
				t.Fatalf("row %d was read %d times", id, n)
			}
		}
		if used := env.Account.Used(); used != 0 {
			t.Fatalf("%d bytes are still charged", used)
		}
	}
}

func TestRowsThatDoNotMatchAreLeftOut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 4))
	where := []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, "a", "1"), labels.MustNewMatcher(labels.MatchNotRegexp, "c", "0|2"),
		labels.MustNewMatcher(labels.MatchEqual, "nowhere", ""),
	}
	const part = `{__name__=~"m|n", a="1", c!~"0|2", nowhere=""}`
	for _, op := range []string{"sum by (c) (%s)", "topk(3, %s)", "limitk(2, %s)", "limit_ratio(0.7, %s)", "avg(%s)", "quantile(0.2, %s)"} {
		w := newWorld(r, worldConfig{series: 40, steps: 1 + r.IntN(4), gaps: true, histograms: true})
		env := newEnv(true)
		in := operatortest.Rows(env, w.Grid, w.Rows(t, `{__name__=~"m|n"}`)...)
		x := trial{world: w, query: fmt.Sprintf(op, part), delayed: true}
		c, at := x.config(t)
		c.Where = where
		got, want := w.Read(t, env, New(env, c, in), x.query, at), w.Answer(t, x.query, true)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s: %s", x.query, d)
		}
	}
}

// failing is a scalar that cannot be opened.
type failing struct{ operatortest.Constants }

func (failing) Open(context.Context) error { return errors.New("no scalar") }

func TestErrors(t *testing.T) {
	rows := benchRows(10, 2, 3, false)
	bad := errors.New("input is bad")
	check := func(name string, c Config, inputErr error, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			env := newEnv(true)
			in := operatortest.Rows(env, vector.Grid{Start: 0, Step: 1, N: 3}, rows...)
			in.Err = inputErr
			n := New(env, c, in)
			defer n.Close()
			err := n.Open(t.Context())
			if err == nil || err.Error() != want {
				t.Fatalf("got %v, want %s", err, want)
			}
		})
	}
	same := func(v float64) operator.Scalar { return operatortest.Constants{v, v, v} }
	check("a label that is no text", Config{Op: parser.COUNT_VALUES, Label: "a\xff"}, bad, `invalid label name "a\xff"`)
	check("a parameter that fails goes before the input", Config{Op: parser.TOPK, Param: failing{}}, bad, "no scalar")
	check("the input goes before the value of a parameter", Config{Op: parser.TOPK, Param: same(math.NaN())}, bad, "input is bad")
	check("NaN series", Config{Op: parser.TOPK, Param: same(math.NaN())}, nil, "Parameter value is NaN")
	check("NaN ratio", Config{Op: parser.LIMIT_RATIO, Param: same(math.NaN())}, nil, "Ratio value is NaN")
	check("NaN ratio after the input", Config{Op: parser.LIMIT_RATIO, Param: same(math.NaN())}, bad, "input is bad")
	check("too many series", Config{Op: parser.LIMITK, Param: same(1e20)}, nil, "Scalar value 1e+20 overflows int64")
	check("too few series", Config{Op: parser.BOTTOMK, Param: operatortest.Constants{1, -1e20, 1}}, nil, "Scalar value -1e+20 underflows int64")
	check("input of a sum", Config{Op: parser.SUM}, bad, "input is bad")
}

func TestEveryAggregationKeepsToTheBudget(t *testing.T) {
	for _, op := range []parser.ItemType{
		parser.SUM, parser.AVG, parser.MIN, parser.COUNT, parser.GROUP, parser.STDDEV, parser.QUANTILE, parser.TOPK,
		parser.LIMITK, parser.LIMIT_RATIO, parser.COUNT_VALUES,
	} {
		env := newEnv(true)
		rows := benchRows(400, 200, 50, false)
		env.Account = budget.NewRoot("query", 95_000)
		param := make(operatortest.Constants, 50)
		for i := range param {
			param[i] = 1
		}
		n := New(env, Config{Op: op, Grouping: []string{"g"}, Param: param, Label: "v"},
			operatortest.Rows(env, vector.Grid{Step: 1, N: 50}, rows...))
		err := n.Open(t.Context())
		var exceeded *budget.ExceededError
		if op != parser.LIMIT_RATIO && !errors.As(err, &exceeded) {
			t.Errorf("%s: got %v, want an error of the budget", op, err)
		}
		n.Close()
		if used := env.Account.Used(); used != 0 {
			t.Errorf("%s: %d bytes are still charged", op, used)
		}
	}
}

// generated is rows that are made when they are read.
type generated struct {
	*operatortest.Node
	env   *operator.Env
	table *vector.Table
	grid  vector.Grid
}

func (g *generated) Open(context.Context) error { return nil }
func (g *generated) Table() *vector.Table       { return g.table }
func (g *generated) Grid() vector.Grid          { return g.grid }
func (g *generated) Cursor(ids []uint32) operator.Cursor {
	if ids == nil {
		ids = make([]uint32, g.table.N)
		for i := range ids {
			ids[i] = uint32(i)
		}
	}
	return &generatedCursor{g.grid.N, ids}
}

type generatedCursor struct {
	steps int
	ids   []uint32
}

func (c *generatedCursor) Close() {}

func (c *generatedCursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	b.Reset(c.steps)
	for len(c.ids) > 0 && b.Rows() < operator.BatchRows(c.steps) {
		i, err := b.Add(c.ids[0])
		if err != nil {
			return false, err
		}
		v, k, _ := b.Row(i)
		for j := range v {
			v[j], k[j] = float64(c.ids[0]), vector.Float
		}
		b.Shape[i] = vector.Full
		c.ids = c.ids[1:]
	}
	return b.Rows() > 0, nil
}

func TestSmallGroupsOfManySeriesTakeLittleMemory(t *testing.T) {
	const series, groups, steps = 100_000, 25_000, 240
	env := newEnv(true)
	env.Workers = operator.NewWorkers(1)
	table := &vector.Table{N: series, Names: []string{"g"}, Dict: env.Dict, Cols: [][]uint32{make([]uint32, series)}}
	for i := range series {
		table.Cols[0][i], _ = env.Dict.Symbol(fmt.Sprint("g", i%groups))
	}
	in := &generated{
		Node: operatortest.Rows(env, vector.Grid{}), env: env, table: table, grid: vector.Grid{Step: 1, N: steps},
	}
	n := New(env, Config{Op: parser.SUM, Grouping: []string{"g"}}, in)
	defer n.Close()
	if err := n.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := env.Drain(t.Context(), n, nil, func(b *vector.Batch) error {
		for i, g := range b.IDs {
			if got, want := b.V[i*steps], float64(4*int(g)+6*groups); got != want {
				t.Fatalf("sum of group %d is %v, want %v", g, got, want)
			}
			seen++
		}
		return nil
	})
	if err != nil || seen != groups {
		t.Fatalf("read %d groups, %v; want %d", seen, err, groups)
	}
	peak := env.Account.Peak()
	t.Logf("peak %d KiB, the state of all groups would be %d KiB", peak>>10, groups*steps*17>>10)
	if peak > 12<<20 {
		t.Errorf("peak is %d bytes", peak)
	}
}

func TestAStoppedQueryEnds(t *testing.T) {
	env := newEnv(true)
	stop := errors.New("stopped")
	n := New(env, Config{Op: parser.SUM}, operatortest.Rows(env, vector.Grid{Step: 1, N: 3}, benchRows(10, 2, 3, false)...))
	defer n.Close()
	env.Stop(stop)
	if err := n.Open(t.Context()); !errors.Is(err, stop) {
		t.Fatalf("got %v, want %v", err, stop)
	}
}
