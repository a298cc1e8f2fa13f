// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// bounds are the values of le of the rows of a table, each parsed once.
type bounds struct {
	memory *retain.Memory
	column []uint32 // of the table; nil: no row has one
	dict   *vector.Dict
	by     map[uint32]bound
}

// boundBytes is about what an entry of the map takes.
const boundBytes = 64

type bound struct {
	upper float64
	ok    bool // it is a number
}

func newBounds(m *retain.Memory, t *vector.Table) *bounds {
	return &bounds{memory: m, column: t.Column(labels.BucketLabel), dict: t.Dict, by: map[uint32]bound{}}
}

// parse returns the bound that a symbol means.
func (b *bounds) parse(sym uint32) (bound, error) {
	x, ok := b.by[sym]
	if !ok {
		if err := b.memory.Charge(boundBytes); err != nil {
			return x, err
		}
		upper, err := strconv.ParseFloat(b.dict.Text(sym), 64)
		x = bound{upper, err == nil}
		b.by[sym] = x
	}
	return x, nil
}

// upper returns the number that a symbol means, which was parsed before.
func (b *bounds) upper(sym uint32) float64 { return b.by[sym].upper }

// symbol returns the symbol of the le of a row, 0 if it has none.
func (b *bounds) symbol(row uint32) uint32 {
	if b.column == nil {
		return 0
	}
	return b.column[row]
}

// shape is the bounds of a family in ascending order.
type shape struct {
	les    []uint32 // symbols in the order of the rows
	order  []int    // rows in the order of the bounds
	uppers []float64
	// odd: bounds are equal or NaN. Their order is that of Prometheus' sorting.
	odd bool
}

// expects tells whether le is what the n-th row of a family with this shape has.
func (s *shape) expects(le uint32, n int) bool { return n < len(s.les) && s.les[n] == le }

// update makes s the shape of les, unless it is that already.
func (s *shape) update(env *operator.Env, les []uint32, b *bounds) {
	if slices.Equal(s.les, les) && len(les) > 0 {
		return
	}
	s.les = append(s.les[:0], les...)
	s.order, s.uppers = s.order[:0], s.uppers[:0]
	for i := range les {
		s.order = append(s.order, i)
	}
	slices.SortStableFunc(s.order, operator.Until(env, func(i, j int) int {
		x, y := b.upper(les[i]), b.upper(les[j])
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}))
	s.odd = false
	for i, r := range s.order {
		u := b.upper(les[r])
		s.odd = s.odd || math.IsNaN(u) || i > 0 && u == s.uppers[i-1]
		s.uppers = append(s.uppers, u)
	}
}
