// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// keepRows drops the rows of b from start on whose time is not to be kept.
func keepRows(b *column.Block, start int, keep func(t int64) bool) {
	k := start
	for i := start; i < len(b.T); i++ {
		if keep(b.T[i]) {
			moveRow(b, k, i)
			k++
		}
	}
	b.Truncate(k)
}

// moveRow puts a copy of row from in the place of row to.
func moveRow(b *column.Block, to, from int) {
	b.T[to], b.V[to] = b.T[from], b.V[from]
	if len(b.ST) > 0 {
		b.ST[to] = b.ST[from]
	}
	if len(b.Kind) > 0 {
		b.Kind[to], b.H.Int[to], b.H.Float[to] = b.Kind[from], b.H.Int[from], b.H.Float[from]
	}
}

// mergeLate brings late rows, which ascend in time and are not empty, among the rows of b from start on. Of two
// rows at one time the one that was there first stays: it can only be that both hold the same value.
func mergeLate(b *column.Block, start int, late []lateRow, tombs []tomb) error {
	if err := b.Reserve(len(late)); err != nil {
		return err
	}
	inOrder := len(b.T)
	for i := range late {
		if x := &late[i]; deletedBy(tombs, x.t) < x.lsn {
			if err := appendLate(b, x); err != nil {
				return err
			}
		}
	}
	if inOrder == start || len(b.T) == inOrder || b.T[inOrder] > b.T[inOrder-1] {
		return nil
	}
	order := make([]int, 0, len(b.T)-start)
	i, k := start, inOrder
	for i < inOrder || k < len(b.T) {
		switch {
		case k == len(b.T) || i < inOrder && b.T[i] < b.T[k]:
			order = append(order, i)
			i++
		case i == inOrder || b.T[k] < b.T[i]:
			order = append(order, k)
			k++
		default:
			k++
		}
	}
	permute(b.T, start, order)
	permute(b.V, start, order)
	if len(b.ST) > 0 {
		permute(b.ST, start, order)
	}
	if len(b.Kind) > 0 {
		permute(b.Kind, start, order)
		permute(b.H.Int, start, order)
		permute(b.H.Float, start, order)
	}
	b.Truncate(start + len(order))
	return nil
}

func appendLate(b *column.Block, x *lateRow) error {
	if x.kind == sample.Float {
		b.AppendFloat(x.t, x.st, math.Float64frombits(x.v))
		return nil
	}
	if err := b.Charge(histBytes(x.hist.h, x.hist.fh)); err != nil {
		return err
	}
	c := copyHist(x.hist.h, x.hist.fh)
	b.AppendHistogram(x.t, x.st, c.h, c.fh)
	return nil
}

// permute brings the entries of s that order names to start, start+1, ….
func permute[T any](s []T, start int, order []int) {
	was := slices.Clone(s[start:])
	for i, from := range order {
		s[start+i] = was[from-start]
	}
}
