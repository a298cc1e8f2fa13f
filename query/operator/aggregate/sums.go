// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// sums is the state of sum and avg: compensated sums, and histograms once there are any.
type sums struct {
	*state
	cells []compensated
	// count, of an average, is how many floats a cell has beside those of full rows.
	count []uint32
	// mean is set once the sum of a cell has overflowed: its mean, which then goes on from value to value. The sum
	// of the cell is NaN from then on, which keeps it off the fast path.
	mean  []float64
	means []bool
	hist  *histograms
}

// compensated is a sum and what rounding took from it.
type compensated struct{ sum, c float64 }

// The sum of nothing is -0: adding any value gives that value, -0 too.
func emptySums(cells []compensated) {
	for i := range cells {
		cells[i] = compensated{sum: math.Copysign(0, -1)}
	}
}

func newSums(s *state, groups int, average bool) (*sums, error) {
	a := &sums{state: s}
	var err error
	if a.cells, err = retain.Make[compensated](s.held, groups*s.steps); err != nil {
		return nil, err
	}
	emptySums(a.cells)
	if average {
		if a.count, err = retain.Make[uint32](s.held, groups*s.steps); err != nil {
			return nil, err
		}
	}
	a.hist = &histograms{state: s, average: average}
	return a, nil
}

func (a *sums) reset(int) error {
	a.clear()
	emptySums(a.cells)
	clear(a.count)
	clear(a.means)
	a.hist.reset()
	return nil
}

func (a *sums) row(g uint32, r row) error {
	at := int(g) * a.steps
	if r.shape == vector.Full && !a.spoilt {
		a.add(g, at, r.v)
		a.full[g]++
		return nil
	}
	for i := 0; i < len(r.k); {
		if r.k[i] == vector.Float && !a.spoilt {
			end := runOfFloats(r.k, i)
			a.add(g, at+i, r.v[i:end])
			a.note(at+i, at+end)
			i = end
			continue
		}
		if err := a.cell(g, at+i, i, r); err != nil {
			return err
		}
		i++
	}
	return nil
}

// runOfFloats returns where the floats from i on end.
func runOfFloats(kinds []vector.Kind, i int) int {
	for i < len(kinds) && kinds[i] == vector.Float {
		i++
	}
	return i
}

// note marks the cells that a float was added to.
func (a *sums) note(from, to int) {
	marks := a.mark[from:to]
	for i := range marks {
		marks[i] |= has
	}
	if a.count == nil {
		return
	}
	count := a.count[from:to]
	for i := range count {
		count[i]++
	}
}

// cell adds a cell of a row that is no float, or that may be broken.
func (a *sums) cell(g uint32, cell, i int, r row) error {
	if r.k[i] == vector.Absent || a.mark[cell]&broken != 0 {
		return nil
	}
	if r.k[i] == vector.Float {
		a.add(g, cell, r.v[i:i+1])
		a.note(cell, cell+1)
		return nil
	}
	a.mixed = true
	err := a.hist.add(cell, r.h[i], r.id, a.seen(g, cell))
	a.mark[cell] |= hasHist
	return err
}

// add adds values to the cells from at on. The rounding error of an addition is exact in either of its two forms; the
// one here has no branch that depends on the values, and does not serve where something is not finite.
func (a *sums) add(g uint32, at int, vs []float64) {
	cells := a.cells[at : at+len(vs)]
	for i, v := range vs {
		x := &cells[i]
		sum := x.sum + v
		part := sum - x.sum
		c := x.c + ((x.sum - (sum - part)) + (v - part))
		if c-c != 0 {
			a.hard(g, at+i, v)
			continue
		}
		x.sum, x.c = sum, c
	}
}

// hard adds a value where a sum, or a value, is not finite.
func (a *sums) hard(g uint32, cell int, v float64) {
	x := &a.cells[cell]
	if a.count == nil {
		x.sum, x.c = kahansum.Inc(v, x.sum, x.c)
		return
	}
	before := float64(a.full[g] + a.count[cell])
	if before == 0 {
		*x = compensated{sum: v}
		return
	}
	if a.means == nil || !a.means[cell] {
		sum, c := kahansum.Inc(v, x.sum, x.c)
		if !math.IsInf(sum, 0) {
			x.sum, x.c = sum, c
			return
		}
		if a.means == nil && !a.useMeans() {
			return
		}
		a.means[cell], a.mean[cell] = true, x.sum/before
		x.sum, x.c = math.NaN(), x.c/before
	}
	n := before + 1
	q := (n - 1) / n
	a.mean[cell], x.c = kahansum.Inc(v/n, float64(q*a.mean[cell]), float64(q*x.c))
}

func (a *sums) useMeans() bool {
	if a.mean, a.err = retain.Make[float64](a.held, len(a.cells)); a.err != nil {
		return false
	}
	a.means, a.err = retain.Make[bool](a.held, len(a.cells))
	return a.err == nil
}

func (a *sums) flat(gs []uint32, vs []float64) {
	switch {
	case a.count != nil:
		for i, g := range gs {
			a.add(g, int(g), vs[i:i+1])
			a.count[g]++
		}
	case len(a.cells) == 1:
		a.single(vs)
	default:
		cells := a.cells
		for i, g := range gs {
			v, x := vs[i], &cells[g]
			sum := x.sum + v
			part := sum - x.sum
			c := x.c + ((x.sum - (sum - part)) + (v - part))
			if c-c != 0 {
				a.hard(g, int(g), v)
				continue
			}
			x.sum, x.c = sum, c
		}
	}
}

// single adds values to the only cell there is.
func (a *sums) single(vs []float64) {
	x := a.cells[0]
	for _, v := range vs {
		sum := x.sum + v
		part := sum - x.sum
		c := x.c + ((x.sum - (sum - part)) + (v - part))
		if c-c != 0 {
			sum, c = kahansum.Inc(v, x.sum, x.c)
		}
		x.sum, x.c = sum, c
	}
	a.cells[0] = x
}

func (a *sums) finish(g uint32, to out) {
	at := int(g) * a.steps
	for i := range to.v {
		cell := at + i
		float := a.seen(g, cell)
		if a.mark[cell]&(hasHist|broken) != 0 {
			a.hist.finish(cell, i, float, to)
			continue
		}
		if float {
			to.v[i], to.k[i] = a.value(g, cell), vector.Float
		}
	}
}

func (a *sums) value(g uint32, cell int) float64 {
	x := a.cells[cell]
	if a.count == nil {
		return x.sum + x.c
	}
	if a.means != nil && a.means[cell] {
		return a.mean[cell] + x.c
	}
	n := float64(a.full[g] + a.count[cell])
	return x.sum/n + x.c/n
}
