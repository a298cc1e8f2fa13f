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
	if ids == nil {
		ids = make([]uint32, n.table.N)
		for i := range ids {
			ids[i] = uint32(i)
		}
	}
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
	ids  []uint32
	base *operand.Reader
}

// Close implements operator.Cursor.
func (c *cursor) Close() { c.base.Close() }

// Next implements operator.Cursor.
func (c *cursor) Next(ctx context.Context, to *vector.Batch) (bool, error) {
	if err := c.env.Check(); err != nil {
		return false, err
	}
	to.Reset(c.Grid().N)
	limit := min(operator.BatchRows(to.Steps), len(c.ids))
	if err := to.Reserve(limit); err != nil {
		return false, err
	}
	for to.Rows() < limit && len(c.ids) > 0 {
		id := c.ids[0]
		c.ids = c.ids[1:]
		if err := c.add(ctx, to, id); err != nil {
			return false, err
		}
	}
	return to.Rows() > 0, nil
}

// add adds a result, or none where its row has no cell.
func (c *cursor) add(ctx context.Context, to *vector.Batch, id uint32) error {
	if c.slot != nil && c.slot[id] != 0 {
		at, err := to.Add(id)
		if err != nil {
			return err
		}
		return operand.CopyRow(to, at, &c.done, int(c.slot[id]-1))
	}
	r := c.results[id]
	row, ok, err := c.base.Row(ctx, r.row)
	if err != nil || !ok {
		return err
	}
	at, err := to.Add(id)
	if err != nil {
		return err
	}
	if err := operand.CopyRow(to, at, row.Batch, row.At); err != nil || r.variant == nil || r.variant.all {
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
