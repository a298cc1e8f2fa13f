// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"sync"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// delegate runs queries with Prometheus' engine over the adapter of package queryable.
type delegate struct {
	engine *promql.Engine
}

// newDelegate takes options with defaults filled in.
func newDelegate(o Options) delegate {
	return delegate{engine: promql.NewEngine(promql.EngineOpts{
		Logger:                   o.Logger,
		Reg:                      o.Registerer,
		MaxSamples:               o.MaxSamples,
		Timeout:                  o.Timeout,
		ActiveQueryTracker:       newTracker(o),
		LookbackDelta:            o.LookbackDelta,
		NoStepSubqueryIntervalFn: func(int64) int64 { return o.EvaluationInterval().Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnablePerStepStats:       o.Features.PerStepStats,
		EnableDelayedNameRemoval: o.Features.DelayedNameRemoval,
		EnableTypeAndUnitLabels:  o.Features.TypeAndUnitLabels,
		UseStartTimestamps:       o.Features.UseStartTimestamps,
		FeatureRegistry:          o.FeatureRegistry,
		Parser:                   o.Features.NewParser(),
	})}
}

// prepare makes a query over from; start is told the queryable to read through.
func (delegate) prepare(from origin, start func(storage.Queryable) (promql.Query, error)) (promql.Query, error) {
	if from.foreign != nil {
		return start(from.foreign)
	}
	w := &watched{Queryable: queryable.New(from.columns)}
	q, err := start(w)
	if err != nil {
		return nil, err
	}
	return &watchedQuery{Query: q, seen: w}, nil
}

// watched collects the warnings of the views that a query read. Prometheus' engine takes the warnings of a
// series set before it reads the samples, and would miss what only reading them shows.
type watched struct {
	*queryable.Queryable

	mu       sync.Mutex
	warnings annotations.Annotations
}

// Querier implements storage.Queryable.
func (w *watched) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := w.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return watchedQuerier{Querier: q, seen: w}, nil
}

type watchedQuerier struct {
	storage.Querier
	seen *watched
}

// Close implements storage.Querier.
func (q watchedQuerier) Close() error {
	if v, ok := q.Querier.(interface {
		Warnings() annotations.Annotations
	}); ok {
		q.seen.mu.Lock()
		q.seen.warnings.Merge(v.Warnings())
		q.seen.mu.Unlock()
	}
	return q.Querier.Close()
}

type watchedQuery struct {
	promql.Query
	seen *watched
}

// Exec implements promql.Query.
func (q *watchedQuery) Exec(ctx context.Context) *promql.Result {
	r := q.Query.Exec(ctx)
	q.seen.mu.Lock()
	defer q.seen.mu.Unlock()
	r.Warnings.Merge(q.seen.warnings)
	return r
}
