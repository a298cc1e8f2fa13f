// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// greatest is the state of max. A cell without a value is NaN, which any value replaces.
type greatest struct {
	*state
	cells []float64
}

func newGreatest(s *state, groups int) (*greatest, error) {
	cells, err := notNumbers(s, groups)
	return &greatest{state: s, cells: cells}, err
}

func notNumbers(s *state, groups int) ([]float64, error) {
	cells, err := retain.Make[float64](s.held, groups*s.steps)
	fill(cells, math.NaN())
	return cells, err
}

func fill(to []float64, v float64) {
	for i := range to {
		to[i] = v
	}
}

func (a *greatest) reset(int) error {
	a.clear()
	fill(a.cells, math.NaN())
	return nil
}

func (a *greatest) row(g uint32, r row) error {
	at := int(g) * a.steps
	cells := a.cells[at : at+len(r.v)]
	if r.shape == vector.Full {
		a.full[g]++
		for i, v := range r.v {
			if m := cells[i]; m < v || m != m {
				cells[i] = v
			}
		}
		return nil
	}
	for i, kind := range r.k {
		switch kind {
		case vector.Float:
			if m := cells[i]; m < r.v[i] || m != m {
				cells[i] = r.v[i]
			}
			a.mark[at+i] |= has
		case vector.Histogram:
			ignored(a.notes, SlotInput, "max")
		case vector.Absent:
		}
	}
	return nil
}

func (a *greatest) flat(gs []uint32, vs []float64) {
	for i, g := range gs {
		if m := a.cells[g]; m < vs[i] || m != m {
			a.cells[g] = vs[i]
		}
	}
}

func (a *greatest) finish(g uint32, to out) { a.copyOut(g, a.cells, to) }

// copyOut writes the cells of a group that have a value.
func (s *state) copyOut(g uint32, cells []float64, to out) {
	at := int(g) * s.steps
	copy(to.v, cells[at:at+s.steps])
	s.present(g, to)
}

// present marks the cells of the result that have a value.
func (s *state) present(g uint32, to out) {
	at := int(g) * s.steps
	for i := range to.k {
		if s.seen(g, at+i) {
			to.k[i] = vector.Float
		}
	}
}

// least is the state of min; see greatest.
type least struct {
	*state
	cells []float64
}

func newLeast(s *state, groups int) (*least, error) {
	cells, err := notNumbers(s, groups)
	return &least{state: s, cells: cells}, err
}

func (a *least) reset(int) error {
	a.clear()
	fill(a.cells, math.NaN())
	return nil
}

func (a *least) row(g uint32, r row) error {
	at := int(g) * a.steps
	cells := a.cells[at : at+len(r.v)]
	if r.shape == vector.Full {
		a.full[g]++
		for i, v := range r.v {
			if m := cells[i]; m > v || m != m {
				cells[i] = v
			}
		}
		return nil
	}
	for i, kind := range r.k {
		switch kind {
		case vector.Float:
			if m := cells[i]; m > r.v[i] || m != m {
				cells[i] = r.v[i]
			}
			a.mark[at+i] |= has
		case vector.Histogram:
			ignored(a.notes, SlotInput, "min")
		case vector.Absent:
		}
	}
	return nil
}

func (a *least) flat(gs []uint32, vs []float64) {
	for i, g := range gs {
		if m := a.cells[g]; m > vs[i] || m != m {
			a.cells[g] = vs[i]
		}
	}
}

func (a *least) finish(g uint32, to out) { a.copyOut(g, a.cells, to) }
