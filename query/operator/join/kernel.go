// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"math"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// arithmetic returns the loop that computes one cell after the other; nil where op is none for floats. It may run
// over cells that are absent.
func arithmetic(op parser.ItemType) func(to, l, r []float64) {
	switch op {
	case parser.ADD:
		return add
	case parser.SUB:
		return sub
	case parser.MUL:
		return mul
	case parser.DIV:
		return div
	case parser.POW:
		return each(math.Pow)
	case parser.MOD:
		return each(math.Mod)
	case parser.ATAN2:
		return each(math.Atan2)
	default:
		return nil
	}
}

func add(to, l, r []float64) {
	l, r = l[:len(to)], r[:len(to)]
	for i := range to {
		to[i] = l[i] + r[i]
	}
}

func sub(to, l, r []float64) {
	l, r = l[:len(to)], r[:len(to)]
	for i := range to {
		to[i] = l[i] - r[i]
	}
}

func mul(to, l, r []float64) {
	l, r = l[:len(to)], r[:len(to)]
	for i := range to {
		to[i] = l[i] * r[i]
	}
}

func div(to, l, r []float64) {
	l, r = l[:len(to)], r[:len(to)]
	for i := range to {
		to[i] = l[i] / r[i]
	}
}

func each(f func(l, r float64) float64) func(to, l, r []float64) {
	return func(to, l, r []float64) {
		l, r = l[:len(to)], r[:len(to)]
		for i := range to {
			to[i] = f(l[i], r[i])
		}
	}
}

// comparison returns the loop that sets a kind to Float where a comparison holds and to Absent where not; nil where
// op is none.
func comparison(op parser.ItemType) func(to []vector.Kind, l, r []float64) {
	switch op {
	case parser.EQLC:
		return func(to []vector.Kind, l, r []float64) {
			l, r = l[:len(to)], r[:len(to)]
			for i := range to {
				to[i] = kindIf(l[i] == r[i])
			}
		}
	case parser.NEQ:
		return func(to []vector.Kind, l, r []float64) {
			l, r = l[:len(to)], r[:len(to)]
			for i := range to {
				to[i] = kindIf(l[i] != r[i])
			}
		}
	case parser.GTR:
		return greater
	case parser.GTE:
		return greaterOrEqual
	case parser.LSS:
		return func(to []vector.Kind, l, r []float64) { greater(to, r, l) }
	case parser.LTE:
		return func(to []vector.Kind, l, r []float64) { greaterOrEqual(to, r, l) }
	default:
		return nil
	}
}

func greater(to []vector.Kind, l, r []float64) {
	l, r = l[:len(to)], r[:len(to)]
	for i := range to {
		to[i] = kindIf(l[i] > r[i])
	}
}

func greaterOrEqual(to []vector.Kind, l, r []float64) {
	l, r = l[:len(to)], r[:len(to)]
	for i := range to {
		to[i] = kindIf(l[i] >= r[i])
	}
}

// kindIf compiles to an instruction without a branch.
func kindIf(ok bool) vector.Kind {
	var k vector.Kind
	if ok {
		k = vector.Float
	}
	return k
}

// both sets kinds to Float where both sides have a float, of rows without histograms.
func both(to, l, r []vector.Kind) {
	l, r = l[:len(to)], r[:len(to)]
	for i := range to {
		to[i] = l[i] & r[i]
	}
}

// masked leaves of to what both sides have, too.
func masked(to, l, r []vector.Kind) {
	l, r = l[:len(to)], r[:len(to)]
	for i := range to {
		to[i] &= l[i] & r[i]
	}
}

// shapeOf tells the shape of cells of which none is a histogram.
func shapeOf(k []vector.Kind) vector.Shape {
	n := 0
	for _, x := range k {
		n += int(x)
	}
	switch n {
	case 0:
		return vector.HasGaps
	case len(k):
		return vector.Full
	default:
		return vector.HasFloats | vector.HasGaps
	}
}
