// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// hint says what Prometheus' engine would tell a storage about a selector; span is the range of the range selector it
// belongs to, 0 if to none.
func (t *translator) hint(v *parser.VectorSelector, span time.Duration) Hint {
	start, end := t.reach(v, span)
	h := Hint{Start: start, End: end, Step: t.plan.opts.Interval.Milliseconds(), Range: span.Milliseconds(), Func: t.nearest}
	if n := len(t.within); n > 0 {
		h.Step = t.plan.stepOf(t.within[n-1])
	}
	if a, ok := t.parent.(*parser.AggregateExpr); ok {
		h.By, h.Grouping = !a.Without, a.Grouping
	}
	return h
}

// reach returns the range of times that a selector may read.
func (t *translator) reach(v *parser.VectorSelector, span time.Duration) (start, end int64) {
	o := &t.plan.opts
	offset, within, at := shift(t.within)
	start, end = milliseconds(o.Start), milliseconds(o.End)
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
		left = o.Lookback
	} else if v.Anchored || v.Smoothed {
		left += o.Lookback
	}
	if v.Smoothed {
		right = o.Lookback
	}
	by := v.OriginalOffset.Milliseconds()
	// Ranges are open at the left, hence the millisecond.
	return start - left.Milliseconds() + 1 - by, end + right.Milliseconds() - by
}

// shift adds up the offsets and ranges of subqueries that stand in each other, the outermost first. An @ modifier makes
// void what came before it; its time is returned.
func shift(subqueries []*parser.SubqueryExpr) (offset, within time.Duration, at *int64) {
	for _, s := range subqueries {
		if s.Timestamp != nil {
			offset, within, at = 0, 0, s.Timestamp
		}
		offset += s.OriginalOffset
		within += s.Range
	}
	return offset, within, at
}

// stepOf returns the step of a subquery in milliseconds.
func (p *Plan) stepOf(s *parser.SubqueryExpr) int64 {
	if s.Step != 0 {
		return s.Step.Milliseconds()
	}
	return p.opts.SubqueryStep(s.Range.Milliseconds())
}
