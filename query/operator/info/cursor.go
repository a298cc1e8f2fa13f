// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Cursor implements operator.Node.
func (n *node) Cursor(ids []uint32) operator.Cursor {
	ids = operand.All(ids, n.table.N)
	streamed := make([]uint32, 0, len(ids))
	for _, id := range ids {
		if row := n.results[id].row; !n.base.Holds(row) {
			streamed = append(streamed, row)
		}
	}
	return &cursor{node: n, ids: ids, base: n.base.Reader(streamed)}
}

type cursor struct {
	*node
	ids  operand.Results
	base *operand.Reader
}

// Close implements operator.Cursor.
func (c *cursor) Close() { c.base.Close() }

// Next implements operator.Cursor.
func (c *cursor) Next(ctx context.Context, to *vector.Batch) (bool, error) {
	return c.ids.Fill(c.env, to, c.Grid().N, func(int) error { return c.add(ctx, to, c.ids.Pop()) })
}

// add adds a result, or none where its row has no cell.
func (c *cursor) add(ctx context.Context, to *vector.Batch, id uint32) error {
	if c.slot != nil && c.slot[id] != 0 {
		_, err := operand.AddCopy(to, id, operand.Row{Batch: &c.done, At: int(c.slot[id] - 1)})
		return err
	}
	r := c.results[id]
	row, ok, err := c.base.Row(ctx, r.row)
	if err != nil || !ok {
		return err
	}
	at, err := operand.AddCopy(to, id, row)
	if err != nil || r.variant == nil || r.variant.all {
		return err
	}
	_, k, _ := to.Row(at)
	mask := r.variant.steps[:len(k)]
	for i := range k {
		k[i] &= mask[i]
	}
	to.Measure(at)
	return nil
}
