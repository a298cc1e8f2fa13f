// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/function"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

const sameLabels = "vector cannot contain metrics with the same labelset"

// row reads a row: "1 . h" are a float, nothing and a histogram; a "!" before drops the name.
func row(name, cells string) operatortest.Series {
	s := operatortest.Series{Labels: labels.FromStrings("a", name)}
	if name == "" {
		s.Labels = labels.EmptyLabels()
	}
	rest, drop := strings.CutPrefix(cells, "!")
	s.Drop = drop
	fields := strings.Fields(rest)
	s.V, s.K = make([]float64, len(fields)), make([]vector.Kind, len(fields))
	s.H = make([]*histogram.FloatHistogram, len(fields))
	for j, f := range fields {
		switch f {
		case ".":
		case "h":
			s.K[j], s.H[j] = vector.Histogram, tsdbutil.GenerateTestFloatHistogram(1)
		default:
			s.K[j] = vector.Float
			if _, err := fmt.Sscan(f, &s.V[j]); err != nil {
				panic(err)
			}
		}
	}
	return s
}

// written is the reverse of row.
func written(t *vector.Table, b *vector.Batch, i int) string {
	v, k, _ := b.Row(i)
	out := make([]string, len(k))
	for j := range k {
		switch k[j] {
		case vector.Absent:
			out[j] = "."
		case vector.Float:
			out[j] = fmt.Sprint(v[j])
		case vector.Histogram:
			out[j] = "h"
		}
	}
	drop := ""
	if t.Dropped(b.IDs[i]) {
		drop = "!"
	}
	return t.Value(b.IDs[i], "a") + " " + drop + strings.Join(out, " ")
}

func rowsOf(t *testing.T, env *operator.Env, n operator.Node, ids []uint32) (rows []string, err error) {
	t.Helper()
	if err := n.Open(t.Context()); err != nil {
		return nil, err
	}
	err = env.Drain(t.Context(), n, ids, func(b *vector.Batch) error {
		for i := range b.Rows() {
			checkShape(t, "merge", b, i)
			rows = append(rows, written(n.Table(), b, i))
		}
		return nil
	})
	return rows, err
}

func TestMerge(t *testing.T) {
	check := func(name string, rule function.Rule, delayed bool, in []operatortest.Series, want []string, wantErr string) {
		t.Helper()
		for perBatch := range 4 {
			account := budget.NewRoot("test", 0)
			env := &operator.Env{Dict: vector.NewDict(), Account: account, Options: operator.Options{DelayedNameRemoval: delayed}}
			leaf := operatortest.Rows(env, vector.Grid{N: len(in[0].V), Step: 1}, in...)
			leaf.PerBatch = perBatch
			n := function.NewMerge(env, leaf, rule)
			got, err := rowsOf(t, env, n, nil)
			n.Close()
			n.Close()
			switch {
			case wantErr == "" && err != nil:
				t.Errorf("%s: %v", name, err)
			case wantErr != "" && (err == nil || err.Error() != wantErr):
				t.Errorf("%s: error %v, want %s", name, err, wantErr)
			case wantErr == "" && !slices.Equal(got, want):
				t.Errorf("%s: %s", name, cmp.Diff(want, got))
			}
			if account.Used() != 0 || leaf.OpenCursors() != 0 {
				t.Errorf("%s: %d bytes still charged, %d cursors open", name, account.Used(), leaf.OpenCursors())
			}
		}
	}
	type rows = []operatortest.Series
	check("different series stay", function.PerStep, false,
		rows{row("x", "1 2"), row("y", "3 .")}, []string{"x 1 2", "y 3 ."}, "")
	check("same series that take turns become one", function.PerStep, false,
		rows{row("x", "1 . h"), row("y", "4 . ."), row("x", ". 2 .")}, []string{"x 1 2 h", "y 4 . ."}, "")
	check("two values at a step fail", function.PerStep, false, rows{row("x", "1 ."), row("x", "1 2")}, nil, sameLabels)
	check("a float and a histogram at a step fail", function.PerStep, false, rows{row("x", "1 ."), row("x", "h 2")}, nil, sameLabels)
	check("but not when whole series are merged: the float counts", function.PerSeries, false,
		rows{row("x", "1 h ."), row("x", "h 2 .")}, []string{"x 1 2 ."}, "")
	check("two histograms fail even so", function.PerSeries, false, rows{row("x", "h ."), row("x", "h 2")}, nil, sameLabels)
	check("two floats after a histogram fail even so", function.PerSeries, false,
		rows{row("x", "h ."), row("x", "1 ."), row("x", "2 .")}, nil, sameLabels)
	check("functions over ranges never merge", function.Never, false, rows{row("x", "1 ."), row("x", ". 2")}, nil, sameLabels)
	check("unless one has no value", function.Never, false, rows{row("x", ". ."), row("x", ". 2")}, []string{"x . 2"}, "")
	check("and are not checked when names go later", function.Never, true,
		rows{row("x", "1 ."), row("x", "3 2")}, []string{"x 1 .", "x 3 2"}, "")
	check("the row that comes first in time decides about the name", function.PerStep, true,
		rows{row("x", ". 1"), row("y", "1 1"), row("x", "!2 .")}, []string{"x !2 1", "y 1 1"}, "")
	check("the row that comes first and has a value decides about the name", function.PerSeries, true,
		rows{row("x", "!. ."), row("x", ". 1"), row("x", "!2 .")}, []string{"x 2 1"}, "")
	check("an instant has the order of what is there", function.PerStep, false,
		rows{row("x", "."), row("y", "1"), row("x", "2")}, []string{"y 1", "x 2"}, "")
	check("which is not checked when names go later", function.PerStep, true,
		rows{row("x", "1"), row("x", "!2")}, []string{"x 1", "x !2"}, "")
	check("an instant fails", function.PerStep, false, rows{row("x", "1"), row("x", "h")}, nil, sameLabels)
	check("an instant of whole series prefers the float", function.PerSeries, false,
		rows{row("x", "h"), row("x", "1")}, []string{"x 1"}, "")
}

