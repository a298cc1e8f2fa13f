// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Cursor implements operator.Node.
func (b *pairwise) Cursor(ids []uint32) operator.Cursor {
	ids = operand.All(ids, b.table.N)
	many, one := b.streamed(ids)
	return &cursor{pairwise: b, ids: ids, many: b.many.Reader(many), one: b.one.Reader(one)}
}

// streamed returns the rows of both sides that have to be read for results.
func (b *pairwise) streamed(ids []uint32) (many, one []uint32) {
	plain := b.slot == nil && !b.many.HoldsAny() && !b.one.HoldsAny() && !b.fills()
	if plain && identity(ids, b.table.N) {
		return b.pairs.many, b.pairs.one
	}
	many, one = make([]uint32, 0, len(ids)), make([]uint32, 0, len(ids))
	for _, id := range ids {
		if b.slot != nil && b.slot[id] != 0 {
			continue
		}
		if m := b.pairs.many[id]; m != none && !b.many.Holds(m) {
			many = append(many, m)
		}
		if o := b.pairs.one[id]; o != none && !b.one.Holds(o) {
			one = append(one, o)
		}
	}
	return many, one
}

// cursor moves over both operands in the order of the results.
type cursor struct {
	*pairwise
	ids       operand.Results
	many, one *operand.Reader
	filled    [2]vector.Batch // rows of both sides with values filled in
}

// Close implements operator.Cursor.
func (c *cursor) Close() {
	c.many.Close()
	c.one.Close()
	for i := range c.filled {
		c.filled[i].Free()
	}
}

// Next implements operator.Cursor.
func (c *cursor) Next(ctx context.Context, to *vector.Batch) (bool, error) {
	return c.ids.Fill(c.env, to, c.Grid().N, func(limit int) error {
		n, many, one, err := c.run(ctx, limit)
		switch {
		case err != nil:
			return err
		case n == 0:
			return c.single(ctx, to)
		}
		at := to.Rows()
		if err := c.add(to, n); err != nil {
			return err
		}
		c.floats(to, at, n, many, one)
		c.many.Skip(n)
		c.one.Skip(n)
		return nil
	})
}

// run returns for how many of the next results, at most limit, the rows of both sides lie one behind the other, with
// no histogram among them. They are computed at once.
func (c *cursor) run(ctx context.Context, limit int) (int, operand.Row, operand.Row, error) {
	var many, one operand.Row
	if !c.many.Streams() || !c.one.Streams() || c.fills() || c.arith == nil && c.compare == nil {
		return 0, many, one, nil
	}
	many, err := c.many.Ahead(ctx)
	if err != nil {
		return 0, many, one, err
	}
	one, err = c.one.Ahead(ctx)
	if err != nil || len(many.H) > 0 || len(one.H) > 0 {
		return 0, many, one, err
	}
	m, o := many.IDs[many.At:], one.IDs[one.At:]
	limit = min(limit, len(c.ids), len(m), len(o))
	for i, id := range c.ids[:limit] {
		if c.slot != nil && c.slot[id] != 0 || c.pairs.many[id] != m[i] || c.pairs.one[id] != o[i] {
			return i, many, one, nil
		}
	}
	return limit, many, one, nil
}

// add adds rows for the next n results.
func (c *cursor) add(to *vector.Batch, n int) error {
	if len(to.H) > 0 || n == 1 {
		for _, id := range c.ids[:n] {
			if _, err := to.Add(id); err != nil {
				return err
			}
		}
		c.ids = c.ids[n:]
		return nil
	}
	// There is room, and every cell and shape will be set.
	rows, cells := len(to.IDs)+n, len(to.V)+n*to.Steps
	to.IDs, to.Shape = append(to.IDs, c.ids[:n]...), to.Shape[:rows]
	to.V, to.K = to.V[:cells], to.K[:cells]
	c.ids = c.ids[n:]
	return nil
}

