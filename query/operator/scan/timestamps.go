// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"

	"github.com/prometheus/prometheus/schema"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// NewTimestamps returns the operator of timestamp(selector), or of start_timestamp(selector): the time of the sample
// that the selector finds, in seconds, or the start timestamp that came with it. Histograms have times too.
//
// Its rows drop the metric name and are not merged where that makes them equal. Without start timestamps in the
// query, start_timestamp() is nothing.
func NewTimestamps(env *operator.Env, sel Selector, start bool, g vector.Grid) operator.Node {
	n := &timestamps{start: start}
	n.grid, n.look = g, sel.times(g)
	sel.ST = start
	n.init(env, sel, n.look.start-env.LookbackDelta, n.look.last())
	if sel.At != nil {
		// As Prometheus does it, the offset decides what is read, and then the time of @ alone which sample is seen.
		n.look.start = *sel.At
	}
	return n
}

type timestamps struct {
	instant
	start bool
	names *vector.Table
}

// Open implements operator.Node.
func (n *timestamps) Open(ctx context.Context) error {
	if err := n.open(ctx); err != nil {
		return err
	}
	n.names = dropName(n.env, n.table)
	return nil
}

// dropName returns t with the metric name gone, or marked to go at the end of the query.
func dropName(env *operator.Env, t *vector.Table) *vector.Table {
	if env.DelayedNameRemoval {
		return t.WithDrop(true)
	}
	drop := make([]string, 0, 3)
	for _, name := range t.Names {
		if schema.IsMetadataLabel(name) {
			drop = append(drop, name)
		}
	}
	if len(drop) == 0 {
		return t
	}
	return t.Without(drop...)
}

// Table implements operator.Node.
func (n *timestamps) Table() *vector.Table { return n.names }

// Cursor implements operator.Node.
func (n *timestamps) Cursor(ids []uint32) operator.Cursor {
	if n.start && !n.env.UseStartTimestamps {
		ids = []uint32{}
	}
	c := n.cursor(ids)
	c.stamps = n
	if l, ok := n.env.View.(column.LatestReader); ok && n.look.n == 1 && !n.start && n.look.start == n.need.MaxT {
		return &latestCursor{instantCursor: c, view: l}
	}
	return &c
}

// fill sets the cells of row i, which are absent, and its shape.
func (n *timestamps) fill(b *vector.Batch, i int, blk *column.Block, s series) {
	var h histograms
	h.load(nil, blk, s, false)
	v, k, _ := b.Row(i)
	t, lookback, mayBeStale := h.t, n.env.LookbackDelta, s.shape&column.HasStale != 0
	ref, next, cells := n.look.start, 0, 0
	for i := range v {
		next = forward(t, next, ref)
		if next > 0 && t[next-1] > ref-lookback && (!mayBeStale || !h.stale(next-1)) {
			at := t[next-1]
			if n.start {
				at = blk.STAt(s.from + next - 1)
			}
			v[i], k[i] = float64(at)/1000, vector.Float
			cells++
		}
		ref += n.look.step
	}
	b.Shape[i] = shapeOf(cells, len(v))
}
