// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// chunk is how many cells are compared before the outcomes, one byte each, are used.
const chunk = 512

// comparison compares floats: it sets each of dst to vector.Float where v op s holds, else to vector.Absent. The
// outcomes are what is left of kinds by a bitwise and.
type comparison func(dst []vector.Kind, v []float64, s float64)

// mirrored returns the operator op' for which s op v is v op' s.
func mirrored(op parser.ItemType) parser.ItemType {
	switch op {
	case parser.GTR:
		return parser.LSS
	case parser.LSS:
		return parser.GTR
	case parser.GTE:
		return parser.LTE
	case parser.LTE:
		return parser.GTE
	default:
		return op
	}
}

// compareConstant returns the comparison with one number; nil: op is none.
func compareConstant(op parser.ItemType) comparison {
	switch op {
	case parser.EQLC:
		return func(dst []vector.Kind, v []float64, s float64) {
			for i, x := range v[:len(dst)] {
				dst[i] = kindIf(x == s)
			}
		}
	case parser.NEQ:
		return func(dst []vector.Kind, v []float64, s float64) {
			for i, x := range v[:len(dst)] {
				dst[i] = kindIf(x != s)
			}
		}
	case parser.GTR:
		return func(dst []vector.Kind, v []float64, s float64) {
			for i, x := range v[:len(dst)] {
				dst[i] = kindIf(x > s)
			}
		}
	case parser.LSS:
		return func(dst []vector.Kind, v []float64, s float64) {
			for i, x := range v[:len(dst)] {
				dst[i] = kindIf(x < s)
			}
		}
	case parser.GTE:
		return func(dst []vector.Kind, v []float64, s float64) {
			for i, x := range v[:len(dst)] {
				dst[i] = kindIf(x >= s)
			}
		}
	case parser.LTE:
		return func(dst []vector.Kind, v []float64, s float64) {
			for i, x := range v[:len(dst)] {
				dst[i] = kindIf(x <= s)
			}
		}
	default:
		return nil
	}
}

// compareSteps compares with a number that changes from cell to cell. Those are rare, so one loop does for all
// operators: how two numbers stand to each other picks the outcome from a table.
func compareSteps(op parser.ItemType, dst []vector.Kind, v, s []float64) {
	const less, equal, greater = 1, 2, 4
	var holds [8]vector.Kind // 0: one of them is NaN
	switch op {
	case parser.EQLC:
		holds[equal] = vector.Float
	case parser.NEQ:
		holds[0], holds[less], holds[greater] = vector.Float, vector.Float, vector.Float
	case parser.GTR:
		holds[greater] = vector.Float
	case parser.LSS:
		holds[less] = vector.Float
	case parser.GTE:
		holds[greater], holds[equal] = vector.Float, vector.Float
	case parser.LTE:
		holds[less], holds[equal] = vector.Float, vector.Float
	}
	v, s = v[:len(dst)], s[:len(dst)]
	for i, x := range v {
		y := s[i]
		dst[i] = holds[kindIf(x < y)*less|kindIf(x == y)*equal|kindIf(x > y)*greater]
	}
}

// kindIf is compiled without a branch.
func kindIf(b bool) vector.Kind {
	var k vector.Kind
	if b {
		k = vector.Float
	}
	return k
}

// comparer compares the floats of batches that have no histograms.
type comparer struct {
	op     parser.ItemType // with the vector on the left
	with   stepValues
	asBool bool
	f      comparison
}

func newComparer(op parser.ItemType, s stepValues, swapped, asBool bool) *comparer {
	if swapped {
		op = mirrored(op)
	}
	return &comparer{op: op, with: s, asBool: asBool, f: compareConstant(op)}
}

// run compares the cells of b.
func (c *comparer) run(b *vector.Batch) {
	if c.with.constant {
		c.cells(b.V, b.K, nil)
	} else {
		for i := range b.Rows() {
			v, k, _ := b.Row(i)
			c.cells(v, k, c.with.v)
		}
	}
	if !c.asBool {
		reshape(b)
	}
}

// cells compares with c.with.c, or with s where that is not nil.
func (c *comparer) cells(v []float64, k []vector.Kind, s []float64) {
	var buf [chunk]vector.Kind
	for len(v) > 0 {
		n := min(chunk, len(v))
		if s == nil {
			c.f(buf[:n], v[:n], c.with.c)
		} else {
			compareSteps(c.op, buf[:n], v[:n], s[:n])
			s = s[n:]
		}
		if c.asBool {
			for i, o := range buf[:n] {
				v[i] = float64(o)
			}
		} else {
			for i, o := range buf[:n] {
				k[i] &= o
			}
		}
		v, k = v[n:], k[n:]
	}
}

// reshape sets the shapes of rows without histograms.
func reshape(b *vector.Batch) {
	if b.Steps == 1 {
		for i, k := range b.K[:len(b.Shape)] {
			b.Shape[i] = vector.HasGaps >> (2 * k) // Absent is HasGaps, Float is HasFloats
		}
		return
	}
	for i := range b.Shape {
		n := 0
		for _, k := range b.K[i*b.Steps : (i+1)*b.Steps] {
			n += int(k)
		}
		b.Shape[i] = shapeOf(n, b.Steps)
	}
}
