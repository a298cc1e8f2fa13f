// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// filter is the operator for "and" and "unless": it streams the left side and needs of the right one only which
// groups it has at which step.
type filter struct {
	set
	rows []uint32 // of the left side, by result; nil: all; valid after Open
}

func newFilter(env *operator.Env, c Call) *filter {
	return &filter{set: newSet(env, c)}
}

// Open implements operator.Node.
func (f *filter) Open(ctx context.Context) error {
	if err := f.open(ctx); err != nil {
		return err
	}
	k, err := f.match(keyBytes)
	if err != nil {
		return err
	}
	f.groups = k.of[0]
	wanted := make([]bool, k.n)
	nLeft := k.sizes(0)
	for _, g := range k.of[1] {
		wanted[g] = nLeft[g] > 0
	}
	if f.masks, err = newMasks(f.env.Account, f.Grid().N, wanted); err != nil {
		return err
	}
	if err := f.readRight(ctx, k.of[1]); err != nil {
		return err
	}
	return f.choose(ctx)
}

// readRight fills the masks.
func (f *filter) readRight(ctx context.Context, groups []uint32) error {
	var ids []uint32
	if f.call.Narrow {
		ids = []uint32{}
		for row, g := range groups {
			if f.masks.has(g) {
				ids = append(ids, uint32(row))
			}
		}
	}
	return f.env.Drain(ctx, f.call.Right, ids, func(b *vector.Batch) error {
		for i, id := range b.IDs {
			f.masks.mark(groups[id], operand.Row{Batch: b, At: i})
		}
		return nil
	})
}

// choose says which rows of the left side are results.
func (f *filter) choose(ctx context.Context) error {
	f.table = f.left.Table()
	if f.call.Op == parser.LUNLESS {
		return nil
	}
	var unread []uint32
	rows := make([]uint32, 0, f.left.Table().N)
	for row, g := range f.groups {
		if f.masks.has(g) {
			rows = append(rows, uint32(row))
		} else {
			unread = append(unread, uint32(row))
		}
	}
	if len(unread) == 0 {
		return nil
	}
	f.rows, f.table = rows, f.left.Table().Take(rows)
	if f.call.Narrow {
		return nil
	}
	return f.left.Discard(ctx, unread)
}

// Cursor implements operator.Node.
func (f *filter) Cursor(ids []uint32) operator.Cursor {
	if f.rows == nil {
		return &filterCursor{filter: f, left: f.call.Left.Cursor(ids)}
	}
	c := &filterCursor{filter: f, ids: ids}
	rows := f.rows
	if ids != nil {
		rows = make([]uint32, len(ids))
		for i, id := range ids {
			rows[i] = f.rows[id]
		}
	}
	c.left, c.rows = f.call.Left.Cursor(rows), rows
	return c
}

type filterCursor struct {
	*filter
	left operator.Cursor
	rows []uint32 // of the left side, those to come
	ids  []uint32 // the results that they are; nil: all
	at   int
}

// Close implements operator.Cursor.
func (c *filterCursor) Close() { c.left.Close() }

// Next implements operator.Cursor.
func (c *filterCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	if err := c.env.Check(); err != nil {
		return false, err
	}
	ok, err := c.left.Next(ctx, b)
	if err != nil || !ok {
		return false, err
	}
	for i, row := range b.IDs {
		if c.filter.rows != nil {
			b.IDs[i] = c.result(row)
		}
		if c.call.Op == parser.LAND {
			c.masks.keep(c.groups[row], operand.Row{Batch: b, At: i})
		} else {
			c.masks.hide(c.groups[row], operand.Row{Batch: b, At: i})
		}
	}
	return true, nil
}

// result returns which result a row of the left side is. Rows come in the order in which they were asked for.
func (c *filterCursor) result(row uint32) uint32 {
	for c.rows[c.at] != row {
		c.at++
	}
	c.at++
	if c.ids == nil {
		return uint32(c.at - 1)
	}
	return c.ids[c.at-1]
}
