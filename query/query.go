// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/scan"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Query is a text prepared for evaluation. It implements promql.Query, and beside Exec has Stream, for callers that
// take rows as they are made, and Explain.
type Query struct {
	engine  *Engine
	text    string
	src     column.Source
	plan    *plan.Plan
	perStep bool
	analyze bool
	noCache bool
	streams bool
	// own says that it reads the engine's own source.
	own bool
	// selectors are those of a query whose answers may be kept. whole is the part because of which the answers of any other
	// query are not.
	selectors [][]*labels.Matcher
	whole     string

	timers  *stats.QueryTimers
	samples *stats.QuerySamples
	runs    []*exec.Query // as often as the query was run
	// use and parts tell of the last run what the result cache had to do with it, and what was run beside it.
	use   exec.CacheUse
	parts []*exec.Explanation

	mu     sync.Mutex
	cancel context.CancelCauseFunc // nil while the query does not run; guarded by mu
}

var _ promql.Query = (*Query)(nil)

func newQuery(e *Engine, text string, src column.Source) *Query {
	return &Query{engine: e, text: text, src: src, timers: stats.NewQueryTimers(), samples: stats.NewQuerySamples(false)}
}

// String returns the text of the query.
func (q *Query) String() string { return q.text }

// Statement returns the parsed query.
func (q *Query) Statement() parser.Statement { return q.plan.Statement() }

// Stats returns what the query took, complete once it has run.
func (q *Query) Stats() *stats.Statistics {
	return &stats.Statistics{Timers: q.timers, Samples: q.samples}
}

// Cancel ends the query if it runs. It may be called by any goroutine.
func (q *Query) Cancel() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cancel != nil {
		q.cancel(context.Canceled)
	}
}

// Close gives back the memory of the results.
func (q *Query) Close() {
	for _, r := range q.runs {
		r.Close()
	}
}

// Analyze makes the query, which must not have run yet, meter its operators; Explain then tells what each did, and what
// the result cache had to do with the answer.
func (q *Query) Analyze() { q.analyze = true }

// NoCache makes the query, which must not have run yet, neither use nor fill the result cache.
func (q *Query) NoCache() { q.noCache = true }

// Explain describes how the query is evaluated, or was. What the passes of the optimiser did is there in words if Opts
// asked for that.
func (q *Query) Explain() (*exec.Explanation, error) {
	if len(q.runs) == 0 {
		run, err := exec.New(&operator.Env{Dict: vector.NewDict(), Options: q.options()}, q.plan, exec.Options{})
		if err != nil {
			return nil, err
		}
		defer run.Close()
		return run.Explain(), nil
	}
	x := q.last().Explain()
	if q.analyze {
		use := q.use
		x.Cache = &use
		for _, p := range q.parts {
			x.AddPart(p)
		}
	}
	return x, nil
}

// last is the latest run.
func (q *Query) last() *exec.Query { return q.runs[len(q.runs)-1] }

// Exec runs the query and returns its value, which is good until Close. A query may be run again.
func (q *Query) Exec(ctx context.Context) *promql.Result {
	q.streams = false
	var value parser.Value
	warnings, err := q.execute(ctx, func(ctx context.Context, _ *operator.Env, _ *recall) (w annotations.Annotations, err error) {
		value, w, err = q.last().Result(ctx)
		return w, err
	})
	if err != nil {
		value = nil
	}
	return &promql.Result{Err: err, Value: value, Warnings: warnings}
}

// Stream runs the query and hands its answer to to as it is made. Annotations may come with an error.
func (q *Query) Stream(ctx context.Context, to exec.Sink) (annotations.Annotations, error) {
	q.streams = true
	return q.execute(ctx, func(ctx context.Context, env *operator.Env, kept *recall) (annotations.Annotations, error) {
		if kept == nil {
			return q.last().Stream(ctx, to)
		}
		return q.streamKept(ctx, env, kept, to)
	})
}

// runner evaluates a query whose operators are built. kept is nil where the result cache is not to be used.
type runner func(ctx context.Context, env *operator.Env, kept *recall) (annotations.Annotations, error)

// options are the semantics of this query.
func (q *Query) options() operator.Options {
	o := q.plan.Options()
	return operator.Options{
		LookbackDelta: o.Lookback.Milliseconds(), DelayedNameRemoval: o.DelayedNameRemoval,
		TypeAndUnitLabels: o.TypeAndUnitLabels, UseStartTimestamps: o.UseStartTimestamps,
		PerStepStats: q.perStep, MaxSamples: q.engine.opts.MaxSamples, Logger: q.engine.opts.Logger,
	}
}

// execute takes a query through its life: it is listed, waits for its turn, runs, and is accounted for.
func (q *Query) execute(ctx context.Context, run runner) (warnings annotations.Annotations, err error) {
	e := q.engine
	e.metrics.current.Inc()
	defer e.metrics.current.Dec()
	ctx, timeout := context.WithTimeout(ctx, e.opts.Timeout)
	defer timeout()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q.mu.Lock()
	q.cancel = cancel
	q.mu.Unlock()
	entry := q.entry(ctx, cancel)
	e.active.add(entry)
	defer e.active.remove(entry)

	total, ctx := q.timers.GetSpanTimer(ctx, stats.ExecTotalTime)
	// Before it takes a place: those that can be answered shall not wait for those that cannot yet.
	if err = q.awaitSource(ctx); err == nil {
		err = q.inTurn(ctx, func(ctx context.Context) (err error) {
			warnings, err = q.evaluate(ctx, entry, run)
			return err
		})
	}
	total.Finish()
	err = explainLimit(err)
	q.account(ctx, entry, err)
	return warnings, err
}

