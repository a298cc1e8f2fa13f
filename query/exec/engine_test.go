// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/foreign"
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/scan"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// engine is a promql.QueryEngine made of plan and exec alone. It fails the test where a query leaves memory behind.
type engine struct {
	tb       testing.TB
	parser   parser.Parser
	options  operator.Options
	switches plan.Switches
	exec     exec.Options
	// noStatistics lets passes read less than the statistics tell.
	noStatistics bool
	workers      *operator.Workers
}

func newEngine(tb testing.TB) *engine {
	return &engine{
		tb:     tb,
		parser: querytest.SuiteOptions().Features.NewParser(),
		options: operator.Options{
			LookbackDelta: (5 * time.Minute).Milliseconds(), DelayedNameRemoval: true, UseStartTimestamps: true, MaxSamples: 10_000,
		},
		workers: operator.NewWorkers(3),
	}
}

// reference is Prometheus' engine with the settings of e.
func (e *engine) reference() *promql.Engine {
	features := querytest.SuiteOptions().Features
	features.PerStepStats, features.DelayedNameRemoval = true, e.options.DelayedNameRemoval
	features.TypeAndUnitLabels, features.UseStartTimestamps = e.options.TypeAndUnitLabels, e.options.UseStartTimestamps
	return querytest.NewReference(query.Options{
		MaxSamples: e.options.MaxSamples, Timeout: time.Minute, LookbackDelta: time.Duration(e.options.LookbackDelta) * time.Millisecond,
		Features: features,
	})
}

// withSwitches returns e with passes turned off.
func (e *engine) without(passes ...string) *engine {
	e.tb.Helper()
	c := *e
	s, err := c.switches.Without(passes...)
	if err != nil {
		e.tb.Fatal(err)
	}
	c.switches = s
	return &c
}

func (e *engine) NewInstantQuery(_ context.Context, q storage.Queryable, o promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	return e.query(q, o, qs, plan.Options{Start: ts, End: ts})
}

func (e *engine) NewRangeQuery(_ context.Context, q storage.Queryable, o promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	return e.query(q, o, qs, plan.Options{Start: start, End: end, Interval: interval})
}

func (e *engine) query(from storage.Queryable, qo promql.QueryOpts, qs string, o plan.Options) (promql.Query, error) {
	expr, err := e.parser.ParseExpr(qs)
	if err != nil {
		return nil, err
	}
	lookback := e.options.LookbackDelta
	if qo != nil && qo.LookbackDelta() > 0 {
		lookback = qo.LookbackDelta().Milliseconds()
	}
	o.Lookback = time.Duration(lookback) * time.Millisecond
	o.DelayedNameRemoval, o.TypeAndUnitLabels, o.UseStartTimestamps = e.options.DelayedNameRemoval, e.options.TypeAndUnitLabels, e.options.UseStartTimestamps
	o.Switches, o.Explain, o.NoStatistics = e.switches, e.exec.Analyze, e.noStatistics
	p, err := plan.New(expr, o)
	if err != nil {
		return nil, err
	}
	r := &running{engine: e, plan: p, text: qs, from: from, options: e.options}
	r.options.LookbackDelta = lookback
	r.options.PerStepStats = qo != nil && qo.EnablePerStepStats()
	return r, nil
}

// running is a promql.Query.
type running struct {
	engine  *engine
	plan    *plan.Plan
	text    string
	from    storage.Queryable
	options operator.Options
	env     *operator.Env
	query   *exec.Query
}

func (r *running) Exec(ctx context.Context) *promql.Result {
	src, ok := r.from.(column.Source)
	if !ok {
		src = foreign.New(r.from)
	}
	mint, maxt := r.plan.TimeRange()
	view, err := scan.OpenView(src, mint, maxt)
	if err != nil {
		return &promql.Result{Err: err}
	}
	defer view.Close()
	steps := 0
	if r.options.PerStepStats {
		steps = vector.NewGrid(r.plan.Statement().Start.UnixMilli(), r.plan.Statement().End.UnixMilli(), r.plan.Statement().Interval.Milliseconds()).N
	}
	r.env = &operator.Env{
		View: view, Dict: vector.NewDict(), Account: budget.NewRoot("query", 0),
		Samples: operator.NewSamplesum(r.options.MaxSamples, steps), Options: r.options, Workers: r.engine.workers,
	}
	q, err := exec.New(r.env, r.plan, r.engine.exec)
	if err != nil {
		return &promql.Result{Err: err}
	}
	r.query = q
	v, ws, err := q.Result(ctx)
	return &promql.Result{Value: v, Warnings: ws, Err: err}
}

func (r *running) Close() {
	if r.query == nil {
		return
	}
	r.query.Close()
	if n := r.env.Account.Used(); n != 0 {
		r.engine.tb.Errorf("%s: %d bytes are still charged", r.text, n)
	}
}

func (r *running) Statement() parser.Statement { return r.plan.Statement() }
func (*running) Cancel()                       {}
func (r *running) String() string              { return r.text }

func (r *running) Stats() *stats.Statistics {
	s := &stats.Statistics{Timers: stats.NewQueryTimers(), Samples: stats.NewQuerySamples(r.options.PerStepStats)}
	if r.env == nil {
		return s
	}
	total, read, peak, perStep := r.env.Samples.Sums()
	s.Samples.TotalSamples, s.Samples.SamplesRead, s.Samples.PeakSamples = total, read, int(peak)
	s.Samples.TotalSamplesPerStep, s.Samples.SamplesReadPerStep = perStep, r.env.Samples.ReadPerStep()
	return s
}
