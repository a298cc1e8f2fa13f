// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// hint says what Prometheus' engine would tell a storage about the selector v, which stands under path; span is the
// range of the range selector it belongs to, 0 if to none.
func (p *Plan) hint(v *parser.VectorSelector, path []parser.Node, span time.Duration) Hint {
	start, end := p.reach(v, path, span)
	step := p.innerStep(path)
	if step == 0 {
		step = p.opts.Interval.Milliseconds()
	}
	h := Hint{Start: start, End: end, Step: step, Range: span.Milliseconds(), Func: nearestFunc(path)}
	if len(path) > 0 {
		if a, ok := path[len(path)-1].(*parser.AggregateExpr); ok {
			h.By, h.Grouping = !a.Without, a.Grouping
		}
	}
	return h
}

// reach returns the range of times that a selector may read.
func (p *Plan) reach(v *parser.VectorSelector, path []parser.Node, span time.Duration) (start, end int64) {
	offset, within, at := subqueryShift(path)
	start, end = milliseconds(p.opts.Start), milliseconds(p.opts.End)
	if at != nil {
		start, end = *at, *at
	}
	if v.Timestamp != nil {
		start, end = *v.Timestamp, *v.Timestamp
	} else {
		start -= offset.Milliseconds() + within.Milliseconds()
		end -= offset.Milliseconds()
	}
	left, right := span, time.Duration(0)
	if span == 0 {
		left = p.opts.Lookback
	} else if v.Anchored || v.Smoothed {
		left += p.opts.Lookback
	}
	if v.Smoothed {
		right = p.opts.Lookback
	}
	by := v.OriginalOffset.Milliseconds()
	// Ranges are open at the left, hence the millisecond.
	return start - left.Milliseconds() + 1 - by, end + right.Milliseconds() - by
}

// subqueryShift adds up the offsets and ranges of the subqueries on the way to a node. An @ modifier makes void what
// came before it; its time is returned.
func subqueryShift(path []parser.Node) (offset, within time.Duration, at *int64) {
	for _, n := range path {
		s, ok := n.(*parser.SubqueryExpr)
		if !ok {
			continue
		}
		if s.Timestamp != nil {
			offset, within, at = 0, 0, s.Timestamp
		}
		offset += s.OriginalOffset
		within += s.Range
	}
	return offset, within, at
}

// innerStep returns the step of the innermost subquery of path in milliseconds, 0 if there is none.
func (p *Plan) innerStep(path []parser.Node) int64 {
	for i := len(path) - 1; i >= 0; i-- {
		if s, ok := path[i].(*parser.SubqueryExpr); ok {
			return p.stepOf(s)
		}
	}
	return 0
}

func (p *Plan) stepOf(s *parser.SubqueryExpr) int64 {
	if s.Step != 0 {
		return s.Step.Milliseconds()
	}
	return p.opts.SubqueryStep(s.Range.Milliseconds())
}

// nearestFunc returns the function or aggregation closest to the end of path that is not beyond a binary operator.
func nearestFunc(path []parser.Node) string {
	for i := len(path) - 1; i >= 0; i-- {
		switch n := path[i].(type) {
		case *parser.AggregateExpr:
			return n.Op.String()
		case *parser.Call:
			return n.Func.Name
		case *parser.BinaryExpr:
			return ""
		}
	}
	return ""
}
