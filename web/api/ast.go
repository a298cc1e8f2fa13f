// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// node is a part of a query as the tree view of clients wants it: what it is under "type", the rest by kind.
type node map[string]any

// describer turns the parts of a query into nodes; the first error sticks.
type describer struct{ err error }

// describe returns the JSON tree of a query.
func describe(e parser.Expr) (any, error) {
	var d describer
	tree := d.expr(e)
	return tree, d.err
}

func (d *describer) expr(e parser.Expr) any {
	switch e := e.(type) {
	case nil:
		return nil
	case *parser.AggregateExpr:
		return node{
			"type": "aggregation", "op": e.Op.String(), "expr": d.expr(e.Expr), "param": d.expr(e.Param),
			"grouping": list(e.Grouping), "without": e.Without,
		}
	case *parser.BinaryExpr:
		return node{
			"type": "binaryExpr", "op": e.Op.String(), "lhs": d.expr(e.LHS), "rhs": d.expr(e.RHS),
			"matching": matching(e.VectorMatching), "bool": e.ReturnBool,
		}
	case *parser.Call:
		args := make([]any, len(e.Args))
		for i, arg := range e.Args {
			args[i] = d.expr(arg)
		}
		return node{"type": "call", "args": args, "func": node{
			"name": e.Func.Name, "argTypes": e.Func.ArgTypes, "variadic": e.Func.Variadic, "returnType": e.Func.ReturnType,
		}}
	case *parser.DurationExpr, *parser.NumberLiteral:
		return d.literal(e)
	case *parser.ParenExpr:
		return node{"type": "parenExpr", "expr": d.expr(e.Expr)}
	case *parser.StringLiteral:
		return node{"type": "stringLiteral", "val": e.Val}
	case *parser.UnaryExpr:
		return node{"type": "unaryExpr", "op": e.Op.String(), "expr": d.expr(e.Expr)}
	default:
		return d.selector(e)
	}
}

// selector describes what reads series, alone or over a range.
func (d *describer) selector(e parser.Expr) any {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return d.vector(e, "vectorSelector")
	case *parser.MatrixSelector:
		vs, ok := e.VectorSelector.(*parser.VectorSelector)
		if !ok {
			return d.unknown(e.VectorSelector)
		}
		n := d.vector(vs, "matrixSelector")
		n["range"], n["rangeExpr"] = ms(e.Range), d.duration(e.RangeExpr)
		return n
	case *parser.SubqueryExpr:
		return node{
			"type": "subquery", "expr": d.expr(e.Expr), "timestamp": e.Timestamp, "startOrEnd": anchor(e.StartOrEnd),
			"range": ms(e.Range), "rangeExpr": d.duration(e.RangeExpr),
			"offset": ms(e.OriginalOffset), "offsetExpr": d.duration(e.OriginalOffsetExpr),
			"step": ms(e.Step), "stepExpr": d.duration(e.StepExpr),
		}
	default:
		return d.unknown(e)
	}
}

func (d *describer) vector(e *parser.VectorSelector, kind string) node {
	return node{
		"type": kind, "name": e.Name, "matchers": matcherNodes(e.LabelMatchers),
		"offset": ms(e.OriginalOffset), "offsetExpr": d.duration(e.OriginalOffsetExpr),
		"timestamp": e.Timestamp, "startOrEnd": anchor(e.StartOrEnd), "anchored": e.Anchored, "smoothed": e.Smoothed,
	}
}

// duration describes a duration that is written as an expression; nil where it is a plain one.
func (d *describer) duration(e parser.Expr) any {
	switch e := e.(type) {
	case nil:
		return nil
	case *parser.DurationExpr:
		if e == nil {
			return nil
		}
		return node{"type": "durationExpr", "op": e.Op.String(), "lhs": d.duration(e.LHS), "rhs": d.duration(e.RHS), "wrapped": e.Wrapped}
	case *parser.NumberLiteral:
		if e == nil {
			return nil
		}
		return node{"type": "numberLiteral", "val": strconv.FormatFloat(e.Val, 'f', -1, 64), "duration": e.Duration}
	default:
		return d.expr(e)
	}
}

func (d *describer) literal(e parser.Expr) any {
	if n, ok := e.(*parser.NumberLiteral); ok {
		return node{"type": "numberLiteral", "val": strconv.FormatFloat(n.Val, 'f', -1, 64)}
	}
	return d.duration(e)
}

func (d *describer) unknown(e parser.Expr) any {
	d.err = fmt.Errorf("a query part of type %T cannot be described", e)
	return nil
}

func matching(m *parser.VectorMatching) any {
	if m == nil {
		return nil
	}
	return node{
		"card": m.Card.String(), "labels": list(m.MatchingLabels), "on": m.On, "include": list(m.Include),
		"fillValues": map[string]*float64{"lhs": m.FillValues.LHS, "rhs": m.FillValues.RHS},
	}
}

func matcherNodes(in []*labels.Matcher) []node {
	out := make([]node, len(in))
	for i, m := range in {
		out[i] = node{"name": m.Name, "value": m.Value, "type": m.Type.String()}
	}
	return out
}

func anchor(i parser.ItemType) any {
	if i == 0 {
		return nil
	}
	return i.String()
}

func ms(d time.Duration) int64 { return d.Milliseconds() }

// list makes JSON's empty list of a nil one.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
