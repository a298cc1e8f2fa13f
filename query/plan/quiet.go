// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// quiet tells whether no row of n can raise an error or an annotation by itself, so that nobody notices if it is not
// read. What changes histograms or merges series is not.
func quiet(n Node) bool {
	switch n := n.(type) {
	case *Select:
		return !n.Smoothed
	case *Broadcast:
		return quiet(n.Expr)
	case *Call:
		in := passedOn(n)
		return in != nil && quiet(in) && named(in)
	case *Aggregate:
		return (n.Op == parser.COUNT || n.Op == parser.GROUP) && quiet(n.Expr)
	default:
		return false
	}
}

// passedOn returns the argument of a function that changes values and no labels but the name, and does not annotate;
// nil for all others.
func passedOn(n *Call) Node {
	switch n.Func {
	case "abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "deg", "rad", "sin", "cos", "tan",
		"minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year":
		if len(n.Args) == 1 {
			return n.Args[0]
		}
	}
	return nil
}

// named tells whether all rows of n have one metric name, so that they differ without it.
func named(n Node) bool {
	switch n := n.(type) {
	case *Select:
		_, ok := n.Name()
		return ok
	case *Broadcast:
		return named(n.Expr)
	case *Call:
		in := passedOn(n)
		return in != nil && named(in)
	default:
		return false
	}
}

// distinct tells whether no two rows of n at a step belong to one group of a matching.
func distinct(n Node, m *parser.VectorMatching) bool {
	if a, ok := n.(*Aggregate); ok && !a.Without {
		return !slices.ContainsFunc(a.Grouping, func(label string) bool { return !matchedBy(m, label) })
	}
	return !m.On && len(m.MatchingLabels) == 0 && named(n)
}

// matchedBy tells whether rows that match have the same value of a label.
func matchedBy(m *parser.VectorMatching, label string) bool {
	in := slices.Contains(m.MatchingLabels, label)
	if m.On {
		return in
	}
	return !in && label != model.MetricNameLabel
}

// known returns matchers that the labels of all rows of n meet.
func known(n Node) []*labels.Matcher {
	switch n := n.(type) {
	case *Select:
		return n.Matchers
	case *Stamp:
		return n.Select.Matchers
	case *Window:
		return n.Select.Matchers
	case *Subquery:
		return known(n.Expr)
	case *Broadcast:
		return known(n.Expr)
	case *Negate:
		return known(n.Expr)
	case *Binary:
		if n.Matching != nil {
			return nil
		}
		return append(slices.Clone(known(n.LHS)), known(n.RHS)...)
	case *Aggregate:
		if !plain(n.Op) {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(known(n.Expr)), func(m *labels.Matcher) bool { return !n.keeps(m.Name) })
	case *Call:
		if in := passedOn(n); in != nil {
			return known(in)
		}
		for _, a := range n.Args {
			if a.Type() == parser.ValueTypeMatrix && n.Func != "absent_over_time" {
				return known(a)
			}
		}
	}
	return nil
}

// keeps tells whether the groups of a have a label of their members.
func (a *Aggregate) keeps(label string) bool {
	return slices.Contains(a.Grouping, label) != a.Without && (!a.Without || label != model.MetricNameLabel)
}
