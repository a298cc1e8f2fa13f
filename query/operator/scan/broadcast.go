// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// NewBroadcast returns the operator of a step invariant expression: child, of one step, has the value of every step
// of g.
func NewBroadcast(child operator.Node, g vector.Grid) operator.Node {
	if g.N == 1 {
		return child
	}
	return &broadcast{Node: child, grid: g}
}

type broadcast struct {
	operator.Node
	grid vector.Grid
}

// Grid implements operator.Node.
func (n *broadcast) Grid() vector.Grid { return n.grid }

// Cursor implements operator.Node.
func (n *broadcast) Cursor(ids []uint32) operator.Cursor {
	return &broadcastCursor{node: n, in: n.Node.Cursor(ids)}
}

type broadcastCursor struct {
	node *broadcast
	in   operator.Cursor
	one  vector.Batch
	row  int
}

// Close implements operator.Cursor.
func (c *broadcastCursor) Close() {
	c.in.Close()
	c.one.Free()
}

// Next implements operator.Cursor.
func (c *broadcastCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	c.one.Budget = b.Budget
	steps := c.node.grid.N
	b.Reset(steps)
	for limit := operator.BatchRows(steps); b.Rows() < limit; c.row++ {
		if c.row >= c.one.Rows() {
			if b.Rows() > 0 {
				// The histograms of the rows there are belong to the input's batch.
				break
			}
			ok, err := c.in.Next(ctx, &c.one)
			if err != nil || !ok {
				return false, err
			}
			c.row = 0
			if err := b.Reserve(min(limit, c.one.Rows())); err != nil {
				return false, err
			}
		}
		if err := c.repeat(b, c.row); err != nil {
			return false, err
		}
	}
	return true, nil
}

// repeat adds a row of the only cell of row i.
func (c *broadcastCursor) repeat(b *vector.Batch, i int) error {
	kind := c.one.K[i]
	if kind == vector.Absent {
		return nil
	}
	row, err := b.Add(c.one.IDs[i])
	if err != nil {
		return err
	}
	if kind == vector.Histogram {
		if err := b.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := b.Row(row)
	for j := range v {
		v[j], k[j] = c.one.V[i], kind
	}
	if kind == vector.Histogram {
		for j := range h {
			h[j] = c.one.H[i]
		}
	}
	b.Shape[row] = c.one.Shape[i]
	return nil
}
