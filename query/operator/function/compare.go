// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// comparison makes those of k absent, where floats and absent cells are, for which v op s does not hold, and returns how
// many floats are left.
type comparison func(k []vector.Kind, v, s []float64) int

// comparisonOf returns the comparison v op s, or s op v when swapped; nil: op is none.
func comparisonOf(op parser.ItemType, swapped bool) comparison {
	switch {
	case op == parser.EQLC:
		return equal
	case op == parser.NEQ:
		return unequal
	case op == parser.GTR && !swapped, op == parser.LSS && swapped:
		return greater
	case op == parser.LSS, op == parser.GTR:
		return less
	case op == parser.GTE && !swapped, op == parser.LTE && swapped:
		return greaterOrEqual
	case op == parser.LTE, op == parser.GTE:
		return lessOrEqual
	default:
		return nil
	}
}

func equal(k []vector.Kind, v, s []float64) (n int) {
	v, s = v[:len(k)], s[:len(k)]
	for i, x := range k {
		x &= kindIf(v[i] == s[i])
		k[i] = x
		n += int(x)
	}
	return n
}

func unequal(k []vector.Kind, v, s []float64) (n int) {
	v, s = v[:len(k)], s[:len(k)]
	for i, x := range k {
		x &= kindIf(v[i] != s[i])
		k[i] = x
		n += int(x)
	}
	return n
}

func greater(k []vector.Kind, v, s []float64) (n int) {
	v, s = v[:len(k)], s[:len(k)]
	for i, x := range k {
		x &= kindIf(v[i] > s[i])
		k[i] = x
		n += int(x)
	}
	return n
}

func less(k []vector.Kind, v, s []float64) int { return greater(k, s, v) }

func greaterOrEqual(k []vector.Kind, v, s []float64) (n int) {
	v, s = v[:len(k)], s[:len(k)]
	for i, x := range k {
		x &= kindIf(v[i] >= s[i])
		k[i] = x
		n += int(x)
	}
	return n
}

func lessOrEqual(k []vector.Kind, v, s []float64) int { return greaterOrEqual(k, s, v) }

// kindIf is compiled without a branch.
func kindIf(b bool) vector.Kind {
	var k vector.Kind
	if b {
		k = vector.Float
	}
	return k
}

// filter keeps the cells of a batch without histograms for which f holds.
func filter(env *operator.Env, b *vector.Batch, with *operand, f comparison) error {
	if b.Steps == 1 {
		err := with.pieces(env, len(b.V), func(from, to int, s []float64) { f(b.K[from:to], b.V[from:to], s) })
		for i, k := range b.K[:len(b.Shape)] {
			b.Shape[i] = vector.HasGaps >> (2 * k) // Absent is HasGaps, Float is HasFloats
		}
		return err
	}
	for i := range b.Shape {
		v, k, _ := b.Row(i)
		n := 0
		err := with.pieces(env, len(v), func(from, to int, s []float64) { n += f(k[from:to], v[from:to], s) })
		if err != nil {
			return err
		}
		b.Shape[i] = shapeOf(n, b.Steps)
	}
	return nil
}

// truth makes the floats of a batch 1 where f holds, else 0.
func truth(env *operator.Env, b *vector.Batch, with *operand, f comparison) error {
	var floats, outcomes [chunk]vector.Kind
	for i := range floats {
		floats[i] = vector.Float
	}
	return with.each(env, b, func(v, s []float64) {
		for len(v) > 0 {
			n := min(chunk, len(v))
			outcomes = floats
			f(outcomes[:n], v, s)
			for i, o := range outcomes[:n] {
				v[i] = float64(o)
			}
			v, s = v[n:], s[n:]
		}
	})
}
