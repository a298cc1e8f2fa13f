// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// meter is what one operator did. Its cursors may count side by side.
type meter struct {
	account *budget.Account // its own, for the peak
	rows    atomic.Int64
	cells   atomic.Int64
	batches atomic.Int64
	samples atomic.Int64 // decoded
	bytes   atomic.Int64 // decoded
	latest  atomic.Int64 // samples known without decoding
	own     atomic.Int64 // nanoseconds
	lent    atomic.Int64 // times a goroutine was lent

	selections       atomic.Int64 // of series
	selectionsCached atomic.Int64 // of those, the ones the storage knew
	series           atomic.Int64 // selected
}

// span is a stretch of time that an operator works on one goroutine. The operators it calls meanwhile add the time
// they take to inner.
type span struct {
	of    *meter
	inner time.Duration
}

type spanKey struct{}

// begin starts a span; the function returned ends it.
func (m *meter) begin(ctx context.Context) (context.Context, func()) {
	outer, _ := ctx.Value(spanKey{}).(*span)
	s := &span{of: m}
	start := time.Now()
	return context.WithValue(ctx, spanKey{}, s), func() {
		took := time.Since(start)
		m.own.Add(int64(took - s.inner))
		if outer != nil {
			outer.inner += took
		}
	}
}

// onWorker begins a span on another goroutine for the operator that asked for it. What waits there for its turn counts
// as work.
func onWorker(ctx context.Context) (context.Context, func()) {
	outer, _ := ctx.Value(spanKey{}).(*span)
	if outer == nil {
		return ctx, func() {}
	}
	outer.of.lent.Add(1)
	return outer.of.begin(context.WithValue(ctx, spanKey{}, (*span)(nil)))
}

// at returns the builder for one node: with an environment of its own if the query is analyzed.
func (b *builder) at(n plan.Node) *builder {
	c := *b
	if !b.opts.Analyze {
		return &c
	}
	m := &meter{account: b.base.Account.Child("operator", 0)}
	b.of(n).meter = m
	view := b.base.View
	if view != nil {
		view = meterView(view, m)
	}
	c.env = b.base.Derive(view, m.account)
	return &c
}

// metered returns the operator of a node as with wraps it, if it is metered.
func metered[T any](b *builder, n plan.Node, op T, with func(T, *meter) T) T {
	if m := b.of(n).meter; m != nil {
		return with(op, m)
	}
	return op
}

// open opens an operator, whatever its kind.
func (m *meter) open(ctx context.Context, op interface{ Open(context.Context) error }) error {
	ctx, end := m.begin(ctx)
	defer end()
	return op.Open(ctx)
}

// yielded counts rows and their cells.
func (m *meter) yielded(rows int, cells int64) {
	m.rows.Add(int64(rows))
	m.cells.Add(cells)
}

// meteredNode counts what a node yields.
type meteredNode struct {
	operator.Node
	m *meter
}

func meterNode(op operator.Node, m *meter) operator.Node { return &meteredNode{op, m} }

// Open implements operator.Node.
func (n *meteredNode) Open(ctx context.Context) error { return n.m.open(ctx, n.Node) }

// Cursor implements operator.Node.
func (n *meteredNode) Cursor(ids []uint32) operator.Cursor {
	return &meteredCursor{Cursor: n.Node.Cursor(ids), m: n.m}
}

type meteredCursor struct {
	operator.Cursor
	m *meter
}

// Next implements operator.Cursor.
func (c *meteredCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	ctx, end := c.m.begin(ctx)
	ok, err := c.Cursor.Next(ctx, b)
	end()
	if ok && err == nil {
		c.m.batches.Add(1)
		c.m.yielded(b.Rows(), cellsOf(b))
	}
	return ok, err
}

func cellsOf(b *vector.Batch) (n int64) {
	for i, s := range b.Shape {
		switch {
		case s == vector.HasGaps:
		case s&vector.HasGaps == 0:
			n += int64(b.Steps)
		default:
			_, kinds, _ := b.Row(i)
			for _, k := range kinds {
				if k != vector.Absent {
					n++
				}
			}
		}
	}
	return n
}

// meteredScalar counts what a scalar has.
type meteredScalar struct {
	operator.Scalar
	m *meter
}

func meterScalar(op operator.Scalar, m *meter) operator.Scalar { return &meteredScalar{op, m} }

// Open implements operator.Scalar.
func (s *meteredScalar) Open(ctx context.Context) error {
	err := s.m.open(ctx, s.Scalar)
	if err == nil {
		s.m.yielded(1, int64(len(s.Values())))
	}
	return err
}

// meteredRanges counts the series and samples of a range vector.
type meteredRanges struct {
	operator.Ranges
	m *meter
}

func meterRanges(op operator.Ranges, m *meter) operator.Ranges { return &meteredRanges{op, m} }

// Open implements operator.Ranges.
func (r *meteredRanges) Open(ctx context.Context) error { return r.m.open(ctx, r.Ranges) }

// Cursor implements operator.Ranges.
func (r *meteredRanges) Cursor(ids []uint32) operator.RangeCursor {
	return &meteredRangeCursor{RangeCursor: r.Ranges.Cursor(ids), m: r.m}
}

type meteredRangeCursor struct {
	operator.RangeCursor
	m *meter
}

// Next implements operator.RangeCursor.
func (c *meteredRangeCursor) Next(ctx context.Context) (operator.Samples, bool, error) {
	ctx, end := c.m.begin(ctx)
	s, ok, err := c.RangeCursor.Next(ctx)
	end()
	if ok && err == nil {
		c.m.yielded(1, int64(len(s.T)))
	}
	return s, ok, err
}
