// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Env is what the operators of one query share.
type Env struct {
	// View is what the query reads.
	View column.View
	Dict *vector.Dict
	// Account is charged for everything that grows with data.
	Account *budget.Account
	// Samples counts as Prometheus counts, for its statistics and its limit.
	Samples *Samplesum
	// Options of the engine and the query.
	Options
	// Workers lends goroutines beyond the caller's own; nil: none.
	Workers *Workers
	// Buffers keeps the memory of blocks and batches for other queries; nil: it is not kept.
	Buffers *Buffers
	// OnWorker, where it is set, is called on each goroutine that was lent, and what it returns when that ends.
	OnWorker func(context.Context) (context.Context, func())
	// stopped is set by Stop; loops poll it.
	stopped atomic.Pointer[error]
	// whole is set by NoteWhole.
	whole atomic.Bool
	// parent is what e was derived from; it is the one that stops.
	parent *Env
}

// Derive returns an environment that differs from e in what is read and what is charged: for operators that are
// metered one by one. It stops when e does.
func (e *Env) Derive(view column.View, account *budget.Account) *Env {
	return &Env{
		View: view, Dict: e.Dict, Account: account, Samples: e.Samples, Options: e.Options,
		Workers: e.Workers, Buffers: e.Buffers, OnWorker: e.OnWorker, parent: e,
	}
}

// Options are the semantics that a server or a query can choose.
type Options struct {
	LookbackDelta      int64 // milliseconds
	DelayedNameRemoval bool
	TypeAndUnitLabels  bool
	UseStartTimestamps bool
	PerStepStats       bool
	MaxSamples         int
	Logger             *slog.Logger
}

// Stop makes Check return err from now on. It may be called at any time by any goroutine; the first call counts.
func (e *Env) Stop(err error) {
	if e.parent != nil {
		e.parent.Stop(err)
		return
	}
	e.stopped.CompareAndSwap(nil, &err)
}

// NoteWhole says that the answer at a step may depend on the other steps of the query: answers for parts of its range
// do not make up the one for all of it.
func (e *Env) NoteWhole() {
	if e.parent != nil {
		e.parent.NoteWhole()
		return
	}
	e.whole.Store(true)
}

// Whole tells whether NoteWhole was called.
func (e *Env) Whole() bool {
	if e.parent != nil {
		return e.parent.Whole()
	}
	return e.whole.Load()
}

// Check returns the reason to stop, nil while there is none. It costs an atomic load: loops over data call it at
// least every 4096 samples or cells.
func (e *Env) Check() error {
	if p := e.stopped.Load(); p != nil {
		return *p
	}
	if e.parent != nil {
		return e.parent.Check()
	}
	return nil
}

// Watch makes the end of ctx stop the query, with the errors Prometheus' engine has for it. The function returned
// ends the watch.
func (e *Env) Watch(ctx context.Context, where string) (stop func() bool) {
	return context.AfterFunc(ctx, func() { e.Stop(ContextError(ctx, where)) })
}

// ContextError returns the error of a query whose context ended.
func ContextError(ctx context.Context, where string) error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			return cause
		}
		return promql.ErrQueryCanceled(where)
	case errors.Is(err, context.DeadlineExceeded):
		return promql.ErrQueryTimeout(where)
	default:
		return err
	}
}

// Workers is a number of goroutines that queries share: a query runs on its caller's goroutine and may borrow more.
type Workers struct{ free chan struct{} }

// NewWorkers lends up to n goroutines at a time.
func NewWorkers(n int) *Workers { return &Workers{free: make(chan struct{}, max(n, 0))} }

// Borrow takes up to n workers, however many are free now, and returns how many. Nobody waits: a busy server has its
// processors in use already.
func (w *Workers) Borrow(n int) int {
	if w == nil {
		return 0
	}
	for i := range n {
		select {
		case w.free <- struct{}{}:
		default:
			return i
		}
	}
	return n
}

// Return gives back n workers.
func (w *Workers) Return(n int) {
	for range n {
		<-w.free
	}
}
