// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package query answers PromQL from columns. Engine implements promql.QueryEngine, so the HTTP API, the rule
// evaluator and foreign code use it as they would use Prometheus' own engine; answers, errors, annotations and
// statistics are Prometheus' own as well.
//
// This package is the outside of the engine: the life of a query, its limits, what is logged and listed about it. A
// text becomes a plan (package plan), a plan becomes operators (packages below operator), and package exec runs them
// over rows of cells (package vector).
//
// An Engine reads from the column.Source it was made with. A caller may hand NewInstantQuery and NewRangeQuery
// another storage.Queryable: one that is a column.Source too is read as columns, any other one through its
// Prometheus interface, and nil means the engine's own source.
//
// What a query may take is bounded: memory before it is allocated (Options.Memory, Options.PerQuery), time
// (Options.Timeout), samples as Prometheus counts them (Options.MaxSamples), and queries at once
// (Options.MaxConcurrency). Rules have an engine of their own over the same source, so that no number of other
// queries keeps them waiting.
//
// An Engine is safe for concurrent use. A Query belongs to one goroutine, but for Cancel, and must be closed.
package query

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"

	"github.com/tidemarkdb/tidemark/query/cache"
	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/foreign"
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/window"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// What the zero Options mean; Prometheus' own defaults.
const (
	DefaultLookbackDelta  = 5 * time.Minute
	DefaultTimeout        = 2 * time.Minute
	DefaultMaxSamples     = 50_000_000
	DefaultMaxConcurrency = 20
)

