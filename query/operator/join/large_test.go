// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// large has so many cells that a query takes many batches and several workers. Every pod has a series a per bucket, and
// one of b; pods move: from a third of the steps on, another series of b is theirs.
func large(r *rand.Rand, steps int) *data {
	d := &data{steps: steps, workers: 2, perBatch: 1 + r.IntN(20), skip: true}
	add := func(density, histograms float64, name string, ls ...string) operatortest.Series {
		s := cells(r, labels.FromStrings(append([]string{"__name__", name}, ls...)...), steps, density, histograms)
		d.series = append(d.series, s)
		return s
	}
	for i := range 100 {
		pod := fmt.Sprint("pod", i)
		for le := range 3 {
			add(0.9, 0.02*float64(i%2), "a", "pod", pod, "le", fmt.Sprint(le))
		}
		before := add(0.99, 0, "b", "pod", pod, "node", "x")
		after := add(0.99, 0, "b", "pod", pod, "node", "y")
		clear(before.K[steps/3:])
		clear(after.K[:steps/3])
		add(1, 0, "c", "pod", pod)
		add(0.5, 0, "d", "pod", pod)
		add(0.5, 0, "e", "pod", pod)
	}
	slices.SortFunc(d.series, func(a, b operatortest.Series) int { return labels.Compare(a.Labels, b.Labels) })
	return d
}

func TestManyRowsAnswerAsPrometheusWhateverTheWorkers(t *testing.T) {
	t.Parallel()
	d := large(rand.New(rand.NewPCG(1, 2)), 400)
	for _, query := range []string{
		`d + e`, `d == e`, `d >= bool e`, `d % fill(3) e`, `d - fill_left(1) c`,
		`a * on(pod) group_left c`, `c - ignoring(le) group_right a`, `a * on(pod) group_left(node) b`,
		`b / on(pod) c`, `c ^ on(pod) b`, `a - on(pod) group_left fill_right(0) d`,
		`a and on(pod) d`, `a unless on(pod) d`, `d or e`, `d or on(pod) a`, `c or ignoring(node) b`, `c or c`,
	} {
		d.workers = 3
		if o := d.check(t, query); o.err != "" || len(o.rows) == 0 {
			t.Errorf("%s tests nothing: %s", query, o)
		}
	}
}

func TestDuplicatesCountOnlyWhereBothSidesAre(t *testing.T) {
	t.Parallel()
	series := func(name, label string, present ...int) operatortest.Series {
		s := operatortest.Series{
			Labels: labels.FromStrings("__name__", name, "a", "1", "b", label),
			V:      make([]float64, 4), K: make([]vector.Kind, 4), H: make([]*histogram.FloatHistogram, 4),
		}
		for _, i := range present {
			s.V[i], s.K[i] = float64(i), vector.Float
		}
		return s
	}
	check := func(query, want string, rows ...operatortest.Series) {
		t.Helper()
		d := &data{steps: 4, series: rows}
		if got := d.check(t, query); got.err != want {
			t.Errorf("%s: error %q, want %q", query, got.err, want)
		}
	}
	const duplicates = `found duplicate series for the match group {a="1"} on the right hand-side of the operation: ` +
		`[{__name__="r", a="1", b="x"}, {__name__="r", a="1", b="y"}]` +
		`;many-to-many matching not allowed: matching labels must be unique on one side`
	check(`l + on(a) r`, "", series("l", "", 0, 1, 2), series("r", "x", 0, 1), series("r", "y", 2, 3))
	check(`l + on(a) r`, duplicates, series("l", "", 0, 1, 2), series("r", "x", 0, 1), series("r", "y", 1, 2))
	check(`l + on(a) r`, "", series("l", "", 0, 1, 2), series("r", "x", 0, 3), series("r", "y", 2, 3))
	check(`l + on(a) fill_right(0) r`, duplicates, series("l", "", 0, 1, 2), series("r", "x", 0, 3), series("r", "y", 2, 3))
	check(`l + on(a) r`, "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
		series("l", "x", 0, 1), series("l", "y", 1), series("r", "", 1))
	check(`l + on(a) r`, "", series("l", "x", 0, 1), series("l", "y", 1), series("r", "", 0, 3))
	check(`l == on(a) group_left(b) r`, "multiple matches for labels: grouping labels must ensure unique matches",
		series("l", "x", 1), series("l", "y", 1), series("r", "z", 1))
	check(`l and on(a) r`, "", series("l", "x", 0, 1), series("l", "y", 1), series("r", "x", 1), series("r", "y", 1))
}

func TestEveryLimitAndErrorEndsTheJoinCleanly(t *testing.T) {
	t.Parallel()
	d := large(rand.New(rand.NewPCG(3, 4)), 200)
	d.workers, d.skip = 0, false
	failed := errors.New("the operand failed")
	run := func(query string, prepare func(f *fixture)) error {
		f := d.build(t, parse(t, query))
		prepare(f)
		err := f.node.Open(t.Context())
		if err == nil {
			err = f.env.Drain(t.Context(), f.node, nil, func(*vector.Batch) error { return nil })
		}
		f.node.Close()
		if used := f.env.Account.Used(); used != 0 {
			t.Errorf("%s: %d bytes are still charged after %v", query, used, err)
		}
		if n := f.left.OpenCursors() + f.right.OpenCursors(); n != 0 {
			t.Errorf("%s: %d cursors are open after %v", query, n, err)
		}
		return err
	}
	for _, query := range []string{`d + e`, `a * on(pod) group_left(node) b`, `d + fill(1) e`, `d and e`, `d unless e`, `d or e`} {
		if err := run(query, func(*fixture) {}); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		for limit := int64(1); limit < 4<<20; limit *= 3 {
			var exceeded *budget.ExceededError
			err := run(query, func(f *fixture) { f.env.Account.SetLimit(limit) })
			if err != nil && !errors.As(err, &exceeded) {
				t.Errorf("%s with %d bytes: %v", query, limit, err)
			}
			if err == nil && limit < 1000 {
				t.Errorf("%s needs no more than %d bytes", query, limit)
			}
		}
		if err := run(query, func(f *fixture) { f.left.Err = failed }); !errors.Is(err, failed) {
			t.Errorf("%s: %v of a left side that fails", query, err)
		}
		if err := run(query, func(f *fixture) { f.right.Err = failed }); !errors.Is(err, failed) {
			t.Errorf("%s: %v of a right side that fails", query, err)
		}
		if err := run(query, func(f *fixture) { f.env.Stop(context.Canceled) }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v when stopped", query, err)
		}
	}
}
