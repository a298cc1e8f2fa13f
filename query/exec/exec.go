// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package exec runs plans: it builds the operators of a plan, drives them, and hands on the answer, row by row as it
// is made or as a value of Prometheus' types.
//
// A Query is run once and belongs to one goroutine. Whatever way it ends, its operators are closed before Result or
// Stream returns, all workers have ended, and what they charged to the account has been given back, but for what the
// answer itself holds, which is charged until Close.
package exec

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/window"
	"github.com/tidemarkdb/tidemark/query/plan"
)

// Options choose how a query is run.
type Options struct {
	// Analyze meters every operator. It costs a clock reading per batch and operator.
	Analyze bool
	// KeepBytes is how much the rows of what several places of a query share may take; what is larger is evaluated
	// by each of them. 0: 64 MiB; negative: nothing is kept.
	KeepBytes int64
	// Rung is how sums over windows are computed.
	Rung window.Rung
	// Points has memory for the answer, and takes it back at Close; nil: none.
	Points *Points
}

// Query is a plan about to be run.
type Query struct {
	env   *operator.Env
	plan  *plan.Plan
	opts  Options
	root  root
	built *builder
	// ran says that the operators were put to work.
	ran bool
	// top is what drives the operators, if the query is analyzed.
	top     *meter
	sinkErr error
	// held is what the answer is charged with, and points what its floats are in.
	held   int64
	points points
}

// New builds the operators of p. env is for this query alone; its View need not be set if the query is only explained.
func New(env *operator.Env, p *plan.Plan, o Options) (*Query, error) {
	if o.Analyze {
		env.OnWorker = onWorker
	}
	if o.KeepBytes == 0 {
		o.KeepBytes = defaultKeepBytes
	}
	b := newBuilder(env, p, o)
	r, err := b.root()
	if err != nil {
		return nil, fmt.Errorf("build the operators of a query: %w", err)
	}
	return &Query{env: env, plan: p, opts: o, root: r, built: b, top: &meter{account: env.Account}}, nil
}

// Result runs the query and returns its value: a promql.Vector, Matrix, Scalar or promql.String. Annotations may come
// with an error.
func (q *Query) Result(ctx context.Context) (parser.Value, annotations.Annotations, error) {
	c := collector{account: q.env.Account, points: points{from: q.opts.Points}}
	ws, err := q.Stream(ctx, &c)
	q.held += c.charged
	q.points = c.points
	if err != nil {
		return nil, ws, err
	}
	return c.value(), ws, nil
}

// Close gives back what the answer holds. The value of Result is not to be used any more.
func (q *Query) Close() {
	q.points.free()
	q.env.Account.Release(q.held)
	q.held = 0
}
