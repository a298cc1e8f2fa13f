// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// latestCursor evaluates one step: it asks the view for the newest samples and decodes the series of which the view
// does not know them.
type latestCursor struct {
	instantCursor
	view column.LatestReader

	left   []uint32 // ids not yet read; nil before the first batch
	begun  bool
	answer column.Latest
	ask    []uint32 // of a batch, the ids to decode
	at     []int32  // their places in the batch
	memory int64
}

// Next implements operator.Cursor.
func (c *latestCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	if !c.begun {
		c.begun, c.left = true, c.reader.ids
		c.reader.ids = nil
	}
	for len(c.left) > 0 {
		b.Reset(1)
		c.hist.release()
		if err := c.batch(ctx, b); err != nil {
			return false, err
		}
		if b.Rows() > 0 {
			return true, nil
		}
	}
	b.Reset(1)
	return false, nil
}

func (c *latestCursor) batch(ctx context.Context, b *vector.Batch) error {
	n := min(len(c.left), operator.BatchCells)
	ids := c.left[:n]
	if err := c.reserve(b, n); err != nil {
		return err
	}
	if err := c.node.env.Check(); err != nil {
		return err
	}
	b.IDs = append(b.IDs, ids...)
	b.V, b.K, b.Shape = b.V[:n], b.K[:n], b.Shape[:n]
	c.answer.V = b.V
	ref := c.node.look.start
	if err := c.view.Latest(ctx, c.node.set, ids, ref, &c.answer); err != nil {
		return err
	}
	c.left = c.left[n:]
	c.ask, c.at = c.ask[:0], c.at[:0]
	for i, known := range c.answer.Known {
		if !known {
			c.ask, c.at = append(c.ask, ids[i]), append(c.at, int32(i))
			c.answer.T[i] = math.MinInt64
		}
	}
	keepFresh(b, c.answer.T, ref-c.node.env.LookbackDelta)
	if c.stamps != nil {
		for i, t := range c.answer.T {
			b.V[i] = float64(t) / 1000
		}
	}
	if len(c.ask) > 0 {
		if err := c.decode(ctx, b); err != nil {
			return err
		}
	}
	compact(b)
	return nil
}

// keepFresh makes a cell of every value that is newer than after and no stale marker.
func keepFresh(b *vector.Batch, t []int64, after int64) {
	for i, x := range b.V {
		k, s := vector.Absent, vector.HasGaps
		if t[i] > after && math.Float64bits(x) != value.StaleNaN {
			k, s = vector.Float, vector.Full
		}
		b.K[i], b.Shape[i] = k, s
	}
}

// decode fills in the series that the view had to be scanned for.
func (c *latestCursor) decode(ctx context.Context, b *vector.Batch) error {
	c.reader.reset(c.ask)
	for _, i := range c.at {
		s, ok, err := c.reader.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := c.fill(b, int(i), s); err != nil {
			return err
		}
	}
	return nil
}

// compact takes away the rows without a cell.
func compact(b *vector.Batch) {
	w := 0
	for i, k := range b.K {
		if k == vector.Absent {
			continue
		}
		if w < i {
			b.IDs[w], b.V[w], b.K[w], b.Shape[w] = b.IDs[i], b.V[i], k, b.Shape[i]
			if len(b.H) > 0 {
				b.H[w] = b.H[i]
			}
		}
		w++
	}
	b.Drop(w)
}

// reserve makes room for n rows in the batch and in the answer of the view.
func (c *latestCursor) reserve(b *vector.Batch, n int) error {
	if err := b.Reserve(n); err != nil {
		return err
	}
	if n > cap(c.answer.T) {
		const bytes = 8 + 1 + 4 + 4 // of a row in the four columns
		if err := c.node.env.Account.Reserve(int64(n-cap(c.answer.T)) * bytes); err != nil {
			return err
		}
		c.memory += int64(n-cap(c.answer.T)) * bytes
		c.answer.T, c.answer.Known = make([]int64, n), make([]bool, n)
		c.ask, c.at = make([]uint32, 0, n), make([]int32, 0, n)
	}
	c.answer.T, c.answer.Known = c.answer.T[:n], c.answer.Known[:n]
	return nil
}

// Close implements operator.Cursor.
func (c *latestCursor) Close() {
	c.instantCursor.Close()
	c.node.env.Account.Release(c.memory)
	c.memory = 0
	c.answer, c.ask, c.at = column.Latest{}, nil, nil
}
