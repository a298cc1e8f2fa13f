// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
)

// Mirror is a promql.QueryEngine that answers with another engine and shows every query that passes, with the
// storage it is asked over, to a function. Driving it with Prometheus' suite compares engines in modes for which the
// suite has no expectations: its data and its queries are used, its answers are not.
type Mirror struct {
	Answer promql.QueryEngine
	// Seen is called before the query runs.
	Seen func(from storage.Queryable, q Query)
}

var _ promql.QueryEngine = Mirror{}

// NewInstantQuery implements promql.QueryEngine.
func (m Mirror) NewInstantQuery(ctx context.Context, from storage.Queryable, opts promql.QueryOpts, text string, ts time.Time) (promql.Query, error) {
	q := At(text, ts)
	q.Opts = opts
	m.Seen(from, q)
	return m.Answer.NewInstantQuery(ctx, from, opts, text, ts)
}

// NewRangeQuery implements promql.QueryEngine.
func (m Mirror) NewRangeQuery(ctx context.Context, from storage.Queryable, opts promql.QueryOpts, text string, start, end time.Time, step time.Duration) (promql.Query, error) {
	q := Between(text, start, end, step)
	q.Opts = opts
	m.Seen(from, q)
	return m.Answer.NewRangeQuery(ctx, from, opts, text, start, end, step)
}
