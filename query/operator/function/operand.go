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

// each calls f for all cells of b, with as many numbers as cells, or more.
func (o *operand) each(b *vector.Batch, f func(v, s []float64)) {
	run := b.Steps
	if o.constant {
		run = chunk
	}
	for v := b.V; len(v) > 0; {
		n := min(run, len(v))
		f(v[:n], o.v)
		v = v[n:]
	}
}

// pieces calls f for the cells of one row.
func (o *operand) pieces(v []float64, f func(from, to int, s []float64)) {
	run := len(v)
	if o.constant {
		run = chunk
	}
	for from := 0; from < len(v); from += run {
		f(from, min(from+run, len(v)), o.v)
	}
}
