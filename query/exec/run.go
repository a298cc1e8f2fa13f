// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// root is what a query evaluates; at most one of its operators is set, none where there is nothing to evaluate.
type root struct {
	kind   parser.ValueType // of the answer
	text   *string
	scalar operator.Scalar
	node   operator.Node
	ranges operator.Ranges
	ending *ending // below node, where names are removed at the end
	grid   vector.Grid
	steps  vector.Grid // of the query
	none   bool        // there is no step
	// extra is how many samples the ends of anchored and smoothed windows add.
	extra int64
}

// where is what Prometheus' engine calls the part of a query that operators are.
const where = "expression evaluation"

// Stream runs the query and hands its answer to to. Annotations may come with an error.
func (q *Query) Stream(ctx context.Context, to Sink) (ws annotations.Annotations, err error) {
	q.ran = true
	stop := q.env.Watch(ctx, where)
	defer stop()
	defer q.root.close()
	defer func() {
		if r := recover(); r != nil {
			ws, err = nil, &operator.PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	if q.opts.Analyze {
		var end func()
		ctx, end = q.top.begin(ctx)
		defer end()
	}
	if err := operator.ContextError(ctx, where); err != nil {
		return nil, err
	}
	err = q.run(ctx, to)
	if errors.Is(err, ErrEnough) {
		return q.annotations(), nil
	}
	if err != nil {
		ws = q.failed(err)
		q.root.close() // what it holds may be needed to look at the query again
		return ws, ended(ctx, q.blame(ctx, err))
	}
	if err := operator.ContextError(ctx, where); err != nil {
		return nil, err
	}
	if err := q.settle(); err != nil {
		return nil, err
	}
	return q.annotations(), nil
}

// ended is the error of a query that ended with err. What storages make of the end of a context is of many words.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return operator.ContextError(ctx, where)
	}
	return err
}

// run evaluates the root.
func (q *Query) run(ctx context.Context, to Sink) error {
	if err := to.Begin(q.root.kind); err != nil {
		return err
	}
	r := &q.root
	switch {
	case r.none:
		return nil
	case r.text != nil:
		return to.Text(r.grid.Start, *r.text)
	case r.scalar != nil:
		return q.scalar(ctx, to)
	case r.ranges != nil:
		return q.samples(ctx, to)
	default:
		return q.rows(ctx, to)
	}
}

func (r *root) close() {
	switch {
	case r.scalar != nil:
		r.scalar.Close()
	case r.ranges != nil:
		r.ranges.Close()
	case r.node != nil:
		r.node.Close()
	}
}

// scalar hands on the value of a scalar, which a range query takes for a series without labels.
func (q *Query) scalar(ctx context.Context, to Sink) error {
	if err := q.root.scalar.Open(ctx); err != nil {
		return err
	}
	values := q.root.scalar.Values()
	if q.root.kind == parser.ValueTypeScalar {
		return to.Scalar(q.root.grid.Start, values[0])
	}
	if err := q.env.Account.Reserve(int64(len(values))); err != nil {
		return err
	}
	defer q.env.Account.Release(int64(len(values)))
	kinds := make([]vector.Kind, len(values))
	for i := range kinds {
		kinds[i] = vector.Float
	}
	return to.Row(&Row{Labels: labels.EmptyLabels(), Grid: q.root.grid, V: values, K: kinds, Shape: vector.Full})
}

// rows hands on the rows of a vector, in the order of labels where the answer is a matrix.
func (q *Query) rows(ctx context.Context, to Sink) error {
	n := q.root.node
	if err := n.Open(ctx); err != nil {
		return err
	}
	var order []uint32
	table := n.Table()
	if q.root.kind == parser.ValueTypeMatrix {
		bytes := int64(table.N) * 4
		if err := q.env.Account.Reserve(bytes); err != nil {
			return err
		}
		defer q.env.Account.Release(bytes)
		order = table.OrderBy(operator.Until(q.env, table.Compare))
	}
	var builder labels.ScratchBuilder
	row := Row{Grid: n.Grid()}
	return q.env.Drain(ctx, n, order, func(b *vector.Batch) error {
		for i, id := range b.IDs {
			if b.Shape[i]&(vector.HasFloats|vector.HasHistograms) == 0 {
				continue
			}
			row.V, row.K, row.H = b.Row(i)
			row.Shape = b.Shape[i]
			row.Labels = table.Labels(id, &builder)
			if err := q.hand(to, &row); err != nil {
				return err
			}
		}
		return nil
	})
}

// samples hands on the samples of a range vector.
func (q *Query) samples(ctx context.Context, to Sink) error {
	n := q.root.ranges
	if err := n.Open(ctx); err != nil {
		return err
	}
	table := n.Table()
	bytes := int64(table.N) * 4
	if err := q.env.Account.Reserve(bytes); err != nil {
		return err
	}
	defer q.env.Account.Release(bytes)
	c := n.Cursor(table.OrderBy(operator.Until(q.env, table.Compare)))
	defer c.Close()
	var builder labels.ScratchBuilder
	var row Row
	for {
		if err := q.env.Check(); err != nil {
			return err
		}
		s, ok, err := c.Next(ctx)
		if err != nil || !ok {
			return err
		}
		if w := n.Windows(); w.Anchored || w.Smoothed {
			before := len(s.T)
			if s, err = extend(s, w); err != nil {
				return err
			}
			q.root.extra += int64(len(s.T) - before)
		}
		if len(s.T) == 0 {
			continue
		}
		row.T, row.V, row.H = s.T, s.V, s.H
		row.K, row.Shape = kinds(row.K, s)
		row.Labels = table.Labels(s.ID, &builder)
		if err := q.hand(to, &row); err != nil {
			return err
		}
	}
}

// hand hands a row on, and remembers if that was what failed.
func (q *Query) hand(to Sink, row *Row) error {
	err := to.Row(row)
	if err != nil {
		q.sinkErr = err
	}
	return err
}

// kinds turns the kinds of samples into those of cells, in the memory of into.
func kinds(into []vector.Kind, s operator.Samples) ([]vector.Kind, vector.Shape) {
	into = into[:0]
	var shape vector.Shape
	for i := range s.T {
		if s.Kind == nil || s.Kind[i] == sample.Float {
			into = append(into, vector.Float)
			shape |= vector.HasFloats
		} else {
			into = append(into, vector.Histogram)
			shape |= vector.HasHistograms
		}
	}
	return into, shape
}
