// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// selectorsOf returns the matchers of every selector of a query whose answer for a stretch of time is the
// concatenation of its answers for the parts, so that it may be put together from parts computed at different times;
// ok is false for any other query. It looks at the text as parsed, before anything is folded.
//
// Left out are: what refers to the range asked for, start(), end() and range(); duration expressions, in which those
// may hide; label_replace and label_join, selectors without a metric name and `or` below a subquery, with which two
// series may get the same labels, an error that depends on the whole range; and info(), which selects by itself.
func selectorsOf(expr parser.Expr) (selectors [][]*labels.Matcher, ok bool) {
	ok = true
	parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			if n.StartOrEnd != 0 || n.OriginalOffsetExpr != nil || !named(n.LabelMatchers) {
				ok = false
			}
			selectors = append(selectors, n.LabelMatchers)
		case *parser.MatrixSelector:
			ok = ok && n.RangeExpr == nil
		case *parser.SubqueryExpr:
			ok = ok && n.StartOrEnd == 0 && n.OriginalOffsetExpr == nil && n.RangeExpr == nil && n.StepExpr == nil
		case *parser.Call:
			switch n.Func.Name {
			case "start", "end", "range", "step", "label_replace", "label_join", "info":
				ok = false
			}
		case *parser.BinaryExpr:
			ok = ok && (n.Op != parser.LOR || !below[*parser.SubqueryExpr](path))
		}
		return nil
	})
	return selectors, ok && len(selectors) > 0
}

// named tells whether matchers ask for exactly one metric name.
func named(ms []*labels.Matcher) bool {
	for _, m := range ms {
		if m.Name == labels.MetricName && m.Type == labels.MatchEqual && m.Value != "" {
			return true
		}
	}
	return false
}

func below[T parser.Node](path []parser.Node) bool {
	for _, n := range path {
		if _, ok := n.(T); ok {
			return true
		}
	}
	return false
}
