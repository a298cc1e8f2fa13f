// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package budget_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

func TestATaskIsOverOnceItIsRefused(t *testing.T) {
	a := budget.NewRoot("query", 100)
	task := budget.NewTask(t.Context(), a)
	if !task.Reserve(90) || !task.Go(1) {
		t.Fatal("not granted")
	}
	if task.Reserve(20) {
		t.Error("120 of 100 bytes granted")
	}
	if task.Reserve(1) || task.Go(1) || task.Poll() || task.Run(0, 10) != 0 {
		t.Error("it goes on")
	}
	refusal(t, task.Err(), "query", 100, 90, 20)
	if task.Settle(0); a.Used() != 0 {
		t.Errorf("%d bytes are in use", a.Used())
	}
}

func TestATaskGetsTheLastByte(t *testing.T) {
	a := budget.NewRoot("query", 1000)
	task := budget.NewTask(t.Context(), a)
	for i := range 1000 {
		if !task.Reserve(1) {
			t.Fatalf("byte %d is refused: %v", i, task.Err())
		}
	}
	task.Release(600)
	if task.Taken() != 400 || a.Used() < 400 {
		t.Errorf("%d taken, %d used", task.Taken(), a.Used())
	}
	if task.Settle(300); a.Used() != 300 || task.Taken() != 300 {
		t.Errorf("%d taken, %d used, want 300", task.Taken(), a.Used())
	}
	if task.Settle(500); a.Used() != 300 {
		t.Errorf("%d used: settling took more", a.Used())
	}
}

func TestATaskEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	task := budget.NewTask(ctx, nil)
	n := 1_000_000
	at := 0
	for from, to := 0, task.Run(0, n); from < to; from, to = to, task.Run(to, n) {
		if from != at {
			t.Fatalf("part from %d after one to %d", from, at)
		}
		if at = to; at > n/2 {
			cancel()
		}
	}
	if at < n/2 || at > n/2+50_000 || !errors.Is(task.Err(), context.Canceled) || task.Reserve(1) {
		t.Errorf("it ended at %d: %v", at, task.Err())
	}
	for _, n := range []int{0, 1, 8191, 8192, 8193} {
		at, task := 0, budget.NewTask(t.Context(), nil)
		for from, to := 0, task.Run(0, n); from < to; from, to = to, task.Run(to, n) {
			at = to
		}
		if at != n {
			t.Errorf("parts of %d end at %d", n, at)
		}
	}
}

func TestASortEndsWithItsTask(t *testing.T) {
	list := rand.New(rand.NewPCG(1, 2)).Perm(200_000)
	whole := 0
	sort := func(task *budget.Task, each func()) {
		slices.SortFunc(list, budget.Until(task, func(a, b int) int { each(); return cmp.Compare(a, b) }))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	sort(budget.NewTask(ctx, nil), func() {
		if n++; n == 50_000 {
			cancel()
		}
	})
	if n > 60_000 {
		t.Errorf("%d comparisons, canceled after 50,000", n)
	}
	sort(budget.NewTask(t.Context(), nil), func() { whole++ })
	if !slices.IsSorted(list) || whole < 200_000 {
		t.Errorf("not sorted after %d comparisons", whole)
	}
}
