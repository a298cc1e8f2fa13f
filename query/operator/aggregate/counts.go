// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// existence is the state of group: the marks of cells are all it needs.
type existence struct{ *state }

func (a *existence) reset(int) error {
	a.clear()
	return nil
}

func (a *existence) row(g uint32, r row) error {
	if r.shape&vector.HasGaps == 0 {
		a.full[g]++
		return nil
	}
	at := int(g) * a.steps
	for i, kind := range r.k {
		if kind != vector.Absent {
			a.mark[at+i] |= has
		}
	}
	return nil
}

func (*existence) flat([]uint32, []float64) {}

func (a *existence) finish(g uint32, to out) {
	fill(to.v, 1)
	a.present(g, to)
}

// counts is the state of count. A row without gaps is one number more for all cells of its group.
type counts struct {
	*state
	cells []uint32
}

func newCounts(s *state, groups int) (*counts, error) {
	cells, err := retain.Make[uint32](s.held, groups*s.steps)
	return &counts{state: s, cells: cells}, err
}

func (a *counts) reset(int) error {
	a.clear()
	clear(a.cells)
	return nil
}

func (a *counts) row(g uint32, r row) error {
	if r.shape&vector.HasGaps == 0 {
		a.full[g]++
		return nil
	}
	at := int(g) * a.steps
	cells := a.cells[at : at+len(r.k)]
	marks := a.mark[at : at+len(r.k)]
	for i, kind := range r.k {
		if kind != vector.Absent {
			cells[i]++
			marks[i] |= has
		}
	}
	return nil
}

func (a *counts) flat(gs []uint32, _ []float64) {
	for _, g := range gs {
		a.cells[g]++
	}
}

func (a *counts) finish(g uint32, to out) {
	at := int(g) * a.steps
	for i := range to.v {
		to.v[i] = float64(a.full[g] + a.cells[at+i])
	}
	a.present(g, to)
}
