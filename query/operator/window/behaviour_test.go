// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/window"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

func line(n int) []series {
	s := series{ls: labels.FromStrings(labels.MetricName, "m")}
	for i := range n {
		s.samples = append(s.samples, columntest.Sample{T: int64(i) * 1000, V: float64(i) + 0.1})
	}
	return []series{s}
}

func plain(fn string, windows operator.Windows, args ...func(float64) float64) query {
	return query{text: fn + "(m[1m]" + strings.Repeat(", 1", len(args)) + ")", fn: fn, windows: windows, args: args}
}

var minute = operator.Windows{Grid: vector.Grid{Start: 60_000, Step: 1000, N: 100}, Start: 60_000, Step: 1000, Range: 60_000}

func TestOpenFailsForWhatPrometheusRefuses(t *testing.T) {
	fails := func(q query, want string) {
		t.Helper()
		if got := run(t, newEnv(t, operator.Options{}), q, line(3)); got.err == nil || got.err.Error() != want {
			t.Errorf("%s: error %v, want %q", q.fn, got.err, want)
		}
	}
	anchored, smoothed := minute, minute
	anchored.Anchored, smoothed.Smoothed = true, true
	fails(plain("absent_over_time", anchored), "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with absent_over_time")
	fails(plain("resets", smoothed), "smoothed modifier can only be used with: delta, increase, rate - not with resets")
	fails(plain("double_exponential_smoothing", minute, constant(0), constant(0.5)), "invalid smoothing factor. Expected: 0 < sf < 1, got: 0.000000")
	fails(plain("double_exponential_smoothing", minute, constant(0.5), constant(1.5)), "invalid trend factor. Expected: 0 < tf < 1, got: 1.500000")
	fails(plain("nothing_over_time", minute), `unknown function over a range vector: "nothing_over_time"`)
	fails(plain("quantile_over_time", minute), "quantile_over_time over a range vector: 0 scalar arguments, want 1")
}

func TestInvalidFactorsDoNotMatterWithoutSamples(t *testing.T) {
	late := minute
	late.Start += 1e9
	got := run(t, newEnv(t, operator.Options{}), plain("double_exponential_smoothing", late, constant(0), constant(2)), line(3))
	if got.err != nil || len(got.matrix) != 0 {
		t.Errorf("got %v, %v", got.matrix, got.err)
	}
}

func TestRowsWithoutResultAreLeftOut(t *testing.T) {
	got := run(t, newEnv(t, operator.Options{}), plain("rate", minute), append(line(1), series{ls: labels.FromStrings("a", "b")}))
	if got.err != nil || len(got.matrix) != 0 {
		t.Errorf("got %v, %v", got.matrix, got.err)
	}
}

func TestAFullAccountEndsTheCallWithItsError(t *testing.T) {
	for _, c := range calls {
		data := append(newMaker(1).data(dataEnd, false), line(5000)...)
		e := extent{text: "m[1h]", Windows: operator.Windows{
			Grid: vector.NewGrid(0, dataEnd, 10_000), Step: 10_000, Range: 3_600_000,
		}}
		for limit := int64(1000); ; limit *= 3 {
			env := newEnv(t, operator.Options{})
			env.Account = budget.NewRoot("small", limit)
			got := run(t, env, c.query(e, window.Adaptive), data)
			if n := env.Account.Used(); n != 0 {
				t.Fatalf("%s: %d bytes charged after the end", c.fn, n)
			}
			if got.err == nil {
				break
			}
			if exceeded := (*budget.ExceededError)(nil); !errors.As(got.err, &exceeded) {
				t.Fatalf("%s: %v", c.fn, got.err)
			}
		}
	}
}

