// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// either is the operator for "or": all of the left side, and of the right side what the left has no group for. Left
// rows in groups that the right side has, too, are held; all others are streamed.
type either struct {
	set

	// Valid after Open. Result i is the row pairs.many[i] of the left side and, where that has no cell, the row
	// pairs.one[i] of the right side, as far as it is not masked.
	pairs pairs
}

func newUnion(env *operator.Env, c Call) *either {
	return &either{set: newSet(env, c)}
}

// Open implements operator.Node.
func (e *either) Open(ctx context.Context) error {
	if err := e.open(ctx); err != nil {
		return err
	}
	names := union(e.left.Table().Names, e.right.Table().Names)
	k, err := e.match(2*keyBytes + 4*len(names))
	if err != nil {
		return err
	}
	e.groups = k.of[1]
	if err := e.holdLeft(ctx, k); err != nil {
		return err
	}
	if err := e.choose(ctx, k.of[0], names); err != nil {
		return err
	}
	return e.label(names)
}

// holdLeft reads the left rows of groups that both sides have, and notes where these have a cell.
func (e *either) holdLeft(ctx context.Context, k keys) error {
	nRight := k.sizes(1)
	wanted := make([]bool, k.n)
	var held []uint32
	for row, g := range k.of[0] {
		if nRight[g] > 0 {
			wanted[g] = true
			held = append(held, uint32(row))
		}
	}
	var err error
	if e.masks, err = newMasks(e.env.Account, e.Grid().N, wanted); err != nil {
		return err
	}
	if err := e.left.Hold(ctx, held); err != nil {
		return err
	}
	for _, row := range held {
		e.masks.mark(k.of[0][row], e.left.Held(row))
	}
	return nil
}

// choose says which rows the results are.
func (e *either) choose(ctx context.Context, groups []uint32, names []string) error {
	like := group(e.env, e.left.Table(), e.right.Table(), names)
	other := make([]uint32, like.n) // the right row with the same labels
	for i := range other {
		other[i] = none
	}
	instant := e.Grid().Instant()
	if !instant {
		for row, c := range like.of[1] {
			other[c] = uint32(row)
		}
	}
	for row := range uint32(e.left.Table().N) {
		if instant && e.left.Holds(row) && e.left.Kind(row, 0) == vector.Absent {
			continue
		}
		c := like.of[0][row]
		e.pairs.add(row, other[c])
		if other[c] != none {
			other[c] = none
		}
	}
	taken := make([]bool, e.right.Table().N)
	for _, r := range e.pairs.one {
		if r != none {
			taken[r] = true
		}
	}
	var unread []uint32
	for row := range uint32(e.right.Table().N) {
		switch {
		case taken[row]:
		case instant && e.masks.state(e.groups[row]) != empty && e.masks.group(e.groups[row])[0] != 0:
			unread = append(unread, row)
		default:
			e.pairs.add(none, row)
		}
	}
	if err := e.holdDiffering(ctx); err != nil || e.call.Narrow {
		return err
	}
	return e.right.Discard(ctx, unread)
}

// holdDiffering reads right rows that join with a left row of which the name is not dropped alike: which of them is
// first decides on the name.
func (e *either) holdDiffering(ctx context.Context) error {
	var rows []uint32
	for i, r := range e.pairs.one {
		if l := e.pairs.many[i]; l != none && r != none && e.left.Table().Dropped(l) != e.right.Table().Dropped(r) {
			rows = append(rows, r)
		}
	}
	return e.right.Hold(ctx, rows)
}

// label makes the table.
func (e *either) label(names []string) error {
	n := len(e.pairs.many)
	t := &vector.Table{N: n, Names: names, Dict: e.left.Table().Dict}
	for _, name := range names {
		l, r := e.left.Table().Column(name), e.right.Table().Column(name)
		col := make([]uint32, n)
		for i, row := range e.pairs.many {
			if row != none {
				col[i] = symbol(l, row)
			} else {
				col[i] = symbol(r, e.pairs.one[i])
			}
		}
		t.Cols = append(t.Cols, col)
	}
	if e.left.Table().Drop != nil || e.right.Table().Drop != nil {
		t.Drop = make([]bool, n)
		for i := range t.Drop {
			t.Drop[i] = e.drops(e.pairs.many[i], e.pairs.one[i])
		}
	}
	e.table = t
	return nil
}

// drops tells whether the name of a result is dropped: its first cell decides.
func (e *either) drops(l, r uint32) bool {
	switch {
	case l == none:
		return e.right.Table().Dropped(r)
	case r == none || !e.right.Holds(r):
		return e.left.Table().Dropped(l)
	}
	mask := e.masks.group(e.groups[r])
	for i := range e.Grid().N {
		if e.left.Kind(l, i) != vector.Absent {
			return e.left.Table().Dropped(l)
		}
		if mask[i] == 0 && e.right.Kind(r, i) != vector.Absent {
			return e.right.Table().Dropped(r)
		}
	}
	return e.left.Table().Dropped(l)
}

// Cursor implements operator.Node.
func (e *either) Cursor(ids []uint32) operator.Cursor {
	ids = operand.All(ids, e.table.N)
	var left, right []uint32
	for _, id := range ids {
		if l := e.pairs.many[id]; l != none && !e.left.Holds(l) {
			left = append(left, l)
		}
		if r := e.pairs.one[id]; r != none && !e.right.Holds(r) {
			right = append(right, r)
		}
	}
	return &eitherCursor{either: e, ids: ids, left: e.left.Reader(left), right: e.right.Reader(right)}
}

type eitherCursor struct {
	*either
	ids         operand.Results
	left, right *operand.Reader
}

// Close implements operator.Cursor.
func (c *eitherCursor) Close() {
	c.left.Close()
	c.right.Close()
}

// Next implements operator.Cursor.
func (c *eitherCursor) Next(ctx context.Context, to *vector.Batch) (bool, error) {
	return c.ids.Fill(c.env, to, c.Grid().N, func(int) error { return c.add(ctx, to, c.ids.Pop()) })
}

// add adds one result, or none where it has no cell.
func (c *eitherCursor) add(ctx context.Context, to *vector.Batch, id uint32) error {
	l, r := c.pairs.many[id], c.pairs.one[id]
	at := -1
	if l != none {
		row, ok, err := c.left.Row(ctx, l)
		if err != nil {
			return err
		}
		if ok {
			if at, err = operand.AddCopy(to, id, row); err != nil {
				return err
			}
		}
	}
	if r == none {
		return nil
	}
	row, ok, err := c.right.Row(ctx, r)
	if err != nil || !ok {
		return err
	}
	switch {
	case c.masks.state(c.groups[r]) == full:
		return nil
	case at >= 0:
		return overlay(to, at, row, c.masks.group(c.groups[r]))
	}
	if at, err = operand.AddCopy(to, id, row); err != nil {
		return err
	}
	c.masks.hide(c.groups[r], operand.Row{Batch: to, At: at})
	return nil
}

// overlay puts the cells of a row in row i of to, where the mask is not set.
func overlay(to *vector.Batch, i int, from operand.Row, mask []vector.Kind) error {
	if from.HasHistograms() {
		if err := to.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := to.Row(i)
	fv, fk, fh := from.Row(from.At)
	for s, x := range fk {
		if mask[s] != 0 || x == vector.Absent {
			continue
		}
		v[s], k[s] = fv[s], x
		if x == vector.Histogram {
			h[s] = fh[s]
		}
	}
	to.Measure(i)
	return nil
}
