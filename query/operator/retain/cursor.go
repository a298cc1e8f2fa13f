// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package retain

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Rows is rows that are done.
type Rows interface {
	Table() *vector.Table
	// Histograms tells whether any cell is one.
	Histograms() bool
	// Cells writes a row whose cells are all absent before. h is nil if there are no histograms.
	Cells(id uint32, v []float64, k []vector.Kind, h []*histogram.FloatHistogram) vector.Shape
}

// cursor yields the rows of a result.
type cursor struct {
	env   *operator.Env
	rows  Rows
	steps int
	ids   []uint32 // nil: all
	next  int
	total int
}

// NewCursor yields the rows with the given ids, nil: all, which have a number of steps.
func NewCursor(env *operator.Env, r Rows, steps int, ids []uint32) operator.Cursor {
	c := &cursor{env: env, rows: r, steps: steps, ids: ids, total: len(ids)}
	if ids == nil {
		c.total = r.Table().N
	}
	return c
}

// Next implements operator.Cursor.
func (c *cursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	b.Reset(c.steps)
	if err := c.env.Check(); err != nil || c.next == c.total {
		return false, err
	}
	n := min(operator.BatchRows(c.steps), c.total-c.next)
	if err := b.Reserve(n); err != nil {
		return false, err
	}
	for range n {
		id := uint32(c.next)
		if c.ids != nil {
			id = c.ids[c.next]
		}
		c.next++
		i, err := b.Add(id)
		if err != nil {
			return false, err
		}
		if c.rows.Histograms() {
			if err := b.UseHistograms(); err != nil {
				return false, err
			}
		}
		v, k, h := b.Row(i)
		b.Shape[i] = c.rows.Cells(id, v, k, h)
	}
	return true, nil
}

// Close implements operator.Cursor.
func (*cursor) Close() {}