// The rows a consumer asks for are the rows it gets, in its order, and others are not read.
func TestMergeReadsWhatIsAskedFor(t *testing.T) {
	var in []operatortest.Series
	for i := range 1000 {
		// Row i and row 999-i are the same series.
		cells := []string{"1 .", ". 2"}[i/500]
		in = append(in, row(fmt.Sprint(min(i, 999-i)), cells))
	}
	env := &operator.Env{Dict: vector.NewDict()}
	leaf := operatortest.Rows(env, vector.Grid{N: 2, Step: 1}, in...)
	leaf.PerBatch = 7
	n := function.NewMerge(env, leaf, function.PerStep)
	got, err := rowsOf(t, env, n, []uint32{30, 2, 499})
	if want := []string{"30 1 2", "2 1 2", "499 1 2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	for id, times := range leaf.Read() {
		if want := slices.Contains([]int{30, 2, 499, 969, 997, 500}, id); want != (times == 1) {
			t.Errorf("row %d was read %d times", id, times)
		}
	}
}

func TestWorkersGiveWhatOneGoroutineGives(t *testing.T) {
	var in []operatortest.Series
	for i := range 40_000 {
		in = append(in, operatortest.Series{
			Labels: labels.FromStrings("__name__", fmt.Sprint(i%2), "a", fmt.Sprint(i/2)),
			V:      []float64{float64(i), 1, 2}, K: []vector.Kind{vector.Kind(i % 2), vector.Kind(1 - i%2), vector.Absent},
		})
	}
	run := func(workers int) []string {
		env := &operator.Env{Dict: vector.NewDict(), Workers: operator.NewWorkers(workers)}
		leaf := operatortest.Rows(env, vector.Grid{N: 3, Step: 1}, in...)
		leaf.PerBatch = 512
		abs, err := function.Build(env, function.Call{Func: "abs", In: leaf, Grid: leaf.Grid()})
		if err != nil {
			t.Fatal(err)
		}
		defer abs.Close()
		rows, err := rowsOf(t, env, abs, nil)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	alone := run(0)
	if len(alone) != 20_000 {
		t.Fatalf("%d rows", len(alone))
	}
	if diff := cmp.Diff(alone, run(3)); diff != "" {
		t.Error(diff)
	}
}

func TestAFullAccountEndsTheQueryAndNothingStaysCharged(t *testing.T) {
	var rows []operatortest.Series
	for i := range 500 {
		rows = append(rows, operatortest.Series{Labels: labels.FromStrings("__name__", "m", "a", fmt.Sprint(i)), V: []float64{1}})
	}
	for _, text := range []string{
		`sort(m)`, `sort_by_label(m, "a")`, `label_replace(m, "b", "$1$1", "a", "(.*)")`, `label_join(m, "b", "", "a", "a")`,
		`-m`, `vector(scalar(m))`, `absent(m)`, `m > 1`,
	} {
		refused := false
		for limit := int64(1); limit < 1<<20; limit += limit/3 + 1 {
			account := budget.NewRoot("test", limit)
			env := &operator.Env{Dict: vector.NewDict(), Account: account, Options: operator.Options{DelayedNameRemoval: true}}
			q := &query{text: text, grid: vector.Grid{N: 1}, instant: true}
			b := &builder{env: env, d: &data{grid: q.grid, rows: rows}, q: q}
			b.leaf = operatortest.Rows(env, q.grid, rows...)
			_, err := b.runVector(t, parse(t, text))
			var exceeded *budget.ExceededError
			switch {
			case errors.As(err, &exceeded):
				refused = true
			case err != nil:
				t.Errorf("%s: %v", text, err)
			}
			if account.Used() != 0 {
				t.Errorf("%s: limit %d: %d bytes still charged", text, limit, account.Used())
			}
		}
		if !refused {
			t.Errorf("%s was never refused", text)
		}
	}
}

func TestAStoppedQueryEndsInLabelFunctions(t *testing.T) {
	var rows []operatortest.Series
	for i := range 5000 {
		rows = append(rows, operatortest.Series{Labels: labels.FromStrings("a", fmt.Sprint(i)), V: []float64{1}})
	}
	for _, text := range []string{`label_replace(m, "b", "$1", "a", "(.*)")`, `label_join(m, "b", "", "a")`} {
		env := &operator.Env{Dict: vector.NewDict()}
		stop := errors.New("stop")
		env.Stop(stop)
		q := &query{text: text, grid: vector.Grid{N: 1}, instant: true}
		b := &builder{env: env, q: q, leaf: operatortest.Rows(env, q.grid, rows...)}
		n := b.node(t, parse(t, text))
		if err := n.Open(t.Context()); !errors.Is(err, stop) {
			t.Errorf("%s: %v", text, err)
		}
		n.Close()
	}
}
