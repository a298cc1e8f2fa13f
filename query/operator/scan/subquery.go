// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Subquery is the bracket of a subquery.
type Subquery struct {
	// Offset is subtracted from the time of each step, or from At; milliseconds.
	Offset int64
	// At is the time of an @ modifier.
	At *int64
	// Range and Step are milliseconds; Step is not 0.
	Range, Step int64
}

// Grid returns the times at which the inside of a subquery is evaluated for the steps g of the outside. They are
// multiples of the step. The division is truncated toward zero, as Prometheus' is, which shows at negative times. A
// grid of no steps comes out where the range holds no multiple.
func (s Subquery) Grid(g vector.Grid) vector.Grid {
	start, end := g.Start-s.Offset, g.End()-s.Offset
	if s.At != nil {
		start, end = *s.At-s.Offset, *s.At-s.Offset+g.End()-g.Start
	}
	after := start - s.Range
	first := s.Step * (after / s.Step)
	if first <= after {
		first += s.Step
	}
	if end < first {
		return vector.Grid{Start: first, Step: s.Step}
	}
	return vector.Grid{Start: first, Step: s.Step, N: int((end-first)/s.Step) + 1}
}

// Windows returns the windows of a subquery for the steps g of the outside.
func (s Subquery) Windows(g vector.Grid) operator.Windows {
	w := operator.Windows{Grid: g, Start: g.Start - s.Offset, Step: g.Step, Range: s.Range}
	if s.At != nil {
		w.Start, w.Step = *s.At-s.Offset, 0
	}
	return w
}

// NewSubquery returns the range vector of the values of inner, whose grid is that of Subquery.Grid. Series flow
// through it one by one.
func NewSubquery(env *operator.Env, inner operator.Node, w operator.Windows) operator.Ranges {
	return &subquery{env: env, inner: inner, windows: w}
}

type subquery struct {
	env     *operator.Env
	inner   operator.Node
	windows operator.Windows
	times   []int64 // of the steps
	memory  int64
}

// Open implements operator.Ranges.
func (n *subquery) Open(ctx context.Context) error {
	if err := n.inner.Open(ctx); err != nil {
		return err
	}
	g := n.inner.Grid()
	bytes := int64(g.N) * 8
	if err := n.env.Account.Reserve(bytes); err != nil {
		return err
	}
	n.memory += bytes
	n.times = make([]int64, g.N)
	for i := range n.times {
		n.times[i] = g.At(i)
	}
	return nil
}

// Table implements operator.Ranges.
func (n *subquery) Table() *vector.Table { return n.inner.Table() }

// Windows implements operator.Ranges.
func (n *subquery) Windows() operator.Windows { return n.windows }

// Close implements operator.Ranges.
func (n *subquery) Close() {
	n.inner.Close()
	n.env.Account.Release(n.memory)
	n.memory = 0
}

// Cursor implements operator.Ranges.
func (n *subquery) Cursor(ids []uint32) operator.RangeCursor {
	return &subqueryCursor{node: n, in: n.inner.Cursor(ids), batch: vector.Batch{Budget: n.env.Account}}
}

type subqueryCursor struct {
	node  *subquery
	in    operator.Cursor
	batch vector.Batch
	row   int

	// The cells of a row with gaps, moved together, and the kinds of those of one with histograms.
	t      []int64
	kind   []sample.Kind
	memory int64
}

// Close implements operator.RangeCursor.
func (c *subqueryCursor) Close() {
	c.in.Close()
	c.batch.Free()
	c.node.env.Account.Release(c.memory)
	c.memory, c.t, c.kind = 0, nil, nil
}

// Next implements operator.RangeCursor.
func (c *subqueryCursor) Next(ctx context.Context) (operator.Samples, bool, error) {
	for {
		for c.row >= c.batch.Rows() {
			ok, err := c.in.Next(ctx, &c.batch)
			if err != nil || !ok {
				return operator.Samples{}, false, err
			}
			c.row = 0
		}
		s, err := c.samples(c.row)
		c.row++
		if err != nil || len(s.T) > 0 {
			return s, err == nil, err
		}
	}
}

func (c *subqueryCursor) samples(i int) (operator.Samples, error) {
	b := &c.batch
	v, k, h := b.Row(i)
	s := operator.Samples{ID: b.IDs[i], T: c.node.times, V: v}
	if b.Shape[i] == vector.Full {
		return s, nil
	}
	if err := c.reserve(); err != nil {
		return s, err
	}
	if b.Shape[i]&vector.HasGaps != 0 {
		s.T, s.V = c.closeGaps(v, k, h)
		v, k = s.V, k[:len(s.T)]
	}
	if b.Shape[i]&vector.HasHistograms != 0 {
		s.Kind, s.H = c.kind[:len(v)], h[:len(v)]
		for j, x := range k {
			s.Kind[j] = sample.Float
			if x == vector.Histogram {
				s.Kind[j] = sample.FloatHistogram
				h[j] = forgetReset(h[j])
			} else {
				h[j] = nil
			}
		}
	}
	return s, nil
}

func (c *subqueryCursor) reserve() error {
	if c.t != nil {
		return nil
	}
	n := len(c.node.times)
	bytes := int64(n) * 9
	if err := c.node.env.Account.Reserve(bytes); err != nil {
		return err
	}
	c.memory += bytes
	c.t, c.kind = make([]int64, n), make([]sample.Kind, n)
	return nil
}

// closeGaps moves the cells of a row together, in place, and gathers their times.
func (c *subqueryCursor) closeGaps(v []float64, k []vector.Kind, h []*histogram.FloatHistogram) ([]int64, []float64) {
	n := 0
	for i, x := range k {
		c.t[n], v[n], k[n] = c.node.times[i], v[i], x
		if h != nil {
			h[n] = h[i]
		}
		if x != vector.Absent {
			n++
		}
	}
	return c.t[:n], v[:n]
}

// forgetReset returns h without what it says about a counter reset: the samples of a subquery are not those of the
// storage, so the one before may be missing or be there twice.
func forgetReset(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	if h.CounterResetHint != histogram.CounterReset && h.CounterResetHint != histogram.NotCounterReset {
		return h
	}
	c := *h
	c.CounterResetHint = histogram.UnknownCounterReset
	return &c
}