// floats computes n rows without histograms.
func (c *cursor) floats(to *vector.Batch, at, n int, many, one operand.Row) {
	if c.swap {
		many, one = one, many
	}
	steps := to.Steps
	l, r := many.At*steps, one.At*steps
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
	id := c.ids.Pop()
	if c.slot != nil && c.slot[id] != 0 {
		_, err := operand.AddCopy(to, id, operand.Row{Batch: &c.done, At: int(c.slot[id] - 1)})
		return err
	}
	in, ok, err := c.read(ctx, c.pairs.many[id], c.pairs.one[id])
	if err != nil || !ok {
		return err
	}
	i, err := to.Add(id)
	if err != nil {
		return err
	}
	if c.arith == nil && c.compare == nil || in.many.HasHistograms() || in.one.HasHistograms() {
		return c.cells(to, i, in)
	}
	c.floats(to, i, 1, in.many, in.one)
	return nil
}

// operands are the rows of a pair.
type operands struct {
	many, one operand.Row
	// alone is where the one side had a cell before values were filled in, if a value stands in for the many side.
	alone []vector.Kind
}

// read returns the rows of a pair; false if there is no result.
func (c *cursor) read(ctx context.Context, m, o uint32) (in operands, ok bool, err error) {
	there, here := false, false
	if m != none {
		if in.many, there, err = c.many.Row(ctx, m); err != nil {
			return in, false, err
		}
	}
	if o != none {
		if in.one, here, err = c.one.Row(ctx, o); err != nil {
			return in, false, err
		}
	}
	switch {
	case !c.fills():
		return in, there && here, nil
	case !there && !here:
		return in, false, nil
	}
	fill := c.call.Matching.FillValues
	var filled operands
	if here && fill.LHS != nil {
		filled.alone = in.one.Kinds()
	}
	if filled.many, err = c.fillIn(0, in.many, in.one, fill.LHS); err != nil {
		return in, false, err
	}
	filled.one, err = c.fillIn(1, in.one, in.many, fill.RHS)
	return filled, true, err
}

// fillIn returns a row with a value, if there is one, where only the other row has a cell. A row without a batch has
// no cell.
func (c *cursor) fillIn(side int, row, other operand.Row, value *float64) (operand.Row, error) {
	to := operand.Row{Batch: &c.filled[side]}
	to.Budget = c.env.Account
	to.Reset(c.Grid().N)
	if _, err := to.Add(0); err != nil {
		return to, err
	}
	if row.Batch != nil {
		if err := operand.CopyRow(to.Batch, 0, row.Batch, row.At); err != nil {
			return to, err
		}
	}
	if value == nil || other.Batch == nil {
		return to, nil
	}
	k := other.Kinds()
	for i, x := range to.K {
		if x == vector.Absent && k[i] != vector.Absent {
			to.V[i], to.K[i] = *value, vector.Float
		}
	}
	to.Measure(0)
	return to, nil
}

// cells computes a row one cell after the other.
func (c *cursor) cells(to *vector.Batch, i int, in operands) error {
	many, one := in.many, in.one
	order, o := c.pairs.many[to.IDs[i]], c.pairs.one[to.IDs[i]]
	alone := uint32(c.pairwise.many.Table().N) + o // the order of the one side without a match
	if order == none {
		order = alone
	}
	if c.swap {
		many, one = one, many
	}
	for s := range to.Steps {
		l, r := cellOf(many, s), cellOf(one, s)
		if l.kind == vector.Absent || r.kind == vector.Absent {
			continue
		}
		v, h, keep, f := c.operation.compute(l, r)
		c.faults.set(to.Steps, s, order, f)
		if f.fails() && in.alone != nil && in.alone[s] != vector.Absent {
			// A pair that fails does not count as matched, so that the one side is filled up.
			fill := cell{kind: vector.Float, v: *c.call.Matching.FillValues.LHS}
			v, h, keep, f = c.operation.compute(fill, r)
			c.faults.set(to.Steps, s, alone, f)
		}
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

// cellOf returns the cell of step s of a row.
func cellOf(r operand.Row, s int) cell {
	at := r.At*r.Steps + s
	x := cell{kind: r.K[at], v: r.V[at]}
	if x.kind == vector.Histogram {
		x.h = r.H[at]
	}
	return x
}

// heldCell returns the cell of step s of a row that is held.
func heldCell(o *operand.Operand, id uint32, s int) cell { return cellOf(o.Held(id), s) }
