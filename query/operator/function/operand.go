// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"math"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// chunk is how many cells are worked on at a time where a kernel needs as many bytes beside them.
const chunk = 512

// operand is a scalar as a kernel wants it: numbers beside cells, so that one loop serves numbers that change from step
// to step and those that do not.
type operand struct {
	constant bool
	// v is one number per step; of a constant, chunk of them.
	v []float64
}

func operandOf(s operator.Scalar) operand {
	v := s.Values()
	first := math.Float64bits(v[0])
	for _, f := range v[1:] {
		if math.Float64bits(f) != first {
			return operand{v: v}
		}
	}
	return constantOperand(v[0])
}

func constantOperand(c float64) operand {
	v := make([]float64, chunk)
	for i := range v {
		v[i] = c
	}
	return operand{constant: true, v: v}
}

// at returns the number at a step.
func (o *operand) at(step int) float64 {
	if o.constant {
		return o.v[0]
	}
	return o.v[step]
}

// pollCells is after how many cells a loop looks whether to stop.
const pollCells = 1 << 14

// each calls f for all cells of b, with as many numbers as cells.
func (o *operand) each(env *operator.Env, b *vector.Batch, f func(v, s []float64)) error {
	return o.pieces(env, len(b.V), func(from, to int, s []float64) { f(b.V[from:to], s) })
}

// pieces calls f for n cells, from the first of a row on, with as many numbers as cells.
func (o *operand) pieces(env *operator.Env, n int, f func(from, to int, s []float64)) error {
	step, left := 0, pollCells
	for from := 0; from < n; {
		m := min(n-from, len(o.v)-step, pollCells)
		f(from, from+m, o.v[step:step+m])
		from += m
		if step += m; step == len(o.v) {
			step = 0
		}
		if left -= m; left <= 0 {
			left = pollCells
			if err := env.Check(); err != nil {
				return err
			}
		}
	}
	return nil
}
