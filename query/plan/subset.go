// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// feedSubsets lets an aggregation over part of the series of another one take them from there: sum(x{a="1"}) / sum(x)
// reads x once. What is aggregated must raise nothing by itself, since it would be raised for the part as well.
func feedSubsets() Pass {
	return Pass{
		Name: "subsets", Does: "feeds an aggregation of some of the series of another one from the same loop",
		apply: func(p *Plan) string {
			if !p.opts.NoStatistics {
				return countsMatter
			}
			groups := map[company][]member{}
			var order []company
			visitScoped(p.Root, func(n, scope Node) {
				a, ok := n.(*Aggregate)
				if !ok || !plain(a.Op) {
					return
				}
				x := member{of: a}
				x.ref, _ = a.Expr.(*Ref)
				if x.reads, ok = origin(a.Expr).(*Select); !ok || !quiet(x.reads) {
					return
				}
				c := *x.reads
				c.Matchers, c.Written = nil, nil
				at := company{scope, c.When, c.identity()}
				if groups[at] == nil {
					order = append(order, at)
				}
				groups[at] = append(groups[at], x)
			})
			for _, at := range order {
				feed(groups[at])
			}
			return ""
		},
	}
}

// company is what selectors that are read together have in common.
type company struct {
	scope Node
	when  When
	rest  string // all but the matchers
}

// member is an aggregation of what a selector reads, by itself or shared with others.
type member struct {
	of    *Aggregate
	reads *Select
	ref   *Ref
}

// feed feeds aggregations of parts of what the widest of them reads along with that.
func feed(members []member) {
	widest := members[0]
	for _, x := range members {
		if len(x.reads.Matchers) < len(widest.reads.Matchers) {
			widest = x
		}
	}
	places := map[*Shared]int{} // of members
	for _, x := range members {
		if x.ref != nil {
			places[x.ref.To]++
		}
	}
	for _, x := range members {
		only, ok := beyond(x.reads.Matchers, widest.reads.Matchers)
		if !ok || len(only) == 0 || x.ref != nil && places[x.ref.To] < len(x.ref.To.Refs) {
			continue
		}
		from := widest.shared()
		if x.ref == nil {
			x.ref = &Ref{As: x.reads}
			x.of.Expr = x.ref
		}
		x.ref.To, x.of.Only = from, only
		from.Refs = append(from.Refs, x.ref)
		unhint(from.Node, x.reads)
	}
}

// shared makes what x aggregates something that others can take as well.
func (x *member) shared() *Shared {
	if x.ref == nil {
		x.ref = &Ref{As: x.reads, To: &Shared{Node: x.reads}}
		x.ref.To.Refs = []*Ref{x.ref}
		x.of.Expr = x.ref
	}
	return x.ref.To
}

// beyond returns the matchers of ms that are not among base; ok: all of base are among ms.
func beyond(ms, base []*labels.Matcher) (rest []*labels.Matcher, ok bool) {
	has := func(in []*labels.Matcher, m *labels.Matcher) bool {
		return slices.ContainsFunc(in, func(x *labels.Matcher) bool { return sameMatcher(x, m) })
	}
	for _, m := range base {
		if !has(ms, m) {
			return nil, false
		}
	}
	for _, m := range ms {
		if !has(base, m) {
			rest = append(rest, m)
		}
	}
	return rest, true
}
