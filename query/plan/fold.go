// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"math"

	"github.com/prometheus/prometheus/promql/parser"
)

// foldConstants computes scalars that are the same at every step.
func foldConstants() Pass {
	return Pass{
		Name: "constants", Does: "computes what is known beforehand",
		apply: func(p *Plan) string {
			p.Root = replace(p.Root, fold)
			return ""
		},
	}
}

func fold(n Node) Node {
	switch n := n.(type) {
	case *Broadcast:
		if v, ok := n.Expr.(*Number); ok {
			return &Number{Place: n.Place, Value: v.Value, From: n}
		}
	case *Negate:
		if v, ok := n.Expr.(*Number); ok {
			return &Number{Place: n.Place, Value: -v.Value, From: n}
		}
	case *Binary:
		l, left := n.LHS.(*Number)
		r, right := n.RHS.(*Number)
		if !left || !right {
			return n
		}
		if v, ok := compute(n.Op, l.Value, r.Value); ok {
			return &Number{Place: n.Place, Value: v, From: n}
		}
	case *Call:
		return foldCall(n)
	}
	return n
}

func foldCall(n *Call) Node {
	number := func(v float64) Node { return &Number{Place: n.Place, Value: v, From: n} }
	switch n.Func {
	case "pi":
		return number(math.Pi)
	case "time":
		if n.When.Once() {
			return number(float64(n.When.Start) / 1000)
		}
	case "scalar":
		v, ok := n.Args[0].(*Call)
		if !ok || v.Func != "vector" {
			return n
		}
		if x, ok := v.Args[0].(*Number); ok {
			return number(x.Value)
		}
	}
	return n
}

// compute returns a op b as PromQL has it between scalars.
func compute(op parser.ItemType, a, b float64) (float64, bool) {
	switch op {
	case parser.ADD:
		return a + b, true
	case parser.SUB:
		return a - b, true
	case parser.MUL:
		return a * b, true
	case parser.DIV:
		return a / b, true
	case parser.POW:
		return math.Pow(a, b), true
	case parser.MOD:
		return math.Mod(a, b), true
	case parser.ATAN2:
		return math.Atan2(a, b), true
	}
	return compare(op, a, b)
}

func compare(op parser.ItemType, a, b float64) (float64, bool) {
	var holds bool
	switch op {
	case parser.EQLC:
		holds = a == b
	case parser.NEQ:
		holds = a != b
	case parser.GTR:
		holds = a > b
	case parser.LSS:
		holds = a < b
	case parser.GTE:
		holds = a >= b
	case parser.LTE:
		holds = a <= b
	default:
		return 0, false
	}
	if holds {
		return 1, true
	}
	return 0, true
}
