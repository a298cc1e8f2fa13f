// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"math"

	"github.com/prometheus/prometheus/promql/parser"
)

// arithmetic returns the loop of v op s, or of s op v when swapped; nil: op is no arithmetic. It runs over all cells,
// floats or not.
func arithmetic(op parser.ItemType, swapped bool) func(v, s []float64) {
	switch {
	case op == parser.ADD:
		return func(v, s []float64) {
			for i, y := range s[:len(v)] {
				v[i] += y
			}
		}
	case op == parser.SUB && swapped:
		return func(v, s []float64) {
			for i, y := range s[:len(v)] {
				v[i] = y - v[i]
			}
		}
	case op == parser.SUB:
		return func(v, s []float64) {
			for i, y := range s[:len(v)] {
				v[i] -= y
			}
		}
	case op == parser.MUL:
		return func(v, s []float64) {
			for i, y := range s[:len(v)] {
				v[i] *= y
			}
		}
	case op == parser.DIV && swapped:
		return func(v, s []float64) {
			for i, y := range s[:len(v)] {
				v[i] = y / v[i]
			}
		}
	case op == parser.DIV:
		return func(v, s []float64) {
			for i, y := range s[:len(v)] {
				v[i] /= y
			}
		}
	}
	f := slowArithmetic(op)
	if f == nil {
		return nil
	}
	return func(v, s []float64) {
		for i, y := range s[:len(v)] {
			if swapped {
				v[i] = f(y, v[i])
			} else {
				v[i] = f(v[i], y)
			}
		}
	}
}

// slowArithmetic returns the operators that are a call per cell anyway.
func slowArithmetic(op parser.ItemType) func(a, b float64) float64 {
	switch op {
	case parser.POW:
		return pow
	case parser.MOD:
		return mod
	case parser.ATAN2:
		return math.Atan2
	default:
		return nil
	}
}

// pow is math.Pow. Squares are what people ask for: the product is the same number as long as it is a normal one.
func pow(x, y float64) float64 {
	if p := x * x; y == 2 && p > 1e-300 && p < 1e300 {
		return p
	}
	return math.Pow(x, y)
}

// mod is math.Mod, which takes a step for each few binary digits of the quotient. Remainders are exact, so there is only one
// answer, and a quotient of at most 53 digits gives it at once: it is right, or one too large where it was rounded up.
func mod(x, y float64) float64 {
	a, b := math.Abs(x), math.Abs(y)
	q := math.Trunc(a / b)
	if !(q < 1<<53) || a < b {
		return math.Mod(x, y) // or there is nothing to divide
	}
	r := math.FMA(-q, b, a)
	if r < 0 {
		r += b
	}
	return math.Copysign(r, x)
}
