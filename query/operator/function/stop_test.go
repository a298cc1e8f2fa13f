// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

var errStop = errors.New("stopped")

// rowwiseOf builds a node and returns the part of it that works row by row, opened.
func rowwiseOf(t *testing.T, n operator.Node) *rowwise {
	t.Helper()
	if err := n.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m, ok := n.(*Merge); ok {
		n = m.in
	}
	r, ok := n.(*rowwise)
	if !ok {
		t.Fatalf("%T", n)
	}
	return r
}

func TestKernelsOverLongRowsAskWhetherTheQueryGoesOn(t *testing.T) {
	const steps = 100_000
	grid := vector.Grid{Step: 1000, N: steps}
	env := &operator.Env{Dict: vector.NewDict()}
	changing := make(operatortest.Constants, steps)
	for i := range changing {
		changing[i] = float64(i + 1)
	}
	constant := make(operatortest.Constants, steps)
	row := operatortest.Series{Labels: labels.FromStrings("a", "b"), V: make([]float64, steps)}
	nodes := map[string]func(in operator.Node) operator.Node{}
	call := func(name string, scalars ...operator.Scalar) {
		nodes[fmt.Sprint(name, " ", len(nodes))] = func(in operator.Node) operator.Node {
			n, err := Build(env, Call{Func: name, Grid: grid, In: in, Scalars: scalars})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	call("abs")
	call("exp")
	call("month")
	call("round", changing)
	call("clamp", changing, changing)
	for _, op := range []parser.ItemType{parser.ADD, parser.GTR} {
		for _, s := range []operator.Scalar{changing, constant} {
			for _, truth := range []bool{false, op == parser.GTR} {
				nodes[fmt.Sprint(op, " ", len(nodes))] = func(in operator.Node) operator.Node {
					return NewBinary(env, Binary{Op: op, Vector: in, Scalar: s, Bool: truth})
				}
			}
		}
	}
	for name, node := range nodes {
		r := rowwiseOf(t, node(operatortest.Rows(env, grid, row)))
		b := &vector.Batch{}
		c := r.in.Cursor(nil)
		if ok, err := c.Next(t.Context(), b); !ok || err != nil {
			t.Fatal(err)
		}
		over := &operator.Env{}
		if err := r.run(&work{env: over}, b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		over.Stop(errStop)
		if err := r.run(&work{env: over}, b); !errors.Is(err, errStop) {
			t.Errorf("%s: %v when the query has stopped", name, err)
		}
	}
}

func TestHistogramsThatFunctionsMakeAreChargedUntilTheNextBatch(t *testing.T) {
	const n = 50
	grid := vector.Grid{Step: 1000, N: 1}
	var rows []operatortest.Series
	bytes := int64(0)
	for i := range n {
		h := &histogram.FloatHistogram{Count: 100, PositiveSpans: []histogram.Span{{Length: 100}}, PositiveBuckets: make([]float64, 100)}
		for j := range h.PositiveBuckets {
			h.PositiveBuckets[j] = 1
		}
		bytes += int64(h.Size())
		rows = append(rows, operatortest.Series{
			Labels: labels.FromStrings("i", fmt.Sprint(i)), V: []float64{0}, K: []vector.Kind{vector.Histogram}, H: []*histogram.FloatHistogram{h},
		})
	}
	for name, node := range map[string]func(env *operator.Env, in operator.Node) operator.Node{
		"minus": NewNegate,
		"times": func(env *operator.Env, in operator.Node) operator.Node {
			return NewBinary(env, Binary{Op: parser.MUL, Vector: in, Scalar: operatortest.Constants{2}})
		},
		"over": func(env *operator.Env, in operator.Node) operator.Node {
			return NewBinary(env, Binary{Op: parser.DIV, Vector: in, Scalar: operatortest.Constants{2}})
		},
		"trimmed": func(env *operator.Env, in operator.Node) operator.Node {
			return NewBinary(env, Binary{Op: parser.TRIM_UPPER, Vector: in, Scalar: operatortest.Constants{2}})
		},
	} {
		account := budget.NewRoot("query", 0)
		env := &operator.Env{Dict: vector.NewDict(), Account: account}
		x := node(env, operatortest.Rows(env, grid, rows...))
		if err := x.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := account.Used()
		c := x.Cursor(nil)
		var b vector.Batch
		if ok, err := c.Next(t.Context(), &b); !ok || err != nil {
			t.Fatalf("%s: %t, %v", name, ok, err)
		}
		if got := account.Used() - before; got < bytes || got > 2*bytes {
			t.Errorf("%s: %d bytes are charged for %d of histograms", name, got, bytes)
		}
		if ok, err := c.Next(t.Context(), &b); ok || err != nil || account.Used() != before {
			t.Errorf("%s: more rows %t, %v, %d bytes are charged", name, ok, err, account.Used()-before)
		}
		c.Close()
		if x.Close(); account.Used() != 0 {
			t.Errorf("%s: %d bytes are charged after all", name, account.Used())
		}
		env.Account = budget.NewRoot("query", bytes/2)
		x = node(env, operatortest.Rows(env, grid, rows...))
		if err := x.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		var exceeded *budget.ExceededError
		c = x.Cursor(nil)
		if _, err := c.Next(t.Context(), &b); !errors.As(err, &exceeded) {
			t.Errorf("%s: %v with half of the memory", name, err)
		}
		c.Close()
		if x.Close(); env.Account.Used() != 0 {
			t.Errorf("%s: %d bytes are charged after an error", name, env.Account.Used())
		}
	}
}

func TestTextsOfLabelsAreChargedBeforeTheyAreMade(t *testing.T) {
	const length = 8 << 20
	grid := vector.Grid{Step: 1000, N: 1}
	value := strings.Repeat("x", 1000)
	rows := []operatortest.Series{{Labels: labels.FromStrings("a", value), V: []float64{1}}}
	sources := make([]string, 2+length/len(value))
	for i := range sources {
		sources[i] = "a"
	}
	sources[0], sources[1] = "b", "-"
	for name, texts := range map[string][]string{
		"label_replace": {"b", strings.Repeat("$1", length/len(value)), "a", "(.*)"},
		"label_join":    sources,
	} {
		check := func(limit int64, want bool) {
			t.Helper()
			env := &operator.Env{Dict: vector.NewDict(), Account: budget.NewRoot("query", 0)}
			n, err := Build(env, Call{Func: name, Grid: grid, In: operatortest.Rows(env, grid, rows...), Texts: texts})
			if err != nil {
				t.Fatal(err)
			}
			env.Dict.Budget = budget.NewRoot("query", limit)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err = n.Open(t.Context())
			runtime.ReadMemStats(&after)
			var exceeded *budget.ExceededError
			if !want && !errors.As(err, &exceeded) || want && err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; !want && allocated > length/2 {
				t.Errorf("%s: %d bytes were allocated with a limit of %d", name, allocated, limit)
			}
			if n.Close(); env.Account.Used() != 0 {
				t.Errorf("%s: %d bytes are charged", name, env.Account.Used())
			}
		}
		check(0, true)
		check(1<<20, false)
	}
}

func TestLabelsOfManySeriesAskWhetherTheQueryGoesOn(t *testing.T) {
	grid := vector.Grid{Step: 1000, N: 1}
	rows := make([]operatortest.Series, 300)
	for i := range rows {
		rows[i] = operatortest.Series{Labels: labels.FromStrings("a", fmt.Sprint(i)), V: []float64{1}}
	}
	for name, texts := range map[string][]string{"label_replace": {"b", "$1", "a", "(.*)"}, "label_join": {"b", "-", "a"}} {
		env := &operator.Env{Dict: vector.NewDict()}
		n, err := Build(env, Call{Func: name, Grid: grid, In: operatortest.Rows(env, grid, rows...), Texts: texts})
		if err != nil {
			t.Fatal(err)
		}
		env.Stop(errStop)
		if err := n.Open(t.Context()); !errors.Is(err, errStop) {
			t.Errorf("%s: %v when the query has stopped", name, err)
		}
		n.Close()
	}
}
