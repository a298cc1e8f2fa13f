// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// kept is the rows of a node, all of them, held until release.
type kept struct {
	account *budget.Account
	rows    vector.Batch
	slot    []uint32 // by id: the number of the row, plus 1; 0: it has no cell
	charged int64
}

// room makes room for n rows. Nothing is held after an error.
func (x *kept) room(a *budget.Account, n, steps int) error {
	x.account, x.rows.Budget = a, a
	bytes := int64(n) * 4
	if err := a.Reserve(bytes); err != nil {
		return err
	}
	x.charged, x.slot = bytes, make([]uint32, n)
	x.rows.Reset(steps)
	err := x.rows.Reserve(n)
	if err != nil {
		x.release()
	}
	return err
}

// add keeps the rows of b that have a cell.
func (x *kept) add(b *vector.Batch) error {
	for i, id := range b.IDs {
		if b.Shape[i] == vector.HasGaps {
			continue
		}
		if err := x.charge(b, i); err != nil {
			return err
		}
		if err := appendRow(&x.rows, b, i); err != nil {
			return err
		}
		x.slot[id] = uint32(x.rows.Rows())
	}
	return nil
}

// charge charges for the histograms of row i of b.
func (x *kept) charge(b *vector.Batch, i int) error {
	if b.Shape[i]&vector.HasHistograms == 0 {
		return nil
	}
	n := b.HistogramBytes(i)
	if err := x.account.Reserve(n); err != nil {
		return err
	}
	x.charged += n
	return nil
}

// appendRow adds row j of from, which has the same steps, to to.
func appendRow(to *vector.Batch, from *vector.Batch, j int) error {
	i, err := to.Add(from.IDs[j])
	if err != nil {
		return err
	}
	if len(from.H) > 0 {
		if err := to.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := to.Row(i)
	fv, fk, fh := from.Row(j)
	copy(v, fv)
	copy(k, fk)
	copy(h, fh)
	to.Shape[i] = from.Shape[j]
	return nil
}

// release may be called twice.
func (x *kept) release() {
	x.rows.Free()
	x.account.Release(x.charged)
	x.slot, x.charged = nil, 0
}

func (x *kept) cursor(ids []uint32) operator.Cursor {
	return &keptCursor{from: x, ids: ids, all: ids == nil}
}

// keptCursor yields kept rows.
type keptCursor struct {
	from *kept
	ids  []uint32
	all  bool // every row, in the order in which they are kept
	at   int
}

// Next implements operator.Cursor.
func (c *keptCursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	rows := &c.from.rows
	b.Reset(rows.Steps)
	limit := operator.BatchRows(rows.Steps)
	if c.all {
		n := min(limit, rows.Rows()-c.at)
		err := c.stretch(b, n)
		return n > 0, err
	}
	if err := b.Reserve(min(limit, len(c.ids)-c.at)); err != nil {
		return false, err
	}
	for ; c.at < len(c.ids) && b.Rows() < limit; c.at++ {
		slot := c.from.slot[c.ids[c.at]]
		if slot == 0 {
			continue
		}
		if err := appendRow(b, rows, int(slot-1)); err != nil {
			return false, err
		}
	}
	return b.Rows() > 0, nil
}

// stretch copies the next n kept rows at once.
func (c *keptCursor) stretch(b *vector.Batch, n int) error {
	if err := b.Reserve(n); err != nil {
		return err
	}
	rows := &c.from.rows
	from, to := c.at*rows.Steps, (c.at+n)*rows.Steps
	b.IDs = append(b.IDs, rows.IDs[c.at:c.at+n]...)
	b.Shape = append(b.Shape, rows.Shape[c.at:c.at+n]...)
	b.V = append(b.V, rows.V[from:to]...)
	b.K = append(b.K, rows.K[from:to]...)
	c.at += n
	if len(rows.H) == 0 {
		return nil
	}
	if err := b.UseHistograms(); err != nil {
		return err
	}
	copy(b.H, rows.H[from:to])
	return nil
}

// Close implements operator.Cursor.
func (*keptCursor) Close() {}
