// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info

import (
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// Reference returns the time and the offset, in milliseconds, at which info series are selected for a first argument:
// those of its selectors, when all of them look at the same time, and else those of the evaluation, nil and 0. It is
// to be called on the expression as it was before evaluation, with the modifiers of subqueries in place.
func Reference(expr parser.Expr) (at *int64, offset int64) {
	var s references
	if s.inspect(expr, nil); s.mixed || s.free || !s.found {
		return nil, 0
	}
	return s.first.at, s.first.offset.Milliseconds()
}

// reference is the time that a selector looks at.
type reference struct {
	at     *int64
	offset time.Duration
}

func (r reference) equal(o reference) bool {
	if r.at == nil || o.at == nil {
		return r.at == nil && o.at == nil && r.offset.Milliseconds() == o.offset.Milliseconds()
	}
	return *r.at-r.offset.Milliseconds() == *o.at-o.offset.Milliseconds()
}

// references is what the selectors of an expression have in common.
type references struct {
	first reference
	found bool
	mixed bool // selectors look at different times
	free  bool // a part that yields a vector has no selector
}

// inspect looks at an expression within others and tells whether there are selectors in it.
func (s *references) inspect(expr parser.Expr, within []parser.Expr) bool {
	if t := expr.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeMatrix {
		return false
	}
	if sel, ok := expr.(*parser.VectorSelector); ok {
		s.add(sel, within)
		return true
	}
	within = append(within, expr)
	if call, ok := expr.(*parser.Call); ok && call.Func.Name == "info" {
		return s.inspect(call.Args[0], within) // The second argument is no vector of its own.
	}
	found := false
	for child := range parser.ChildrenIter(expr) {
		if e, ok := child.(parser.Expr); ok && s.inspect(e, within) {
			found = true
		}
	}
	s.free = s.free || !found
	return found
}

func (s *references) add(sel *parser.VectorSelector, within []parser.Expr) {
	r := reference{sel.Timestamp, sel.OriginalOffset}
	// Subqueries shift what is in them, up to the first fixed time.
	for i := len(within) - 1; i >= 0 && r.at == nil; i-- {
		if sub, ok := within[i].(*parser.SubqueryExpr); ok {
			r.offset += sub.OriginalOffset
			r.at = sub.Timestamp
		}
	}
	switch {
	case !s.found:
		s.first, s.found = r, true
	case !s.first.equal(r):
		s.mixed = true
	}
}
