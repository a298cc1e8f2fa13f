// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

var errStop = errors.New("stopped")

// stopped is the environment of a query that has stopped.
func stopped() *operator.Env {
	env := newEnv(true)
	env.Stop(errStop)
	return env
}

func TestLargeSortsEndWhenTheQueryStops(t *testing.T) {
	const n = 1_000_000
	check := func(what string, sort func(env *operator.Env)) {
		t.Helper()
		took := func(env *operator.Env) time.Duration {
			begun := time.Now()
			sort(env)
			return time.Since(begun)
		}
		var whole, ended time.Duration
		for range 3 { // other work may be in the way
			if whole, ended = took(newEnv(true)), took(stopped()); ended < whole/4 {
				return
			}
		}
		t.Errorf("%s: takes %s, and %s when the query has stopped", what, whole, ended)
	}
	r := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, n)
	for i := range values {
		values[i] = r.NormFloat64()
	}
	check("the sort of a heap", func(env *operator.Env) {
		h := heap{of: make([]ranked, n)}
		for i, v := range values {
			h.of[i] = ranked{v, uint32(i)}
		}
		h.sortReversed(env)
	})
	zeros := make([]float64, n)
	check("a quantile of zeros of both signs", func(env *operator.Env) {
		for i, v := range values {
			zeros[i] = math.Copysign(float64(int(v*1000)), v)
		}
		quantile(env, 0.5, zeros)
	})
	came := make([]uint32, n)
	for i, at := range r.Perm(n) {
		came[i] = uint32(at)
	}
	check("the order of groups", func(env *operator.Env) { _, _ = ordered(env, &retain.Memory{}, came) })
}

func TestLoopsOverWhatIsHeldAskWhetherTheQueryGoesOn(t *testing.T) {
	const n = 40_000
	rows := make([]operatortest.Series, n)
	for i := range rows {
		rows[i].Labels = labels.FromStrings("i", fmt.Sprint(i), "g", fmt.Sprint(i%3))
		rows[i].V = []float64{float64(i % 3 * i)}
	}
	for _, op := range []parser.ItemType{
		parser.SUM, parser.QUANTILE, parser.TOPK, parser.LIMITK, parser.LIMIT_RATIO, parser.COUNT_VALUES,
	} {
		env := newEnv(true)
		cfg := Config{Op: op, Grouping: []string{"g"}, Param: operatortest.Constants{1}, Label: "v"}
		if op == parser.TOPK || op == parser.LIMITK {
			cfg.Param = operatortest.Constants{n}
		}
		input := operatortest.Rows(env, vector.Grid{Step: 1, N: 1}, rows...)
		x, _ := New(env, cfg, input).(*node)
		if err := input.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		s, err := x.sink()
		if err != nil {
			t.Fatal(err)
		}
		if err := env.Drain(t.Context(), input, nil, s.add); err != nil {
			t.Fatal(err)
		}
		env.Stop(errStop)
		if _, err := s.end(); !errors.Is(err, errStop) {
			t.Errorf("%s: the end is %v", op, err)
		}
		x.Close()
		if used := env.Account.Used(); used != 0 {
			t.Errorf("%s: %d bytes are charged", op, used)
		}
	}
	env := newEnv(true)
	table := operatortest.Table(env.Dict, rows)
	env.Stop(errStop)
	is := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, errStop) {
			t.Errorf("%s: %v", what, err)
		}
	}
	held := &retain.Memory{Account: env.Account}
	_, err := matching(env, held, table, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "i", "1.*")})
	is("matching", err)
	g := &grouping{env: env, in: table, of: make([]uint32, n), first: []uint32{0}, rows: n}
	is("restricting", g.restrict(held, make([]bool, n)))
	_, _, err = g.sorted(held)
	is("sorting rows by group", err)
	big := &values{node: &node{feed: &feed{env: env}}, rows: make([]valueRow, n)}
	is("growing the table of values", big.enlarge())
	_, err = big.histogram(0, &histogram.FloatHistogram{})
	is("the text of a histogram", err)
	many := &top{node: big.node, size: []int{n}, begin: []int{0}, steps: 1, of: make([]ranked, n), count: []uint32{n}}
	is("the entries of a group", many.entries(func(int, ranked) {}))
}

// histogramRows are rows of one native histogram per step, each with a number of buckets, in groups of two.
func histogramRows(series, steps, buckets int) (rows []operatortest.Series, bytes int64) {
	for i := range series {
		s := operatortest.Series{Labels: labels.FromStrings("i", fmt.Sprint(i), "g", fmt.Sprint(i/2)), V: make([]float64, steps)}
		for range steps {
			h := &histogram.FloatHistogram{
				Schema: 3, Count: float64(buckets), PositiveSpans: []histogram.Span{{Length: uint32(buckets)}},
				PositiveBuckets: make([]float64, buckets),
			}
			for b := range h.PositiveBuckets {
				h.PositiveBuckets[b] = 1
			}
			bytes += int64(h.Size())
			s.H, s.K = append(s.H, h), append(s.K, vector.Histogram)
		}
		rows = append(rows, s)
	}
	return rows, bytes
}

func TestHistogramsThatAreKeptAreCharged(t *testing.T) {
	for _, steps := range []int{1, 7} {
		for _, op := range []parser.ItemType{parser.LIMITK, parser.LIMIT_RATIO} {
			if op == parser.LIMIT_RATIO && steps > 1 {
				continue // keeps nothing
			}
			env := newEnv(true)
			rows, bytes := histogramRows(100, steps, 100)
			param := make(operatortest.Constants, steps)
			for i := range param {
				param[i] = map[parser.ItemType]float64{parser.LIMITK: 1000, parser.LIMIT_RATIO: 1}[op]
			}
			n := New(env, Config{Op: op, Param: param}, operatortest.Rows(env, vector.Grid{Step: 1, N: steps}, rows...))
			if err := n.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			if used := env.Account.Used(); used < bytes || used > 2*bytes {
				t.Errorf("%s over %d steps: %d bytes are charged for %d of histograms", op, steps, used, bytes)
			}
			if n.Close(); env.Account.Used() != 0 {
				t.Errorf("%s: %d bytes are charged after all", op, env.Account.Used())
			}
		}
	}
}

func TestResultsInGroupOrderAreChargedWhileABatchHasThem(t *testing.T) {
	const steps = 3
	env := newEnv(true)
	env.Account = budget.NewRoot("query", 0)
	rows, bytes := histogramRows(200, steps, 100)
	n, _ := New(env, Config{Op: parser.SUM, Grouping: []string{"g"}}, operatortest.Rows(env, vector.Grid{Step: 1, N: steps}, rows...)).(*node)
	n.limit = 0
	if err := n.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.stream == nil {
		t.Fatal("not in group order")
	}
	before := env.Account.Used()
	c := n.Cursor(nil)
	var b vector.Batch
	if ok, err := c.Next(t.Context(), &b); !ok || err != nil || b.Rows() != 100 {
		t.Fatalf("%d rows, %v", b.Rows(), err)
	}
	if got := env.Account.Used() - before; got < bytes/2 { // two make one
		t.Errorf("%d bytes are charged while a batch has %d of histograms", got, bytes/2)
	}
	if ok, err := c.Next(t.Context(), &b); ok || err != nil {
		t.Fatalf("more rows: %t, %v", ok, err)
	}
	if got := env.Account.Used() - before; got > bytes/4 {
		t.Errorf("%d bytes are charged when the batch is not used any more", got)
	}
	c.Close()
	if n.Close(); env.Account.Used() != 0 {
		t.Errorf("%d bytes are charged after all", env.Account.Used())
	}
}