// awaitSource waits until the source answers about the times of the query.
func (q *Query) awaitSource(ctx context.Context) error {
	mint, maxt := q.plan.TimeRange()
	err := column.Await(ctx, q.src, mint, maxt)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return operator.ContextError(ctx, "query execution")
	}
	return err
}

// entry is what the list of active queries says about q.
func (q *Query) entry(ctx context.Context, cancel context.CancelCauseFunc) *activeQuery {
	o := q.plan.Options()
	return &activeQuery{cancel: cancel, Active: Active{
		Query: q.text, Start: o.Start, End: o.End, Step: o.Interval, Since: time.Now(), Rules: q.engine.rules, Origin: originOf(ctx),
	}}
}

// inTurn runs f when there is a place for the query.
func (q *Query) inTurn(ctx context.Context, f func(context.Context) error) error {
	m, places := q.engine.metrics, q.engine.places
	queued, _ := q.timers.GetSpanTimer(ctx, stats.ExecQueueTime, m.slice("queue_time")...)
	note, err := places.take(ctx, q.text)
	queued.Finish()
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrCanceled) {
			return cause
		}
		return err
	}
	defer places.give(note)
	timer, ctx := q.timers.GetSpanTimer(ctx, stats.EvalTotalTime)
	defer timer.Finish()
	if err := operator.ContextError(ctx, "query execution"); err != nil {
		return err
	}
	return f(ctx)
}

// evaluate opens a view and runs the plan over it.
func (q *Query) evaluate(ctx context.Context, entry *activeQuery, run runner) (warnings annotations.Annotations, err error) {
	defer recovered(&err)
	m := q.engine.metrics
	prepare, _ := q.timers.GetSpanTimer(ctx, stats.QueryPreparationTime, m.slice("prepare_time")...)
	account := q.engine.memory.Child("query", q.engine.opts.PerQuery)
	own, err := q.charge(account)
	if err != nil {
		prepare.Finish()
		return nil, err
	}
	defer account.Release(own)
	q.use, q.parts = exec.CacheUse{Computed: int64(q.grid().N)}, nil
	kept := q.recall(account)
	defer kept.free()
	mint, maxt := q.plan.TimeRange()
	view, err := scan.OpenView(q.src, mint, maxt)
	kept.confirm()
	prepare.Finish()
	if err != nil {
		return nil, err
	}
	defer func() {
		// What only reading samples shows is known by now.
		warnings.Merge(view.Warnings())
		if cerr := view.Close(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	env := &operator.Env{
		View: view, Dict: vector.NewDict(), Options: q.options(), Workers: q.engine.workers, Buffers: &q.engine.buffers,
		Account: account,
	}
	env.Dict.Budget, env.Dict.Check = account, env.Check
	defer env.Dict.Free()
	env.Samples = operator.NewSamplesum(q.engine.opts.MaxSamples, q.countedSteps())
	defer env.Watch(ctx, "expression evaluation")()
	q.engine.active.run(entry, env.Account, env.Samples)
	built, err := exec.New(env, q.plan, exec.Options{Analyze: q.analyze, Points: &q.engine.points, Rung: q.engine.rung()})
	if err != nil {
		return nil, err
	}
	q.runs = append(q.runs, built)
	inner, ctx := q.timers.GetSpanTimer(ctx, stats.InnerEvalTime, m.slice("inner_eval")...)
	warnings, err = run(ctx, env, kept)
	inner.Finish()
	q.takeSamples(env)
	return warnings, err
}

// charge charges what the text itself takes: its tree, plan, operators and regular expressions.
func (q *Query) charge(account *budget.Account) (int64, error) {
	w, err := weigh(q.text)
	if err != nil {
		return 0, err
	}
	return w.bytes(), account.Reserve(w.bytes())
}

// countedSteps is how many steps are counted one by one.
func (q *Query) countedSteps() int {
	if !q.perStep {
		return 0
	}
	return q.grid().N
}

// grid is the steps of the query.
func (q *Query) grid() vector.Grid {
	o := q.plan.Options()
	return vector.NewGrid(o.Start.UnixMilli(), o.End.UnixMilli(), o.Interval.Milliseconds())
}

// takeSamples fills in the statistics.
func (q *Query) takeSamples(env *operator.Env) {
	o := q.plan.Options()
	total, read, peak, perStep := env.Samples.Sums()
	q.samples = stats.NewQuerySamples(q.perStep)
	q.samples.InitStepTracking(o.Start.UnixMilli(), o.End.UnixMilli(), max(o.Interval.Milliseconds(), 1))
	q.samples.TotalSamples, q.samples.SamplesRead, q.samples.PeakSamples = total, read, int(peak)
	copy(q.samples.TotalSamplesPerStep, perStep)
	copy(q.samples.SamplesReadPerStep, env.Samples.ReadPerStep())
	q.engine.metrics.samples.Add(float64(total))
	q.engine.metrics.samplesRead.Add(float64(read))
}

// explainLimit says what to do about an error that is a limit.
func explainLimit(err error) error {
	if _, ok := errors.AsType[*budget.ExceededError](err); ok {
		return fmt.Errorf("the query needs more memory than it may take: %w; ask for fewer series or a larger step, or raise memory.per_query", err)
	}
	return err
}
