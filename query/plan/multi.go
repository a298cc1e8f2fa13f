// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/prometheus/prometheus/promql/parser"
)

// Multi is several aggregations of one shared input, which is read once for all of them.
type Multi struct {
	Members []*Aggregate
	Input   *Shared
}

// joinAggregations makes one loop of the loops of several aggregations over one input. Only those that cannot fail by
// themselves take part, so that errors come in the order of the query.
func joinAggregations() Pass {
	return Pass{
		Name: "multi-aggregation", Does: "feeds aggregations of one input together, so that its rows need not be kept",
		apply: func(p *Plan) string {
			found := map[*Shared]*Multi{}
			var order []*Shared
			visitAll(p.Root, func(n Node) {
				a, ok := n.(*Aggregate)
				if !ok || !plain(a.Op) {
					return
				}
				r, ok := a.Expr.(*Ref)
				if !ok {
					return
				}
				if found[r.To] == nil {
					found[r.To] = &Multi{Input: r.To}
					order = append(order, r.To)
				}
				found[r.To].Members = append(found[r.To].Members, a)
			})
			for _, s := range order {
				m := found[s]
				if len(m.Members) < 2 {
					continue
				}
				for _, a := range m.Members {
					a.Multi = m
				}
				if len(m.Members) == len(s.Refs) {
					s.Whole = m
				}
			}
			if len(order) == 0 {
				return "nothing is shared"
			}
			return ""
		},
	}
}

// plain tells whether an aggregation has neither a parameter nor errors of its own.
func plain(op parser.ItemType) bool {
	return slices.Contains([]parser.ItemType{
		parser.SUM, parser.AVG, parser.MIN, parser.MAX, parser.COUNT, parser.GROUP, parser.STDDEV, parser.STDVAR,
	}, op)
}
