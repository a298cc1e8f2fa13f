// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// result is rows that are done.
type result interface {
	names() *vector.Table
	// histograms tells whether any cell is one.
	histograms() bool
	// cells writes a row whose cells are all absent before.
	cells(id uint32, v []float64, k []vector.Kind, h []*histogram.FloatHistogram) vector.Shape
}

// cursor yields the rows of a result.
type cursor struct {
	env    *operator.Env
	result result
	steps  int
	ids    []uint32 // nil: all
	next   int
	total  int
}

func newCursor(env *operator.Env, r result, steps int, ids []uint32) *cursor {
	c := &cursor{env: env, result: r, steps: steps, ids: ids, total: len(ids)}
	if ids == nil {
		c.total = r.names().N
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
		if c.result.histograms() {
			if err := b.UseHistograms(); err != nil {
				return false, err
			}
		}
		v, k, h := b.Row(i)
		b.Shape[i] = c.result.cells(id, v, k, h)
	}
	return true, nil
}

// Close implements operator.Cursor.
func (*cursor) Close() {}
