// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package query answers PromQL from columns. Engine implements promql.QueryEngine, so the HTTP API, the rule
// evaluator and foreign code use it as they would use Prometheus' own engine; answers, errors and annotations
// are Prometheus' own as well.
//
// An Engine reads from the column.Source it was made with. A caller may hand NewInstantQuery and NewRangeQuery
// another storage.Queryable: one that is a column.Source too is read as columns, any other one through its
// Prometheus interface, and nil means the engine's own source.
//
// An Engine is safe for concurrent use and runs at most Options.MaxConcurrency queries at once. A Query belongs
// to one goroutine, but for Cancel, and must be closed.
package query

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"

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
	// MaxSamples is how many samples a query may hold in memory at once.
	MaxSamples int
	// MaxConcurrency is how many queries run at once; more wait for their turn until their timeout.
	MaxConcurrency int
	// ActiveQueryDir is where running queries are noted, so that those a crash interrupted are logged at the
	// next start. Empty: nowhere.
	ActiveQueryDir string
	// EvaluationInterval is the step of a subquery that names none. Nil: one minute.
	EvaluationInterval func() time.Duration
	Features           Features
	// FeatureRegistry is told which features are on; nil: nobody.
	FeatureRegistry features.Collector
	// Logger takes warnings; nil: none.
	Logger *slog.Logger
	// Registerer takes the engine's metrics; nil: none.
	Registerer prometheus.Registerer
}

// Features are the parts of PromQL that Prometheus keeps behind --enable-feature.
type Features struct {
	ExperimentalFunctions  bool // promql-experimental-functions
	ExtendedRangeSelectors bool // promql-extended-range-selectors
	BinopFillModifiers     bool // promql-binop-fill-modifiers
	DelayedNameRemoval     bool // promql-delayed-name-removal
	PerStepStats           bool // promql-per-step-stats
	TypeAndUnitLabels      bool // type-and-unit-labels
	UseStartTimestamps     bool // use-start-timestamps
}

// NewParser returns the parser of the language that f describes. It refuses what nests deeper than MaxNesting.
func (f Features) NewParser() parser.Parser {
	return shallowParser{parser.NewParser(parser.Options{
		EnableExperimentalFunctions:  f.ExperimentalFunctions,
		ExperimentalDurationExpr:     true,
		EnableExtendedRangeSelectors: f.ExtendedRangeSelectors,
		EnableBinopFillModifiers:     f.BinopFillModifiers,
	})}
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
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Engine runs PromQL queries. It implements promql.QueryEngine.
type Engine struct {
	src column.Source
	run delegate
}

var _ promql.QueryEngine = (*Engine)(nil)

// NewEngine returns an engine over src.
func NewEngine(src column.Source, opts Options) *Engine {
	return &Engine{src: src, run: newDelegate(opts.withDefaults())}
}

// NewInstantQuery prepares qs for evaluation at ts.
func (e *Engine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	return e.run.prepare(e.source(q), func(from storage.Queryable) (promql.Query, error) {
		return e.run.engine.NewInstantQuery(ctx, from, opts, qs, ts)
	})
}

// NewRangeQuery prepares qs for evaluation at start, start+interval, ... up to end.
func (e *Engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	return e.run.prepare(e.source(q), func(from storage.Queryable) (promql.Query, error) {
		return e.run.engine.NewRangeQuery(ctx, from, opts, qs, start, end, interval)
	})
}

// SetQueryLogger makes every query be logged to l; nil ends that. The former logger is closed.
func (e *Engine) SetQueryLogger(l promql.QueryLogger) { e.run.engine.SetQueryLogger(l) }

// Close ends the engine. Running queries are not waited for.
func (e *Engine) Close() error { return e.run.engine.Close() }

// source says where a query reads: columns if there are any, else q as it is.
func (e *Engine) source(q storage.Queryable) origin {
	if q == nil {
		return origin{columns: e.src}
	}
	if src, ok := q.(column.Source); ok {
		return origin{columns: src}
	}
	return origin{foreign: q}
}

// origin is where a query reads; exactly one of its fields is set.
type origin struct {
	columns column.Source
	foreign storage.Queryable
}
