// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// blame returns the error that Prometheus' engine would end the query with, given the one that ended it here. Prometheus
// evaluates one operand after the other; here rows flow through all of them at once, so that of two operands that both
// fail the later one may do so first. Only a query that failed is looked at again, and only as far as it branches.
func (q *Query) blame(ctx context.Context, err error) error {
	if q.sinkErr != nil || q.root.evaluated() || !aboutTheQuery(err) {
		return err
	}
	env := q.env.Derive(q.env.View, q.env.Account)
	env.Samples = nil
	b := blamer{env: env, plan: q.plan}
	if first := b.within(ctx, q.plan.Root); first != nil && aboutTheQuery(first) {
		return first
	}
	return err
}

// aboutTheQuery tells whether an error says that the query makes no sense for its data, and not that there was too
// little of something.
func aboutTheQuery(err error) bool {
	var (
		full     *budget.ExceededError
		mistake  *operator.PanicError
		many     promql.ErrTooManySamples
		canceled promql.ErrQueryCanceled
		timeout  promql.ErrQueryTimeout
	)
	return !errors.As(err, &full) && !errors.As(err, &mistake) && !errors.As(err, &many) &&
		!errors.As(err, &canceled) && !errors.As(err, &timeout) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// blamer evaluates parts of a query by themselves.
type blamer struct {
	env  *operator.Env
	plan *plan.Plan
}

// within returns the first error of what n takes its value from, nil if there is none but that of n itself.
func (b *blamer) within(ctx context.Context, n plan.Node) error {
	in := operands(n)
	for len(in) == 1 {
		in = operands(in[0])
	}
	for _, x := range in {
		err := b.evaluate(ctx, x)
		if err == nil {
			continue
		}
		if first := b.within(ctx, x); first != nil {
			return first
		}
		return err
	}
	return nil
}

// operands are the inputs of a node that can fail.
func operands(n plan.Node) (in []plan.Node) {
	if r, ok := n.(*plan.Ref); ok {
		n = r.As
	}
	for _, x := range n.Inputs() {
		switch x.(type) {
		case *plan.Number, *plan.Text:
		default:
			in = append(in, x)
		}
	}
	return in
}

// evaluate evaluates a node and forgets its value.
func (b *blamer) evaluate(ctx context.Context, n plan.Node) error {
	if n.Where().When.None() {
		return nil
	}
	with := newBuilder(b.env, b.plan, Options{})
	with.single = true
	switch n.Type() {
	case parser.ValueTypeScalar:
		s, err := with.scalar(n)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Open(ctx)
	case parser.ValueTypeMatrix:
		r, err := with.ranges(n, false)
		if err != nil {
			return err
		}
		defer r.Close()
		return b.read(ctx, r)
	default:
		v, err := with.vector(n)
		if err != nil {
			return err
		}
		defer v.Close()
		if err := v.Open(ctx); err != nil {
			return err
		}
		return b.env.Drain(ctx, v, nil, func(*vector.Batch) error { return nil })
	}
}

func (b *blamer) read(ctx context.Context, r operator.Ranges) error {
	if err := r.Open(ctx); err != nil {
		return err
	}
	c := r.Cursor(nil)
	defer c.Close()
	for {
		if err := b.env.Check(); err != nil {
			return err
		}
		if _, ok, err := c.Next(ctx); err != nil || !ok {
			return err
		}
	}
}
