// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"math"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// arithmetic returns the kernel of v op s, or of s op v when swapped, for the floats of a batch; nil: op is no
// arithmetic. It runs over all cells, floats or not.
func arithmetic(op parser.ItemType, s stepValues, swapped bool) func(b *vector.Batch) {
	if s.constant {
		f := withConstant(op, s.c, swapped)
		if f == nil {
			return nil
		}
		return func(b *vector.Batch) { f(b.V) }
	}
	f := withSteps(op, swapped)
	if f == nil {
		return nil
	}
	return func(b *vector.Batch) {
		for v := b.V; len(v) > 0; v = v[b.Steps:] {
			f(v[:b.Steps], s.v)
		}
	}
}

func withConstant(op parser.ItemType, s float64, swapped bool) func(v []float64) {
	switch {
	case op == parser.ADD:
		return func(v []float64) {
			for i := range v {
				v[i] += s
			}
		}
	case op == parser.SUB && swapped:
		return func(v []float64) {
			for i := range v {
				v[i] = s - v[i]
			}
		}
	case op == parser.SUB:
		return func(v []float64) {
			for i := range v {
				v[i] -= s
			}
		}
	case op == parser.MUL:
		return func(v []float64) {
			for i := range v {
				v[i] *= s
			}
		}
	case op == parser.DIV && swapped:
		return func(v []float64) {
			for i := range v {
				v[i] = s / v[i]
			}
		}
	case op == parser.DIV:
		return func(v []float64) {
			for i := range v {
				v[i] /= s
			}
		}
	}
	f := slowArithmetic(op)
	if f == nil {
		return nil
	}
	return func(v []float64) {
		for i, x := range v {
			if swapped {
				v[i] = f(s, x)
			} else {
				v[i] = f(x, s)
			}
		}
	}
}

// withSteps is withConstant for a number that changes from step to step: v is one row.
func withSteps(op parser.ItemType, swapped bool) func(v, s []float64) {
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
		return math.Pow
	case parser.MOD:
		return math.Mod
	case parser.ATAN2:
		return math.Atan2
	default:
		return nil
	}
}
