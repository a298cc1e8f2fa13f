// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/plan"
)

// settle works out the sample statistics that Prometheus' engine would have, and fails if it would have failed.
func (q *Query) settle() error {
	if q.env.Samples == nil || q.root.text != nil || q.root.none {
		return nil
	}
	b := book{operator.NewLedger(q.root.steps, q.env.Samples.PerStep())}
	b.enterRoot(q)
	return q.env.Samples.Settle(b.Ledger)
}

// book walks over a query as Prometheus' engine evaluates it.
type book struct{ *operator.Ledger }

func (b book) enterRoot(q *Query) {
	p := q.place()
	switch n := p.stands.(type) {
	case *plan.Window:
		b.Ranges(p.by.of(p.done).windows(), q.root.extra)
	case *plan.Subquery:
		inner := p.inputs()[0]
		b.Points(n.Expr.Where().When.Grid(), func() { b.enter(inner) })
	default:
		b.enter(p)
	}
}

// enter counts a node and everything below.
func (b book) enter(p place) {
	switch n := p.stands.(type) {
	case *plan.Number:
		if n.From == nil {
			b.Combine(b.Mark(), one())
			return
		}
		b.enter(place{n.From, n.From, p.by})
	case *plan.Select:
		if m := p.by.of(p.done).windows; m != nil {
			b.Smoothed(m())
			return
		}
		b.Select(p.cells())
	case *plan.Stamp:
		b.Timestamps(p.by.of(p.done).found.Cells(), p.cells())
	case *plan.Call:
		b.call(n, p)
	case *plan.Aggregate:
		mark := b.Mark()
		if n.Op == parser.COUNT_VALUES {
			b.combine(mark, p, p.inputs()[1:])
			return
		}
		b.enterAll(p.inputs())
		b.Aggregate(mark, p.cells())
	case *plan.Binary:
		b.combine(b.Mark(), p, p.inputs())
	case *plan.Negate:
		b.enterAll(p.inputs())
	case *plan.Broadcast:
		in := p.inputs()[0]
		b.Broadcast(in.cells(), func() { b.enter(in) })
	}
}

func (b book) enterAll(ps []place) {
	for _, p := range ps {
		b.enter(p)
	}
}

// combine counts a node that is evaluated step by step from its inputs.
func (b book) combine(mark int64, p place, from []place) {
	var in []*operator.Cells
	for _, x := range from {
		if x.stands.Type() == parser.ValueTypeString {
			continue
		}
		b.enter(x)
		in = append(in, x.cells())
	}
	b.Combine(mark, p.cells(), in...)
}

func (b book) call(n *plan.Call, p place) {
	if m := p.by.of(p.done).windows; m != nil {
		b.windowCall(n, p, m())
		return
	}
	switch n.Func {
	case "label_replace", "label_join":
		b.enter(p.inputs()[0])
	case "info":
		b.info(p)
	default:
		b.combine(b.Mark(), p, p.inputs())
	}
}

// info counts the function that reads series of its own, after its argument.
func (b book) info(p place) {
	base := p.inputs()[0]
	b.enter(base)
	in := []*operator.Cells{base.cells()}
	infos := p.by.of(p.done).infos()
	b.Select(infos)
	b.Combine(b.Mark(), p.cells(), append(in, infos)...)
}

func (b book) windowCall(n *plan.Call, p place, m *operator.WindowMeter) {
	var sub *plan.Subquery
	var points place
	for _, in := range p.inputs() {
		switch x := in.stands.(type) {
		case *plan.Window:
		case *plan.Subquery:
			sub, points = x, in.inputs()[0]
			if !x.Expr.Where().When.None() {
				b.Subquery(x.Expr.Where().When.Grid(), x.WrittenOffset, x.Range, func() { b.enter(points) })
			}
		default:
			b.enter(in)
		}
	}
	b.Call(m, sub != nil)
	if sub != nil && !sub.Expr.Where().When.None() {
		b.Release(points.cells(), sub.Expr.Where().When.Grid().N)
	}
}

// one is the cells of a scalar.
func one() *operator.Cells { return &operator.Cells{Every: 1} }

// cells returns what the operator of a place has yielded.
func (p place) cells() *operator.Cells {
	if m := p.by.of(p.done).cells; m != nil {
		return m.Cells()
	}
	return one() // a scalar, or vector() of a number that was folded away
}
