// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"math"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// newClamp returns clamp(in, low, high). A bound that is nil does not bound.
func newClamp(env *operator.Env, in operator.Node, low, high operator.Scalar) operator.Node {
	n := &rowwise{env: env, in: in, names: dropNames}
	for _, s := range []operator.Scalar{low, high} {
		if s != nil {
			n.args = append(n.args, s)
		}
	}
	n.bind = func() (kernel, error) {
		lo := stepValues{constant: true, c: math.Inf(-1)}
		if low != nil {
			lo = valuesOf(low)
		}
		hi := stepValues{constant: true, c: math.Inf(1)}
		if high != nil {
			hi = valuesOf(high)
		}
		return clampKernel(lo, hi), nil
	}
	return n
}

func clampKernel(lo, hi stepValues) kernel {
	switch {
	case lo.constant && hi.constant && hi.c < lo.c:
		return empty
	case lo.constant && hi.constant && ordinary(lo.c, hi.c):
		return overFlat(func(v []float64) {
			for i, x := range v {
				v[i] = max(lo.c, min(hi.c, x))
			}
		})
	case lo.constant && hi.constant:
		return overFlat(func(v []float64) {
			for i, x := range v {
				v[i] = math.Max(lo.c, math.Min(hi.c, x))
			}
		})
	}
	return func(b *vector.Batch) error {
		dropHistograms(b)
		for i := range b.Rows() {
			v, k, _ := b.Row(i)
			clampRow(v, k, lo, hi)
			b.Measure(i)
		}
		return nil
	}
}

// ordinary tells whether the built-in min and max do what math.Min and math.Max do, whatever is clamped: they differ
// where one argument is NaN and the other an infinity.
func ordinary(lo, hi float64) bool {
	return !math.IsNaN(lo) && !math.IsNaN(hi) && !math.IsInf(lo, 1) && !math.IsInf(hi, -1)
}

// clampRow clamps with bounds of each step. Where they are the wrong way round there is no value.
func clampRow(v []float64, k []vector.Kind, lo, hi stepValues) {
	for j, x := range v {
		l, h := lo.at(j), hi.at(j)
		if h < l {
			k[j] = vector.Absent
		}
		v[j] = math.Max(l, math.Min(h, x))
	}
}

func (s *stepValues) at(i int) float64 {
	if s.constant {
		return s.c
	}
	return s.v[i]
}

// empty is the kernel that leaves no cell.
func empty(b *vector.Batch) error {
	clear(b.K)
	clear(b.H)
	b.H = b.H[:0]
	for i := range b.Shape {
		b.Shape[i] = vector.HasGaps
	}
	return nil
}
