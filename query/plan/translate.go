// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
)

// translator makes nodes of an expression that PreprocessExpr has been over.
type translator struct {
	plan *Plan
	when When
	// parent is the node above, nearest the function or aggregation above that is not beyond a binary operator, and
	// within the subqueries around, the outermost first.
	parent  parser.Node
	nearest string
	within  []*parser.SubqueryExpr
	// origin is the first step from which @ modifiers are counted as offsets, and base how many of within are around
	// the expression that they are counted in. Prometheus' engine counts anew in each subquery that starts at
	// another time than what it stands in, and only there.
	origin int64
	base   int
}

func (p *Plan) translate() Node {
	start, end := milliseconds(p.opts.Start), milliseconds(p.opts.End)
	step := max(p.opts.Interval.Milliseconds(), 1)
	t := translator{plan: p, when: When{start, end, step}, origin: start}
	return t.node(p.stmt.Expr)
}

// enter returns the translator of what is directly below e.
func (t translator) enter(e parser.Node) translator {
	t.parent = e
	switch e := e.(type) {
	case *parser.AggregateExpr:
		t.nearest = e.Op.String()
	case *parser.Call:
		t.nearest = e.Func.Name
	case *parser.BinaryExpr:
		t.nearest = ""
	case *parser.SubqueryExpr:
		t.within = append(slices.Clip(t.within), e)
	}
	return t
}

// under translates a part of e.
func (t translator) under(e parser.Node, part parser.Expr) Node { return t.enter(e).node(part) }

func (t translator) node(e parser.Expr) Node {
	at := place(t.when, e)
	switch e := e.(type) {
	case *parser.NumberLiteral:
		return &Number{Place: at, Value: e.Val}
	case *parser.StringLiteral:
		return &Text{Place: at, Value: e.Val}
	case *parser.VectorSelector:
		return t.selector(e, 0)
	case *parser.MatrixSelector:
		v, _ := e.VectorSelector.(*parser.VectorSelector)
		return &Window{Place: at, Select: t.enter(e).selector(v, e.Range), Range: e.Range.Milliseconds()}
	case *parser.SubqueryExpr:
		return t.subquery(e, at)
	case *parser.ParenExpr:
		return t.under(e, e.Expr)
	case *parser.StepInvariantExpr:
		return t.broadcast(e, at)
	case *parser.UnaryExpr:
		if e.Op == parser.SUB {
			return &Negate{Place: at, Expr: t.under(e, e.Expr)}
		}
		return t.under(e, e.Expr)
	case *parser.BinaryExpr:
		lhs, rhs := t.under(e, e.LHS), t.under(e, e.RHS)
		return &Binary{
			Place: place(t.when, e, e.LHS, e.RHS), Op: e.Op, LHS: lhs, RHS: rhs, Matching: e.VectorMatching, Bool: e.ReturnBool,
			Scalar: lhs.Type() == parser.ValueTypeScalar && rhs.Type() == parser.ValueTypeScalar,
		}
	case *parser.AggregateExpr:
		return t.aggregate(e)
	case *parser.Call:
		return t.call(e)
	default:
		panic(fmt.Sprintf("unknown expression %T", e)) // a promise of the parser
	}
}

func (t translator) aggregate(e *parser.AggregateExpr) Node {
	a := &Aggregate{
		Place: place(t.when, e, e.Expr),
		Op:    e.Op, Without: e.Without, Grouping: slices.Sorted(slices.Values(e.Grouping)),
		Expr: t.under(e, e.Expr),
	}
	if e.Param != nil {
		a.Slots = append(a.Slots, e.Param.PositionRange())
		a.Param = t.under(e, e.Param)
	}
	return a
}

func (t translator) call(e *parser.Call) Node {
	if e.Func.Name == "timestamp" || e.Func.Name == "start_timestamp" {
		if v, ok := e.Args[0].(*parser.VectorSelector); ok {
			return &Stamp{Place: place(t.when, e, v), Select: t.enter(e).selector(v, 0), Begin: e.Func.Name == "start_timestamp"}
		}
	}
	c := &Call{Place: place(t.when, e, e.Args...), Written: e, Func: e.Func.Name, Result: e.Func.ReturnType, Args: make([]Node, len(e.Args))}
	for i, a := range e.Args {
		c.Args[i] = t.under(e, a)
		if _, ok := a.(*parser.SubqueryExpr); ok {
			// Prometheus puts samples in its place, which stand nowhere in the query.
			c.Slots[i+1] = posrange.PositionRange{}
		}
	}
	return c
}

// broadcast evaluates once what does not depend on the step. Range vectors have times of their own.
func (t translator) broadcast(e *parser.StepInvariantExpr, at Place) Node {
	t.when = t.when.first()
	inner := t.under(e, e.Expr)
	if inner.Type() == parser.ValueTypeMatrix {
		return inner
	}
	return &Broadcast{Place: at, Expr: inner}
}

func (t translator) selector(v *parser.VectorSelector, span time.Duration) *Select {
	return &Select{
		Place:    place(t.when, v),
		Matchers: v.LabelMatchers, Written: v.LabelMatchers,
		Offset: t.offset(v.Timestamp, v.OriginalOffset), At: v.Timestamp, WrittenOffset: v.OriginalOffset.Milliseconds(),
		Anchored: v.Anchored, Smoothed: v.Smoothed, StatsOnly: v.SkipHistogramBuckets,
		Hint: t.hint(v, span),
	}
}

// offset returns how far before the time of a step a selector or subquery looks. An @ modifier is taken as the offset
// from the first step, less what the subqueries around already look back.
func (t translator) offset(at *int64, written time.Duration) int64 {
	if at == nil {
		return written.Milliseconds()
	}
	by, _, around := shift(t.within[t.base:])
	shift := by.Milliseconds()
	if around != nil {
		shift += t.origin - *around
	}
	return written.Milliseconds() + t.origin - *at - shift
}

func (t translator) subquery(e *parser.SubqueryExpr, at Place) Node {
	s := &Subquery{
		Place: at, Range: e.Range.Milliseconds(), Step: t.plan.stepOf(e), At: e.Timestamp,
		Offset: t.offset(e.Timestamp, e.OriginalOffset), WrittenOffset: e.OriginalOffset.Milliseconds(),
	}
	inner := t.enter(e)
	inner.when = s.times()
	if inner.when.Start != t.when.Start {
		inner.origin, inner.base = inner.when.Start, len(inner.within)
	}
	s.Expr = inner.node(e.Expr)
	// The window of a subquery with @ hangs on its own first step, whatever was subtracted above.
	if s.At != nil {
		s.Offset = s.WrittenOffset + t.when.Start - *s.At
	}
	return s
}

// times returns when the expression of s is evaluated: at the multiples of the step that lie in the windows.
func (s *Subquery) times() When {
	left := s.When.Start - s.Offset - s.Range
	start := s.Step * (left / s.Step) // rounds towards zero, as Prometheus does
	if start <= left {
		start += s.Step
	}
	return When{Start: start, End: s.When.lastStep() - s.Offset, Step: s.Step}
}
