// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Cursor implements operator.Node.
func (b *pairwise) Cursor(ids []uint32) operator.Cursor {
	if ids == nil {
		ids = make([]uint32, b.table.N)
		for i := range ids {
			ids[i] = uint32(i)
		}
	}
	many, one := make([]uint32, 0, len(ids)), make([]uint32, 0, len(ids))
	for _, id := range ids {
		if b.slot != nil && b.slot[id] != 0 {
			continue
		}
		if m := b.pairs.many[id]; !b.many.holds(m) {
			many = append(many, m)
		}
		if o := b.pairs.one[id]; !b.one.holds(o) {
			one = append(one, o)
		}
	}
	return &cursor{pairwise: b, ids: ids, many: b.many.reader(many), one: b.one.reader(one)}
}

// cursor moves over both operands in the order of the results.
type cursor struct {
	*pairwise
	ids       []uint32
	many, one reader
}

// Close implements operator.Cursor.
func (c *cursor) Close() {
	c.many.close()
	c.one.close()
}

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
		n, err := c.run(ctx, limit-to.Rows())
		if err != nil {
			return false, err
		}
		if n > 0 {
			err = c.stretch(to, n)
		} else {
			err = c.single(ctx, to)
		}
		if err != nil {
			return false, err
		}
	}
	return to.Rows() > 0, nil
}

// run returns for how many of the next results the rows of both sides lie one behind the other, at most limit, with
// no histogram among them.
func (c *cursor) run(ctx context.Context, limit int) (int, error) {
	if c.many.end || c.one.end || c.arith == nil && c.compare == nil {
		return 0, nil
	}
	if err := c.many.fill(ctx); err != nil {
		return 0, err
	}
	if err := c.one.fill(ctx); err != nil {
		return 0, err
	}
	if len(c.many.b.H) > 0 || len(c.one.b.H) > 0 {
		return 0, nil
	}
	m, o := c.many.b.IDs[c.many.at:], c.one.b.IDs[c.one.at:]
	limit = min(limit, len(c.ids), len(m), len(o))
	for i, id := range c.ids[:limit] {
		if c.slot != nil && c.slot[id] != 0 || c.pairs.many[id] != m[i] || c.pairs.one[id] != o[i] {
			return i, nil
		}
	}
	return limit, nil
}

// stretch computes n results at once.
func (c *cursor) stretch(to *vector.Batch, n int) error {
	at := to.Rows()
	for _, id := range c.ids[:n] {
		if _, err := to.Add(id); err != nil {
			return err
		}
	}
	c.floats(to, at, n, rowsOf{&c.many.b, c.many.at}, rowsOf{&c.one.b, c.one.at})
	c.ids, c.many.at, c.one.at = c.ids[n:], c.many.at+n, c.one.at+n
	return nil
}

// rowsOf is some rows of a batch, from one on.
type rowsOf struct {
	*vector.Batch
	at int
}

// floats computes n rows without histograms.
func (c *cursor) floats(to *vector.Batch, at, n int, many, one rowsOf) {
	if c.swap {
		many, one = one, many
	}
	steps := to.Steps
	l, r := many.at*steps, one.at*steps
	cells := n * steps
	v, k := to.V[at*steps:][:cells], to.K[at*steps:][:cells]
	lv, lk := many.V[l:][:cells], many.K[l:][:cells]
	rv, rk := one.V[r:][:cells], one.K[r:][:cells]
	switch {
	case c.arith != nil:
		c.arith(v, lv, rv)
		both(k, lk, rk)
	case c.truth:
		c.compare(k, lv, rv)
		for i := range v {
			v[i] = float64(k[i])
		}
		both(k, lk, rk)
	default:
		c.compare(k, lv, rv)
		masked(k, lk, rk)
		copy(v, lv)
	}
	for i := range n {
		to.Shape[at+i] = shapeOf(k[i*steps : (i+1)*steps])
	}
}

// single computes the next result alone, or skips it where a side has no cell.
func (c *cursor) single(ctx context.Context, to *vector.Batch) error {
	id := c.ids[0]
	c.ids = c.ids[1:]
	if c.slot != nil && c.slot[id] != 0 {
		i, err := to.Add(id)
		if err != nil {
			return err
		}
		return copyRow(to, i, &c.done, int(c.slot[id]-1))
	}
	many, mi, err := c.many.row(ctx, c.pairs.many[id])
	if err != nil {
		return err
	}
	one, oi, err := c.one.row(ctx, c.pairs.one[id])
	if err != nil || many == nil || one == nil {
		return err
	}
	i, err := to.Add(id)
	if err != nil {
		return err
	}
	if c.arith == nil && c.compare == nil || (many.Shape[mi]|one.Shape[oi])&vector.HasHistograms != 0 {
		return c.cells(to, i, rowsOf{many, mi}, rowsOf{one, oi})
	}
	c.floats(to, i, 1, rowsOf{many, mi}, rowsOf{one, oi})
	return nil
}

// cells computes a row one cell after the other.
func (c *cursor) cells(to *vector.Batch, i int, many, one rowsOf) error {
	order := c.pairs.many[to.IDs[i]]
	if c.swap {
		many, one = one, many
	}
	for s := range to.Steps {
		l, r := many.cell(s), one.cell(s)
		if l.kind == vector.Absent || r.kind == vector.Absent {
			continue
		}
		v, h, keep, f := c.operation.compute(l, r)
		c.faults.set(to.Steps, s, order, f)
		if !keep {
			continue
		}
		at := i*to.Steps + s
		to.V[at], to.K[at] = v, vector.Float
		if h != nil {
			if err := to.UseHistograms(); err != nil {
				return err
			}
			to.K[at], to.H[at] = vector.Histogram, h
		}
	}
	to.Measure(i)
	return nil
}

// cell returns the cell of step s of the row.
func (r rowsOf) cell(s int) cell {
	at := r.at*r.Steps + s
	x := cell{kind: r.K[at], v: r.V[at]}
	if x.kind == vector.Histogram {
		x.h = r.H[at]
	}
	return x
}
