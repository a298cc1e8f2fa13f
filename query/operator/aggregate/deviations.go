// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// deviations is the state of stdvar and stddev: Welford's method, in Prometheus' order of operations.
type deviations struct {
	*state
	op    parser.ItemType
	cells []moments
	count []uint32 // beside the full rows
}

type moments struct{ mean, squares float64 }

func newDeviations(s *state, groups int, op parser.ItemType) (*deviations, error) {
	a := &deviations{state: s, op: op}
	var err error
	if a.cells, err = retain.Make[moments](s.held, groups*s.steps); err != nil {
		return nil, err
	}
	a.count, err = retain.Make[uint32](s.held, groups*s.steps)
	return a, err
}

func (a *deviations) reset(int) error {
	a.clear()
	clear(a.cells)
	clear(a.count)
	return nil
}

// add takes in the n-th value of a cell. The first leaves 0, or NaN if it is not finite.
func (m *moments) add(v, n float64) {
	d := v - m.mean
	m.mean += d / n
	m.squares += float64(d * (v - m.mean))
}

func (a *deviations) row(g uint32, r row) error {
	at := int(g) * a.steps
	cells, count := a.cells[at:at+len(r.v)], a.count[at:at+len(r.v)]
	if r.shape == vector.Full {
		a.full[g]++
		for i, v := range r.v {
			cells[i].add(v, float64(a.full[g]+count[i]))
		}
		return nil
	}
	for i, kind := range r.k {
		switch kind {
		case vector.Float:
			count[i]++
			cells[i].add(r.v[i], float64(a.full[g]+count[i]))
			a.mark[at+i] |= has
		case vector.Histogram:
			ignored(a.notes, SlotInput, a.op.String())
		case vector.Absent:
		}
	}
	return nil
}

func (a *deviations) flat(gs []uint32, vs []float64) {
	for i, g := range gs {
		a.count[g]++
		a.cells[g].add(vs[i], float64(a.full[g]+a.count[g]))
	}
}

func (a *deviations) finish(g uint32, to out) {
	at := int(g) * a.steps
	for i := range to.v {
		v := a.cells[at+i].squares / float64(a.full[g]+a.count[at+i])
		if a.op == parser.STDDEV {
			v = math.Sqrt(v)
		}
		to.v[i] = v
	}
	a.present(g, to)
}
