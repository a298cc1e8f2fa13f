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
		b := bounds{low: constantOperand(math.Inf(-1)), high: constantOperand(math.Inf(1))}
		if low != nil {
			b.low = operandOf(low)
		}
		if high != nil {
			b.high = operandOf(high)
		}
		return b.kernel(), nil
	}
	return n
}

// bounds is what clamp clamps to.
type bounds struct{ low, high operand }

func (o *bounds) kernel() kernel {
	if !o.low.constant || !o.high.constant {
		return o.steps
	}
	low, high := o.low.at(0), o.high.at(0)
	switch {
	case high < low:
		return empty
	case ordinary(low, high):
		return overFlat(func(v []float64) {
			for i, x := range v {
				v[i] = max(low, min(high, x))
			}
		})
	default:
		return overFlat(func(v []float64) {
			for i, x := range v {
				v[i] = math.Max(low, math.Min(high, x))
			}
		})
	}
}

// ordinary tells whether the built-in min and max do what math.Min and math.Max do, whatever is clamped: they differ
// where one argument is NaN and the other an infinity.
func ordinary(low, high float64) bool {
	return !math.IsNaN(low) && !math.IsNaN(high) && !math.IsInf(low, 1) && !math.IsInf(high, -1)
}

// steps clamps with bounds of each step. Where they are the wrong way round there is no value.
func (o *bounds) steps(w *work, b *vector.Batch) error {
	dropHistograms(b)
	for i := range b.Rows() {
		v, k, _ := b.Row(i)
		none := false
		for j, x := range v {
			if j&(pollCells-1) == pollCells-1 {
				if err := w.env.Check(); err != nil {
					return err
				}
			}
			low, high := o.low.at(j), o.high.at(j)
			switch {
			case high < low:
				k[j], none = vector.Absent, true
			case ordinary(low, high):
				v[j] = max(low, min(high, x))
			default:
				v[j] = math.Max(low, math.Min(high, x))
			}
		}
		if none {
			b.Measure(i)
		}
	}
	return nil
}

// empty is the kernel that leaves no cell.
func empty(_ *work, b *vector.Batch) error {
	clear(b.K)
	clear(b.H)
	b.H = b.H[:0]
	for i := range b.Shape {
		b.Shape[i] = vector.HasGaps
	}
	return nil
}