func TestAStoppedQueryEndsWithinARow(t *testing.T) {
	stop := errors.New("stopped")
	for _, c := range calls {
		env := newEnv(t, operator.Options{})
		over := &stopping{ranges: newRanges(env, minute, line(200)), env: env, err: stop}
		call := window.Call{Func: c.fn, Over: over, Rung: window.Sequential}
		for _, of := range c.args {
			call.Args = append(call.Args, scalar{grid: minute.Grid, of: of})
		}
		node := window.New(env, call)
		if err := node.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		cursor := node.Cursor(nil)
		b := vector.Batch{Budget: env.Account}
		_, err := cursor.Next(t.Context(), &b)
		if err == nil {
			_, err = cursor.Next(t.Context(), &b)
		}
		if slow := strings.HasPrefix(c.fn, "double") || c.fn == "deriv"; slow && !errors.Is(err, stop) {
			t.Errorf("%s: error %v, want %v", c.fn, err, stop)
		}
		cursor.Close()
		b.Free()
		node.Close()
	}
}

// stopping stops the query when it hands out samples, so that only a kernel can notice.
type stopping struct {
	*ranges
	env *operator.Env
	err error
}

func (s *stopping) Cursor(ids []uint32) operator.RangeCursor {
	return stoppingCursor{s.ranges.Cursor(ids), s}
}

type stoppingCursor struct {
	operator.RangeCursor
	s *stopping
}

func (c stoppingCursor) Next(ctx context.Context) (operator.Samples, bool, error) {
	c.s.env.Stop(c.s.err)
	return c.RangeCursor.Next(ctx)
}

func TestCursorsOfOneNodeGiveTheRowsAskedFor(t *testing.T) {
	data := newMaker(5).data(dataEnd, false)
	env := newEnv(t, operator.Options{})
	w := operator.Windows{Grid: vector.NewGrid(0, dataEnd, 100_000), Step: 100_000, Range: 300_000}
	node := window.New(env, window.Call{Func: "last_over_time", Over: newRanges(env, w, data)})
	if err := node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	rows := func(ids []uint32) map[uint32]float64 {
		got := map[uint32]float64{}
		c := node.Cursor(ids)
		defer c.Close()
		b := vector.Batch{Budget: env.Account}
		defer b.Free()
		for {
			ok, err := c.Next(t.Context(), &b)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return got
			}
			for i, id := range b.IDs {
				v, k, _ := b.Row(i)
				got[id] = math.NaN()
				if k[9] == vector.Float {
					got[id] = v[9]
				}
			}
		}
	}
	all := rows(nil)
	some := rows([]uint32{7, 2, 11})
	for _, id := range []uint32{7, 2, 11} {
		if x, ok := some[id]; !ok || !bits(x, all[id]) {
			t.Errorf("row %d: %v, want %v", id, x, all[id])
		}
	}
	if len(some) != 3 {
		t.Errorf("%d rows, want 3", len(some))
	}
}

func TestEveryFunctionOfTheParserOverARangeIsKnown(t *testing.T) {
	for name, f := range parser.Functions {
		over := false
		for _, arg := range f.ArgTypes {
			over = over || arg == parser.ValueTypeMatrix
		}
		if window.Known(name) != over {
			t.Errorf("%s: known %v, want %v", name, window.Known(name), over)
		}
	}
}

// opening notes the order in which inputs are opened.
type opening struct {
	*ranges
	scalar
	name string
	log  *[]string
}

func (o opening) Open(context.Context) error { *o.log = append(*o.log, o.name); return nil }
func (o opening) Close()                     {}

func TestASubqueryIsOpenedBeforeTheArgumentsAndASelectorAfterThem(t *testing.T) {
	for subquery, want := range map[bool]string{true: "over arg", false: "arg over"} {
		var log []string
		env := newEnv(t, operator.Options{})
		over := opening{ranges: newRanges(env, minute, nil), name: "over", log: &log}
		arg := opening{scalar: scalar{grid: minute.Grid, of: constant(1)}, name: "arg", log: &log}
		node := window.New(env, window.Call{Func: "quantile_over_time", Over: over, Args: []operator.Scalar{arg}, Subquery: subquery})
		if err := node.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		node.Close()
		if got := strings.Join(log, " "); got != want {
			t.Errorf("subquery %v: opened %s, want %s", subquery, got, want)
		}
	}
}
