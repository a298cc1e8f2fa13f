// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// propagateMatchers gives one side of an operator the matchers of the other for labels that have to agree, where
// nobody can notice that rows without a match are not there: they must raise nothing themselves, and what is raised
// about the groups of the side that is to be unique depends on whether the other side has any row at all.
func propagateMatchers() Pass {
	return Pass{
		Name: "propagate-matchers", Does: "reads only series that can find a match on the other side of an operator",
		apply: func(p *Plan) string {
			if !p.opts.NoStatistics {
				return countsMatter
			}
			visit(p.Root, func(n Node) {
				b, ok := n.(*Binary)
				if !ok || b.Matching == nil || !unnoticed(b) {
					return
				}
				left, right := agreed(known(b.LHS), b.Matching), agreed(known(b.RHS), b.Matching)
				if quiet(b.RHS) {
					push(b.RHS, left)
				}
				if quiet(b.LHS) && b.Op != parser.LUNLESS {
					push(b.LHS, right)
				}
			})
			return ""
		},
	}
}

// countsMatter is why a pass that reads less is not applied.
const countsMatter = "the statistics of the query would tell"

// unnoticed tells whether rows that match nothing, and raise nothing themselves, can be left out on a side of b that
// does not yield them.
func unnoticed(b *Binary) bool {
	m := b.Matching
	if m.FillValues.LHS != nil || m.FillValues.RHS != nil {
		return false
	}
	switch {
	case b.Op == parser.LOR:
		return false
	case b.Op.IsSetOperator():
		return true
	case m.Card == parser.CardOneToMany:
		return distinct(b.LHS, m)
	default:
		return distinct(b.RHS, m)
	}
}

// agreed returns the matchers for labels that have the same value on both sides of a match.
func agreed(ms []*labels.Matcher, m *parser.VectorMatching) []*labels.Matcher {
	return slices.DeleteFunc(slices.Clone(ms), func(x *labels.Matcher) bool { return !matchedBy(m, x.Name) })
}

// push adds matchers to what a quiet node reads.
func push(n Node, ms []*labels.Matcher) {
	switch n := n.(type) {
	case *Select:
		n.Matchers = canonical(append(slices.Clone(n.Matchers), ms...))
	case *Broadcast:
		push(n.Expr, ms)
	case *Call:
		push(passedOn(n), ms)
	case *Aggregate:
		push(n.Expr, slices.DeleteFunc(slices.Clone(ms), func(m *labels.Matcher) bool { return !n.keeps(m.Name) }))
	}
}

// narrowJoins lets joins leave out rows that find no match, where nobody can notice.
func narrowJoins() Pass {
	return Pass{
		Name: "narrow-joins", Does: "decodes only series that have a match on the other side of an operator",
		apply: func(p *Plan) string {
			if !p.opts.NoStatistics {
				return countsMatter
			}
			visitAll(p.Root, func(n Node) {
				if b, ok := n.(*Binary); ok && b.Matching != nil {
					b.Narrow = unnoticed(b) && quiet(origin(b.LHS)) && quiet(origin(b.RHS))
				}
			})
			return ""
		},
	}
}
