// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package plan turns a parsed PromQL expression into what package exec runs: a tree of nodes, each with the times at
// which it is evaluated and the place in the query that its annotations name. Passes then rewrite the tree; none of
// them changes an answer, an error, an annotation or, where they are asked for, the statistics.
//
// A Plan belongs to one query and one goroutine. It holds no data and needs no closing. Making one costs a few
// microseconds per node.
package plan

import (
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// Options say when a query is evaluated and how.
type Options struct {
	Start, End time.Time
	// Interval is the step of a range query; 0 makes the query an instant one at Start.
	Interval time.Duration
	// Lookback is how long after its last sample a series is still seen.
	Lookback time.Duration
	// SubqueryStep is the step of a subquery that names none, given its range, both in milliseconds. Nil: a minute.
	SubqueryStep func(rangeMs int64) int64
	// DelayedNameRemoval, TypeAndUnitLabels and UseStartTimestamps are the engine's features.
	DelayedNameRemoval, TypeAndUnitLabels, UseStartTimestamps bool
	// NoStatistics says that nobody looks at the sample counts, which allows passes that read less.
	NoStatistics bool
	// Explain keeps the plan in words before and after each pass.
	Explain bool
	// Switches turn passes off.
	Switches Switches
}

// Plan is a query ready to be run.
type Plan struct {
	// Root is what is evaluated.
	Root Node
	// Log says what each pass did.
	Log []Step

	opts Options
	stmt *parser.EvalStmt
}

// New plans expr, which it takes over. Its errors are those with which Prometheus' engine refuses a query.
func New(expr parser.Expr, o Options) (*Plan, error) {
	if o.SubqueryStep == nil {
		o.SubqueryStep = func(int64) int64 { return time.Minute.Milliseconds() }
	}
	if t := expr.Type(); o.Interval != 0 && t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		return nil, fmt.Errorf("invalid expression type %q for range query, must be Scalar or instant Vector", parser.DocumentedType(t))
	}
	expr, err := promql.PreprocessExpr(expr, o.Start, o.End, o.Interval)
	if err != nil {
		return nil, err
	}
	p := &Plan{opts: o, stmt: &parser.EvalStmt{
		Expr: expr, Start: o.Start, End: o.End, Interval: o.Interval, LookbackDelta: o.Lookback,
	}}
	p.Root = p.translate()
	p.rewrite()
	return p, nil
}

// Statement is the expression as Prometheus' engine would evaluate it.
func (p *Plan) Statement() *parser.EvalStmt { return p.stmt }

// Options returns what the plan was made with.
func (p *Plan) Options() Options { return p.opts }

// TimeRange returns the first and the last millisecond that the query may read: the range of its view.
func (p *Plan) TimeRange() (mint, maxt int64) { return promql.FindMinMaxTime(p.stmt) }

// Instant tells whether the query is evaluated once and answers with a value of its own type; a range query always
// answers with a matrix.
func (p *Plan) Instant() bool { return p.opts.Interval == 0 && p.opts.Start.Equal(p.opts.End) }

// milliseconds returns a time as Prometheus' engine counts it: beyond the year 2262 its nanoseconds overflow, and so do
// ours, because clients see the result.
func milliseconds(t time.Time) int64 { return t.UnixNano() / int64(time.Millisecond) }
