// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// selectorsOf returns the matchers of every selector of a query whose answer for a stretch of time is the
// concatenation of its answers for the parts, so that it may be put together from parts computed at different times;
// of any other query it returns the part for which that is not so. It looks at the text as parsed, before anything is
// folded.
//
// Left out is what depends on more than a step and its input:
//
//   - what refers to the range asked for, start(), end() and range(), and duration expressions, in which those may hide;
//   - an @ modifier below a subquery: where the subquery happens to begin at the first step of the query, Prometheus
//     reads at another time;
//   - what may give two series the same labels but for their names, below a subquery: a function of ranges fails then,
//     though they be there at different times. These are label_replace, label_join, selectors without a metric name,
//     `or`, count_values, histogram_quantiles, and group_left and group_right with __name__;
//   - topk, bottomk and limitk of series that are in no order of their own, such as groups, which are in the order in
//     which the range first has a sample of them: of equal ones the first are taken;
//   - parameters of aggregations that are no numbers: whether they are valid is told for all of the range;
//   - info(), which selects by itself, and the sort functions, which warn where there is more than one step.
func selectorsOf(expr parser.Expr) (selectors [][]*labels.Matcher, whole string) {
	parser.Inspect(expr, func(n parser.Node, path []parser.Node) error {
		if v, is := n.(*parser.VectorSelector); is {
			selectors = append(selectors, v.LabelMatchers)
		}
		if whole == "" && !splits(n, below[*parser.SubqueryExpr](path)) {
			whole = n.String()
		}
		return nil
	})
	if len(selectors) == 0 {
		whole = "there is no selector"
	}
	return selectors, whole
}

// splits tells whether what n does at a step depends on its input at that step only. inner says that it is below a
// subquery.
func splits(n parser.Node, inner bool) bool {
	switch n := n.(type) {
	case *parser.VectorSelector:
		return n.StartOrEnd == 0 && n.OriginalOffsetExpr == nil && named(n.LabelMatchers) && (n.Timestamp == nil || !inner)
	case *parser.MatrixSelector:
		return n.RangeExpr == nil
	case *parser.SubqueryExpr:
		return n.StartOrEnd == 0 && n.OriginalOffsetExpr == nil && n.RangeExpr == nil && n.StepExpr == nil && (n.Timestamp == nil || !inner)
	case *parser.Call:
		switch n.Func.Name {
		case "start", "end", "range", "step", "label_replace", "label_join", "info",
			"sort", "sort_desc", "sort_by_label", "sort_by_label_desc":
			return false
		case "histogram_quantiles":
			return !inner
		}
	case *parser.BinaryExpr:
		renames := n.Op == parser.LOR || n.VectorMatching != nil && slices.Contains(n.VectorMatching.Include, labels.MetricName)
		return !inner || !renames
	case *parser.AggregateExpr:
		switch n.Op {
		case parser.TOPK, parser.BOTTOMK, parser.LIMITK:
			return isNumber(n.Param) && ordered(n.Expr)
		case parser.QUANTILE, parser.LIMIT_RATIO:
			return isNumber(n.Param)
		case parser.COUNT_VALUES:
			return !inner
		}
	}
	return true
}

// ordered tells whether the series of a vector are in the order in which their selector finds them.
func ordered(e parser.Expr) bool {
	switch e := e.(type) {
	case *parser.VectorSelector, *parser.MatrixSelector, *parser.NumberLiteral, *parser.StringLiteral:
		return true
	case *parser.ParenExpr:
		return ordered(e.Expr)
	case *parser.UnaryExpr:
		return ordered(e.Expr)
	case *parser.SubqueryExpr:
		return ordered(e.Expr)
	case *parser.BinaryExpr:
		return e.VectorMatching == nil && (e.LHS.Type() == parser.ValueTypeScalar || ordered(e.LHS)) &&
			(e.RHS.Type() == parser.ValueTypeScalar || ordered(e.RHS))
	case *parser.Call:
		switch e.Func.Name {
		case "histogram_quantile", "histogram_quantiles", "histogram_fraction":
			return false
		}
		for _, arg := range e.Args {
			if arg.Type() != parser.ValueTypeScalar && !ordered(arg) {
				return false
			}
		}
		return true
	default:
		return false
	}
}

func isNumber(e parser.Expr) bool {
	for {
		p, ok := e.(*parser.ParenExpr)
		if !ok {
			break
		}
		e = p.Expr
	}
	_, ok := e.(*parser.NumberLiteral)
	return ok
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
