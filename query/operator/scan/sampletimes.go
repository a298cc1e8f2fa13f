// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// NewSampleTimes returns the operator that info() selects its info series with: a cell is the time in milliseconds of
// the sample that the selector finds, or a histogram where that sample is one. Series keep all of their labels.
func NewSampleTimes(env *operator.Env, sel Selector, g vector.Grid) operator.Node {
	n := &sampleTimes{}
	n.grid, n.look = g, sel.times(g)
	n.init(env, sel, n.look.start-env.LookbackDelta, n.look.last())
	return n
}

type sampleTimes struct{ instant }

// Cursor implements operator.Node.
func (n *sampleTimes) Cursor(ids []uint32) operator.Cursor {
	return &sampleTimeCursor{n.cursor(ids)}
}

type sampleTimeCursor struct{ instantCursor }

// Next implements operator.Cursor.
func (c *sampleTimeCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	c.hist.release()
	return c.reader.batch(ctx, b, c.node.look.n, c.fill)
}

// fill sets the cells of row i to the times of the samples they come from.
func (c *sampleTimeCursor) fill(b *vector.Batch, i int, s series) error {
	if err := c.instantCursor.fill(b, i, s); err != nil {
		return err
	}
	v, k, _ := b.Row(i)
	t := c.reader.blk.T[s.from:s.to]
	ref, n := c.node.look.start, 0
	for i := range v {
		n = forward(t, n, ref)
		if k[i] == vector.Float {
			v[i] = float64(t[n-1])
		}
		ref += c.node.look.step
	}
	return nil
}
