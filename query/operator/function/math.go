// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"math"
	"slices"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// flat returns the functions that cost so little that they run over absent cells too: a loop without a branch or a
// call. Nil: no such function.
func flat(name string) func(v []float64) {
	switch name {
	case "abs":
		return func(v []float64) {
			for i := range v {
				v[i] = math.Abs(v[i])
			}
		}
	case "ceil":
		return func(v []float64) {
			for i := range v {
				v[i] = math.Ceil(v[i])
			}
		}
	case "floor":
		return func(v []float64) {
			for i := range v {
				v[i] = math.Floor(v[i])
			}
		}
	case "sqrt":
		return func(v []float64) {
			for i := range v {
				v[i] = math.Sqrt(v[i])
			}
		}
	case "sgn":
		return sgn
	case "deg":
		return func(v []float64) {
			for i := range v {
				v[i] = v[i] * 180 / math.Pi
			}
		}
	case "rad":
		return func(v []float64) {
			for i := range v {
				v[i] = v[i] * math.Pi / 180
			}
		}
	default:
		return nil
	}
}

func sgn(v []float64) {
	for i, x := range v {
		switch {
		case x < 0:
			v[i] = -1
		case x > 0:
			v[i] = 1
		}
	}
}

// pointwise returns the functions of one number that cost more than a look at the kind of a cell.
func pointwise(name string) func(float64) float64 {
	switch name {
	case "exp":
		return math.Exp
	case "ln":
		return math.Log
	case "log2":
		return math.Log2
	case "log10":
		return math.Log10
	case "sin":
		return math.Sin
	case "cos":
		return math.Cos
	case "tan":
		return math.Tan
	case "asin":
		return math.Asin
	case "acos":
		return math.Acos
	case "atan":
		return math.Atan
	case "sinh":
		return math.Sinh
	case "cosh":
		return math.Cosh
	case "tanh":
		return math.Tanh
	case "asinh":
		return math.Asinh
	case "acosh":
		return math.Acosh
	case "atanh":
		return math.Atanh
	default:
		return nil
	}
}

// overFlat makes a kernel of a function over arrays. Histograms go away.
func overFlat(f func([]float64)) kernel {
	return func(w *work, b *vector.Batch) error {
		dropHistograms(b)
		for from, to := range w.env.Runs(len(b.V)) {
			f(b.V[from:to])
		}
		return w.env.Check()
	}
}

// overFloats makes a kernel of a function of one number, called for floats only. Histograms go away.
func overFloats(f func(float64) float64) kernel {
	return func(w *work, b *vector.Batch) error {
		dropHistograms(b)
		gaps := shapes(b)&vector.HasGaps != 0
		for from, to := range w.env.Runs(len(b.V)) {
			v := b.V[from:to]
			if !gaps {
				for i, x := range v {
					v[i] = f(x)
				}
				continue
			}
			for i, k := range b.K[from:to] {
				if k == vector.Float {
					v[i] = f(v[i])
				}
			}
		}
		return w.env.Check()
	}
}

// newRound returns round(in, nearest); nearest nil: 1.
func newRound(env *operator.Env, in operator.Node, nearest operator.Scalar) operator.Node {
	n := &rowwise{env: env, in: in, names: dropNames}
	if nearest != nil {
		n.args = []operator.Scalar{nearest}
	}
	n.bind = func() (kernel, error) {
		if nearest == nil {
			return overFlat(round), nil
		}
		inverse, err := inverseOf(nearest, &n.held)
		if err != nil {
			return nil, err
		}
		if inverse.constant && inverse.at(0) == 1 {
			return overFlat(round), nil
		}
		return func(w *work, b *vector.Batch) error {
			dropHistograms(b)
			return inverse.each(w.env, b, roundTo)
		}, nil
	}
	return n
}

// inverseOf returns 1/s.
func inverseOf(s operator.Scalar, h *held) (operand, error) {
	o := operandOf(s)
	if err := h.charge(int64(len(o.v)) * 8); err != nil {
		return o, err
	}
	o.v = slices.Clone(o.v)
	for i, x := range o.v {
		o.v[i] = 1.0 / x
	}
	return o, nil
}

// round rounds to whole numbers, halves up.
func round(v []float64) {
	for i, x := range v {
		v[i] = math.Floor(x + 0.5)
	}
}

// roundTo rounds to multiples of 1/inverse.
func roundTo(v, inverse []float64) {
	for i, y := range inverse[:len(v)] {
		v[i] = math.Floor(v[i]*y+0.5) / y
	}
}
