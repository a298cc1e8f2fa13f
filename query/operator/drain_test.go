// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const steps = 512

func newEnv(workers int) *operator.Env {
	return &operator.Env{
		Dict: vector.NewDict(), Account: budget.NewRoot("query", 0), Samples: operator.NewSamplesum(0, 0),
		Workers: operator.NewWorkers(workers),
	}
}

// rowsOf returns a node of n rows whose cells are their ids.
func rowsOf(env *operator.Env, n int) *operatortest.Node {
	rows := make([]operatortest.Series, n)
	for i := range rows {
		rows[i] = operatortest.Series{Labels: labels.EmptyLabels(), V: make([]float64, steps)}
		for j := range rows[i].V {
			rows[i].V[j] = float64(i)
		}
	}
	return operatortest.Rows(env, vector.Grid{Step: 1, N: steps}, rows...)
}

// opened opens a node for a test.
func opened(t *testing.T, n operator.Node) operator.Node {
	t.Helper()
	if err := n.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func TestDrainHandsOnRowsInOrderHoweverManyWork(t *testing.T) {
	for _, workers := range []int{0, 1, 3, 20} {
		env := newEnv(workers)
		node := rowsOf(env, 1500)
		opened(t, node)
		order := make([]uint32, 0, 1500)
		for _, i := range rand.Perm(1500) {
			order = append(order, uint32(i))
		}
		for _, ids := range [][]uint32{nil, order, order[:1], {}} {
			var got []uint32
			err := env.Drain(t.Context(), node, ids, func(b *vector.Batch) error {
				for i, id := range b.IDs {
					if v, _, _ := b.Row(i); v[steps-1] != float64(id) {
						t.Errorf("row %d has %g", id, v[steps-1])
					}
				}
				got = append(got, b.IDs...)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			want := ids
			if ids == nil {
				for i := range uint32(1500) {
					want = append(want, i)
				}
			}
			if len(got) != len(want) {
				t.Fatalf("%d workers: %d rows, want %d", workers, len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%d workers: row %d at place %d, want %d", workers, got[i], i, want[i])
				}
			}
		}
		if env.Account.Used() != 0 || node.OpenCursors() != 0 {
			t.Errorf("%d bytes charged, %d cursors open", env.Account.Used(), node.OpenCursors())
		}
		if free := env.Workers.Borrow(100); free != workers {
			t.Errorf("%d of %d workers came back", free, workers)
		}
	}
}

func TestDrainEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	check := func(what string, prepare func(*operator.Env, *operatortest.Node), each func(*vector.Batch) error, is func(error) bool) {
		t.Helper()
		for _, workers := range []int{0, 3} {
			env := newEnv(workers)
			node := rowsOf(env, 900)
			opened(t, node)
			prepare(env, node)
			err := env.Drain(t.Context(), node, nil, each)
			if !is(err) {
				t.Errorf("%s with %d workers: %v", what, workers, err)
			}
			if env.Account.Used() != 0 || node.OpenCursors() != 0 || env.Workers.Borrow(100) != workers {
				t.Errorf("%s with %d workers: %d bytes charged, %d cursors open", what, workers, env.Account.Used(), node.OpenCursors())
			}
		}
	}
	nothing := func(*vector.Batch) error { return nil }
	same := func(err error) bool { return errors.Is(err, broken) }
	check("consumer", func(*operator.Env, *operatortest.Node) {}, func(b *vector.Batch) error {
		if b.IDs[0] > 300 {
			return broken
		}
		return nil
	}, same)
	check("node", func(_ *operator.Env, n *operatortest.Node) { n.Err = broken }, nothing, same)
	check("stop", func(e *operator.Env, _ *operatortest.Node) { e.Stop(broken); e.Stop(errors.New("later")) }, nothing, same)
	check("budget", func(e *operator.Env, _ *operatortest.Node) { e.Account.SetLimit(1000) }, nothing, func(err error) bool {
		ee := (*budget.ExceededError)(nil)
		return errors.As(err, &ee)
	})
}

func TestAPanicOfAWorkerIsAnError(t *testing.T) {
	env := newEnv(3)
	node := rowsOf(env, 900)
	opened(t, node)
	err := env.Drain(t.Context(), node, nil, func(b *vector.Batch) error {
		if b.IDs[0] > 300 {
			panic(errors.New("mistake"))
		}
		return nil
	})
	if pe := (*operator.PanicError)(nil); !errors.As(err, &pe) || err.Error() != "mistake" || len(pe.Stack) == 0 {
		t.Errorf("error %v", err)
	}
}

func TestContextsStopWithPrometheusWords(t *testing.T) {
	check := func(ctx context.Context, want error) {
		t.Helper()
		env := newEnv(0)
		stop := env.Watch(ctx, "expression evaluation")
		defer stop()
		for range 1000 {
			if env.Check() != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if got := env.Check(); got == nil || got.Error() != want.Error() {
			t.Errorf("error %v, want %v", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(ctx, promql.ErrQueryCanceled("expression evaluation"))
	late, cancelLate := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancelLate()
	check(late, promql.ErrQueryTimeout("expression evaluation"))
	cause, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(errors.New("shutdown"))
	check(cause, errors.New("shutdown"))
	env := newEnv(0)
	if err := env.Check(); err != nil || operator.ContextError(t.Context(), "x") != nil {
		t.Errorf("a query that runs has error %v", err)
	}
	derived := env.Derive(nil, nil)
	derived.Stop(errors.New("both"))
	if env.Check() == nil || derived.Check() == nil {
		t.Error("an environment and the one derived from it do not stop together")
	}
}
