// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package scalar holds the operators whose value is one float per step: numbers, time(), scalar() of a vector, and
// arithmetic of those.
//
// A value is computed when it is opened and kept until it is closed: 8 B per step, charged to the query. Values may
// be read by several goroutines. None of the operators annotates.
package scalar

import (
	"context"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Call is a call of a function that returns a scalar.
type Call struct {
	Func string
	Grid vector.Grid
	// In is the vector argument, Scalars are the others.
	In      operator.Node
	Scalars []operator.Scalar
}

// Build returns the operator of a call: time, pi, scalar, max_of, min_of. The functions start, end, range and step
// are numbers by then.
func Build(env *operator.Env, c Call) (operator.Scalar, error) {
	switch {
	case c.Func == "time":
		return Time(env, c.Grid), nil
	case c.Func == "pi":
		return Number(env, c.Grid, math.Pi), nil
	case c.Func == "scalar" && c.In != nil:
		return Of(env, c.In), nil
	case c.Func == "max_of" && len(c.Scalars) == 2:
		return pairwise(env, c.Scalars[0], c.Scalars[1], math.Max), nil
	case c.Func == "min_of" && len(c.Scalars) == 2:
		return pairwise(env, c.Scalars[0], c.Scalars[1], math.Min), nil
	default:
		return nil, fmt.Errorf("scalar: no function %q of %d scalars", c.Func, len(c.Scalars))
	}
}

// node is a scalar that is computed from its inputs when it is opened.
type node struct {
	env    *operator.Env
	inputs []operator.Scalar
	// compute returns the values, made with node.alloc.
	compute func(ctx context.Context, n *node) error
	also    func() // closes what is no Scalar

	values  []float64
	charged int64
}

// Open implements operator.Scalar.
func (n *node) Open(ctx context.Context) error {
	for _, in := range n.inputs {
		if err := in.Open(ctx); err != nil {
			return err
		}
	}
	return n.compute(ctx, n)
}

// Values implements operator.Scalar.
func (n *node) Values() []float64 { return n.values }

// Close implements operator.Scalar.
func (n *node) Close() {
	for _, in := range n.inputs {
		in.Close()
	}
	if n.also != nil {
		n.also()
	}
	n.env.Account.Release(n.charged)
	n.values, n.charged = nil, 0
}

// alloc makes room for the values of steps.
func (n *node) alloc(steps int) error {
	bytes := int64(steps) * 8
	if err := n.env.Account.Reserve(bytes); err != nil {
		return err
	}
	n.values, n.charged = make([]float64, steps), bytes
	return nil
}

// Number returns the scalar that is v at every step.
func Number(env *operator.Env, grid vector.Grid, v float64) operator.Scalar {
	return &node{env: env, compute: func(_ context.Context, n *node) error {
		if err := n.alloc(grid.N); err != nil {
			return err
		}
		for i := range n.values {
			n.values[i] = v
		}
		return nil
	}}
}

// Time returns the scalar that is the time of each step in seconds.
func Time(env *operator.Env, grid vector.Grid) operator.Scalar {
	return &node{env: env, compute: func(_ context.Context, n *node) error {
		if err := n.alloc(grid.N); err != nil {
			return err
		}
		for from, to := range env.Runs(grid.N) {
			for i := from; i < to; i++ {
				n.values[i] = float64(grid.At(i)) / 1000
			}
		}
		return env.Check()
	}}
}

// Negate returns -in.
func Negate(env *operator.Env, in operator.Scalar) operator.Scalar {
	return &node{env: env, inputs: []operator.Scalar{in}, compute: func(_ context.Context, n *node) error {
		x := in.Values()
		if err := n.alloc(len(x)); err != nil {
			return err
		}
		for i, f := range x {
			n.values[i] = -f
		}
		return nil
	}}
}

// Broadcast returns the scalar whose value at every step of grid is the first of in: in does not depend on the time.
func Broadcast(env *operator.Env, in operator.Scalar, grid vector.Grid) operator.Scalar {
	return &node{env: env, inputs: []operator.Scalar{in}, compute: func(_ context.Context, n *node) error {
		if err := n.alloc(grid.N); err != nil {
			return err
		}
		v := in.Values()[0]
		for i := range n.values {
			n.values[i] = v
		}
		return nil
	}}
}

// Binary returns lhs op rhs. Comparisons give 0 or 1. It fails when opened if op is none for scalars.
func Binary(env *operator.Env, op parser.ItemType, lhs, rhs operator.Scalar) operator.Scalar {
	f := operation(op)
	if f == nil {
		return &node{env: env, inputs: []operator.Scalar{lhs, rhs}, compute: func(context.Context, *node) error {
			return fmt.Errorf("operator %q not allowed for Scalar operations", op)
		}}
	}
	return pairwise(env, lhs, rhs, f)
}

func pairwise(env *operator.Env, lhs, rhs operator.Scalar, f func(a, b float64) float64) operator.Scalar {
	return &node{env: env, inputs: []operator.Scalar{lhs, rhs}, compute: func(_ context.Context, n *node) error {
		a, b := lhs.Values(), rhs.Values()
		if err := n.alloc(len(a)); err != nil {
			return err
		}
		for from, to := range env.Runs(len(a)) {
			for i := from; i < to; i++ {
				n.values[i] = f(a[i], b[i])
			}
		}
		return env.Check()
	}}
}

// operation returns the function of an operator between scalars, nil if there is none.
func operation(op parser.ItemType) func(a, b float64) float64 {
	switch op {
	case parser.ADD:
		return func(a, b float64) float64 { return a + b }
	case parser.SUB:
		return func(a, b float64) float64 { return a - b }
	case parser.MUL:
		return func(a, b float64) float64 { return a * b }
	case parser.DIV:
		return func(a, b float64) float64 { return a / b }
	case parser.POW:
		return math.Pow
	case parser.MOD:
		return math.Mod
	case parser.ATAN2:
		return math.Atan2
	case parser.EQLC:
		return func(a, b float64) float64 { return truth(a == b) }
	case parser.NEQ:
		return func(a, b float64) float64 { return truth(a != b) }
	case parser.GTR:
		return func(a, b float64) float64 { return truth(a > b) }
	case parser.LSS:
		return func(a, b float64) float64 { return truth(a < b) }
	case parser.GTE:
		return func(a, b float64) float64 { return truth(a >= b) }
	case parser.LTE:
		return func(a, b float64) float64 { return truth(a <= b) }
	default:
		return nil
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