// Options set up an Engine. The zero value is Prometheus' defaults.
type Options struct {
	// LookbackDelta is how long after its last sample a series is still seen.
	LookbackDelta time.Duration
	// Timeout ends a query that runs longer.
	Timeout time.Duration
	// MaxSamples is how many samples a query may hold in memory at once, as Prometheus' engine would hold them.
	MaxSamples int
	// MaxConcurrency is how many queries run at once; more wait for their turn until their timeout.
	MaxConcurrency int
	// Memory is charged for what queries hold; nil: not accounted. PerQuery is how many bytes of it one query may
	// hold; 0: all.
	Memory   *budget.Account
	PerQuery int64
	// ResultCache is how many bytes answers of range queries are kept in; 0: none are.
	ResultCache int64
	// ActiveQueryDir is where running queries are noted, so that those a crash interrupted are logged at the
	// next start. Empty: nowhere.
	ActiveQueryDir string
	// EvaluationInterval is the step of a subquery that names none. Nil: one minute.
	EvaluationInterval func() time.Duration
	// SlowLog is how long a query may take before it is logged; nil or 0: however long.
	SlowLog func() time.Duration
	// ExactWindows says whether sums over windows are added up sample by sample, as Prometheus does; nil or false: where
	// long windows overlap a lot they come from prefix sums, and may differ in the last bits.
	ExactWindows func() bool
	Features     Features
	// Switches turn passes of the optimiser off; for tests and for finding mistakes.
	Switches plan.Switches
	// FeatureRegistry is told which features are on; nil: nobody.
	FeatureRegistry features.Collector
	// Logger takes warnings; nil: none.
	Logger *slog.Logger
	// Registerer takes the engine's metrics; nil: none.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.LookbackDelta <= 0 {
		o.LookbackDelta = DefaultLookbackDelta
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxSamples <= 0 {
		o.MaxSamples = DefaultMaxSamples
	}
	if o.MaxConcurrency <= 0 {
		o.MaxConcurrency = DefaultMaxConcurrency
	}
	if o.EvaluationInterval == nil {
		o.EvaluationInterval = func() time.Duration { return time.Minute }
	}
	if o.SlowLog == nil {
		o.SlowLog = func() time.Duration { return 0 }
	}
	if o.ExactWindows == nil {
		o.ExactWindows = func() bool { return false }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Engine runs PromQL queries. It implements promql.QueryEngine.
type Engine struct {
	*core

	src    column.Source
	places places
	memory *budget.Account
	rules  bool
}

// core is what an engine shares with the one for rules.
type core struct {
	opts    Options
	parser  parser.Parser
	metrics *metrics
	workers *operator.Workers
	buffers operator.Buffers
	points  exec.Points
	notes   *logbook
	// cache is nil where nothing is kept; Options.Memory is charged with its cacheBytes until closed.
	cache      *cache.Cache
	cacheBytes int64
	closed     sync.Once

	active activeSet
	top    topSet

	logMu sync.RWMutex
	log   promql.QueryLogger // nil: queries are not logged; guarded by logMu
}

var _ promql.QueryEngine = (*Engine)(nil)

// NewEngine returns an engine over src.
func NewEngine(src column.Source, opts Options) *Engine {
	opts = opts.withDefaults()
	c := &core{
		opts: opts, parser: opts.Features.NewParser(), metrics: newMetrics(opts.Registerer),
		// A query runs on its caller's goroutine; with as many more as there are processors one query can use them all.
		workers: operator.NewWorkers(runtime.GOMAXPROCS(0) - 1),
	}
	if opts.ResultCache > 0 {
		c.cacheBytes = max(opts.ResultCache, cache.MinBytes)
		if err := opts.Memory.Reserve(c.cacheBytes); err != nil {
			opts.Logger.Warn("answers are not kept: there is no memory for query.result_cache", "err", err)
		} else {
			c.cache = cache.New(int(c.cacheBytes))
		}
	}
	c.metrics.concurrent.Set(float64(opts.MaxConcurrency))
	if opts.FeatureRegistry != nil {
		opts.Features.register(opts.FeatureRegistry, c.parser)
	}
	c.notes = newLogbook(opts)
	return &Engine{core: c, src: src, places: newPlaces(opts.MaxConcurrency, c.notes), memory: opts.Memory}
}

// rung is the way in which sums over windows are computed now.
func (e *Engine) rung() window.Rung {
	if e.opts.ExactWindows() {
		return window.Sequential
	}
	return window.Adaptive
}

// ForRules returns an engine over the same source for rules: it has as many places of its own as e has, and its
// memory is memory. Its queries are listed, noted and logged with those of e, which is closed for both.
func (e *Engine) ForRules(memory *budget.Account) *Engine {
	return &Engine{core: e.core, src: e.src, places: newPlaces(e.opts.MaxConcurrency, e.notes), memory: memory, rules: true}
}

// NewInstantQuery prepares qs for evaluation at ts.
func (e *Engine) NewInstantQuery(_ context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	return e.prepare(q, opts, qs, plan.Options{Start: ts, End: ts})
}

// NewRangeQuery prepares qs for evaluation at start, start+interval, ... up to end.
func (e *Engine) NewRangeQuery(_ context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	return e.prepare(q, opts, qs, plan.Options{Start: start, End: end, Interval: interval})
}

// prepare parses and plans a query. o has its times.
func (e *Engine) prepare(from storage.Queryable, opts promql.QueryOpts, qs string, o plan.Options) (query promql.Query, err error) {
	defer recovered(&err)
	expr, err := e.parser.ParseExpr(qs)
	if err != nil {
		return nil, err
	}
	f := e.opts.Features
	q := newQuery(e, qs, e.source(from))
	q.own = from == nil // another source has other answers
	if o.Interval > 0 && e.cache != nil && q.own {
		q.selectors, q.whole = selectorsOf(expr)
	}
	o.Lookback = e.opts.LookbackDelta
	if opts != nil {
		if d := opts.LookbackDelta(); d > 0 {
			o.Lookback = d
		}
		q.perStep = f.PerStepStats && opts.EnablePerStepStats()
	}
	// One for the whole life of the query: it changes with the configuration.
	interval := e.opts.EvaluationInterval().Milliseconds()
	o.SubqueryStep = func(int64) int64 { return interval }
	o.DelayedNameRemoval, o.TypeAndUnitLabels, o.UseStartTimestamps = f.DelayedNameRemoval, f.TypeAndUnitLabels, f.UseStartTimestamps
	o.Switches, o.NoStatistics, o.Explain = e.opts.Switches, e.unobserved(opts), explained(opts)
	if q.plan, err = plan.New(expr, o); err != nil {
		return nil, err
	}
	return q, nil
}

// source says where a query reads: columns if there are any, else what Prometheus' interfaces give.
func (e *Engine) source(q storage.Queryable) column.Source {
	if q == nil {
		return e.src
	}
	if src, ok := q.(column.Source); ok {
		return src
	}
	return foreign.New(q)
}

// Active lists the queries that wait or run, the oldest first, those of rules among them.
func (e *Engine) Active() []Active { return e.active.list() }

// Cancel ends an active query, which then fails with ErrCanceled, and tells whether there was one.
func (e *Engine) Cancel(id uint64) bool { return e.active.cancel(id) }

// Top lists what was asked for since the start, by texts, the first n in an order.
func (e *Engine) Top(by TopOrder, n int) []Top { return e.top.top(by, n) }

// SetQueryLogger makes every query be logged to l; nil ends that. The former logger is closed.
func (e *Engine) SetQueryLogger(l promql.QueryLogger) {
	e.logMu.Lock()
	defer e.logMu.Unlock()
	if e.log != nil {
		if err := e.log.Close(); err != nil {
			e.opts.Logger.Warn("the former query log was not closed", "err", err)
		}
	}
	e.log = l
	e.metrics.logEnabled.Set(0)
	if l != nil {
		e.metrics.logEnabled.Set(1)
	}
}

// Close ends the engine. Running queries are not waited for.
func (e *Engine) Close() (err error) {
	e.closed.Do(func() {
		if e.cache != nil {
			e.cache.Close()
			e.opts.Memory.Release(e.cacheBytes)
		}
		err = e.notes.close()
	})
	return err
}
