// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// quantiles is the state of quantile: all values of all cells, those of a cell side by side.
type quantiles struct {
	*state
	q      []float64 // per step
	values []float64
	begin  []int    // of the values of a group: steps x size of them
	size   []uint32 // rows of a group
	count  []uint32 // values of a cell
}

func newQuantiles(s *state, sizes []uint32, q []float64) (*quantiles, error) {
	a := &quantiles{state: s, q: q, size: sizes}
	var err error
	if a.begin, err = retain.Make[int](s.held, len(sizes)); err != nil {
		return nil, err
	}
	total := 0
	for g, n := range sizes {
		a.begin[g] = total
		total += int(n) * s.steps
	}
	if a.count, err = retain.Make[uint32](s.held, len(sizes)*s.steps); err != nil {
		return nil, err
	}
	a.values, err = retain.Make[float64](s.held, total)
	return a, err
}

func (a *quantiles) reset(rows int) error {
	a.clear()
	clear(a.count)
	a.size[0] = uint32(rows)
	if n := rows * a.steps; n > len(a.values) {
		retain.Drop(a.held, a.values)
		a.values = nil
		var err error
		a.values, err = retain.Make[float64](a.held, n)
		return err
	}
	return nil
}

func (a *quantiles) row(g uint32, r row) error {
	at, size, values := int(g)*a.steps, int(a.size[g]), a.values[a.begin[g]:]
	count := a.count[at : at+len(r.v)]
	if r.shape == vector.Full {
		a.full[g]++
		for i, v := range r.v {
			values[i*size+int(count[i])] = v
			count[i]++
		}
		return nil
	}
	for i, kind := range r.k {
		switch kind {
		case vector.Float:
			values[i*size+int(count[i])] = r.v[i]
			count[i]++
			a.mark[at+i] |= has
		case vector.Histogram:
			ignored(a.notes, SlotInput, "quantile")
		case vector.Absent:
		}
	}
	return nil
}

func (a *quantiles) flat(gs []uint32, vs []float64) {
	for i, g := range gs {
		a.values[a.begin[g]+int(a.count[g])] = vs[i]
		a.count[g]++
	}
}

func (a *quantiles) finish(g uint32, to out) {
	at, size, values := int(g)*a.steps, int(a.size[g]), a.values[a.begin[g]:]
	for i := range to.v {
		if n := int(a.count[at+i]); n > 0 {
			to.v[i] = quantile(a.env, a.q[i], values[i*size:i*size+n])
		}
		if size > 1024 {
			if a.err = a.env.Check(); a.err != nil {
				return // the value may be any
			}
		}
	}
	a.present(g, to)
}

// quantile returns the q-quantile of values, of which there is at least one, and changes their order. NaN is less than
// any other value. When the query stops it returns any value soon.
func quantile(env *operator.Env, q float64, values []float64) float64 {
	switch {
	case math.IsNaN(q):
		return math.NaN()
	case q < 0:
		return math.Inf(-1)
	case q > 1:
		return math.Inf(+1)
	}
	last := float64(len(values) - 1)
	rank := q * last
	below := math.Max(0, math.Floor(rank))
	above := math.Min(last, below+1)
	lo, hi := neighbours(env, values, int(below), int(above))
	weight := rank - math.Floor(rank)
	return float64(lo*(1-weight)) + float64(hi*weight)
}

// sortBelow is the number of values from which on selecting is cheaper than sorting.
const sortBelow = 24

// neighbours returns the values that would stand at i and j, which is i or i+1, if values were sorted.
func neighbours(env *operator.Env, values []float64, i, j int) (lo, hi float64) {
	if bothZeros(values) {
		sort.Sort(&byValue{of: values, env: env})
		return values[i], values[j]
	}
	nans := 0
	for at, v := range values {
		if v != v {
			values[at], values[nans] = values[nans], v
			nans++
		}
	}
	switch rest := values[nans:]; {
	case len(rest) < sortBelow:
		slices.Sort(rest)
	case i >= nans:
		place(env, rest, i-nans)
		if j > i {
			bringLeast(rest[j-nans:])
		}
	case j >= nans:
		bringLeast(rest)
	}
	return values[i], values[j]
}

// byValue sorts as Prometheus does. It matters where values are equal and yet differ: 0 and -0. Once the query has
// stopped all are equal, so that the sort ends soon.
type byValue struct {
	of      []float64
	env     *operator.Env
	asked   int
	stopped bool
}

func (s *byValue) Len() int      { return len(s.of) }
func (s *byValue) Swap(i, j int) { s.of[i], s.of[j] = s.of[j], s.of[i] }

func (s *byValue) Less(i, j int) bool {
	if s.asked++; s.asked&4095 == 0 && !s.stopped {
		s.stopped = s.env.Check() != nil
	}
	return !s.stopped && (math.IsNaN(s.of[i]) || s.of[i] < s.of[j])
}

// bothZeros tells whether there are 0 and -0 among values.
func bothZeros(values []float64) bool {
	var plus, minus bool
	for _, v := range values {
		if v == 0 {
			negative := math.Signbit(v)
			plus, minus = plus || !negative, minus || negative
		}
	}
	return plus && minus
}

// bringLeast swaps the least value to the front.
func bringLeast(values []float64) {
	m := 0
	for i, v := range values {
		if v < values[m] {
			m = i
		}
	}
	values[0], values[m] = values[m], values[0]
}

// place puts the value at k that would stand there if values, none of them NaN, were sorted; less ones before it, the
// others behind. It partitions about the median of three and sorts what is left, also when that goes badly.
func place(env *operator.Env, values []float64, k int) {
	for bad := 0; len(values) >= sortBelow; {
		if len(values) > 1<<16 && env.Check() != nil {
			return
		}
		p := middle(values[0], values[len(values)/2], values[len(values)-1])
		i, j := 0, len(values)-1
		for i <= j {
			for values[i] < p {
				i++
			}
			for values[j] > p {
				j--
			}
			if i <= j {
				values[i], values[j] = values[j], values[i]
				i++
				j--
			}
		}
		before := len(values)
		switch {
		case k <= j:
			values = values[:j+1]
		case k >= i:
			values, k = values[i:], k-i
		default:
			return
		}
		if len(values) > before*7/8 {
			if bad++; bad > 8 {
				break
			}
		}
	}
	if len(values) < sortBelow {
		slices.Sort(values)
		return
	}
	slices.SortFunc(values, operator.Until(env, cmp.Compare[float64]))
}

func middle(a, b, c float64) float64 { return max(min(a, b), min(max(a, b), c)) }
