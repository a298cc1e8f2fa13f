// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"fmt"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/aggregate"
	"github.com/tidemarkdb/tidemark/query/operator/function"
	"github.com/tidemarkdb/tidemark/query/operator/join"
	"github.com/tidemarkdb/tidemark/query/operator/scalar"
	"github.com/tidemarkdb/tidemark/query/operator/scan"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// builder makes operators of nodes.
type builder struct {
	*construction
	// env is what the operators of the node at hand share; that of the query unless they are metered one by one.
	env *operator.Env
	// within tells that the node at hand is inside a subquery.
	within bool
}

// construction is what builders of one query have in common.
type construction struct {
	base *operator.Env
	plan *plan.Plan
	// single evaluates shared nodes where they stand.
	single bool
	opts   Options
	parts  map[plan.Node]*part
	noted  map[*operator.Notes]bool
	// repeated is the input of the last plan.Broadcast.
	repeated plan.Node
	// These are nil until there is one.
	shared  map[*plan.Shared]*shared
	handles map[*plan.Ref]*handle
	multis  map[*plan.Multi][]aggregate.Node
}

// part is what is to be known about the operators of one node.
type part struct {
	// notes are those that annotate.
	notes []operator.Annotated
	// cells, found, windows and infos count what a Ledger has to know: what the node yields, the samples that a Stamp
	// finds, the windows of a range vector, and the series that info() reads.
	cells, found *operator.Meter
	windows      func() *operator.WindowMeter
	infos        func() *operator.Cells
	// meter is nil unless the query is analyzed.
	meter *meter
}

func newBuilder(env *operator.Env, p *plan.Plan, o Options) *builder {
	return &builder{env: env, construction: &construction{
		base: env, plan: p, opts: o, parts: map[plan.Node]*part{}, noted: map[*operator.Notes]bool{},
	}}
}

// of returns what is known about a node.
func (c *construction) of(n plan.Node) *part {
	p := c.parts[n]
	if p == nil {
		p = &part{}
		c.parts[n] = p
	}
	return p
}

// root builds the operators of the plan.
func (b *builder) root() (r root, err error) {
	n := b.plan.Root
	when := n.Where().When
	r = root{kind: n.Type(), grid: when.Grid(), steps: when.Grid(), none: when.None()}
	if !b.plan.Instant() {
		r.kind = parser.ValueTypeMatrix
	}
	if r.none {
		return r, nil
	}
	switch n := n.(type) {
	case *plan.Text:
		r.text = &n.Value
		return r, nil
	case *plan.Window:
		if r.ranges, err = b.ranges(n, false); err == nil {
			r.ranges = b.windowMeter(n).Ranges(r.ranges)
		}
		return r, err
	case *plan.Subquery:
		r.none = n.Expr.Where().When.None()
		b.within = true
		r.node, err = b.vector(n.Expr)
	default:
		if n.Type() == parser.ValueTypeScalar {
			r.scalar, err = b.scalar(n)
			return r, err
		}
		r.node, err = b.vector(n)
	}
	if err == nil && b.env.DelayedNameRemoval {
		r.node = r.atEnd(b.env, r.node)
	}
	return r, err
}

// noting remembers that an operator of n may annotate. Those that only hand on what their input notes are left out.
func (b *builder) noting(n plan.Node, op any) {
	if a, ok := op.(operator.Annotated); ok && !b.noted[a.Notes()] {
		b.noted[a.Notes()] = true
		p := b.of(n)
		p.notes = append(p.notes, a)
	}
}

// vector builds a node whose value is an instant vector.
func (b *builder) vector(n plan.Node) (operator.Node, error) {
	if n.Where().When.None() {
		return newEmpty(b.env, n.Where().When.Grid()), nil
	}
	at := b.at(n)
	op, err := at.vectorOf(n)
	if err != nil {
		return nil, err
	}
	b.readBy(n, op)
	b.noting(n, op)
	if w, ok := op.(interface{ WindowMeter() *operator.WindowMeter }); ok {
		b.of(n).windows = w.WindowMeter
	}
	if _, ok := n.(*plan.Ref); !ok {
		op = at.count(n, op)
	}
	return metered(at, n, op, meterNode), nil
}

// readBy tells an operator that may make one series of two who reads it.
func (b *builder) readBy(n plan.Node, op operator.Node) {
	switch n {
	case b.plan.Root:
		function.ReadBy(op, function.Answer)
	case b.repeated:
		function.ReadBy(op, function.Repeat)
	}
}

// count makes the cells of an operator be counted.
func (b *builder) count(n plan.Node, op operator.Node) operator.Node {
	s, ok := n.(*plan.Select)
	m := operator.NewMeter(b.env, ok)
	if ok && s.Smoothed {
		m = operator.NewLightMeter(b.env)
	}
	b.of(n).cells = m
	return m.Node(op)
}

func (b *builder) vectorOf(n plan.Node) (operator.Node, error) {
	grid := n.Where().When.Grid()
	switch n := n.(type) {
	case *plan.Select:
		return scan.NewInstant(b.env, b.selector(n, false), grid), nil
	case *plan.Stamp:
		return b.stamp(n)
	case *plan.Call:
		return b.call(n)
	case *plan.Aggregate:
		return b.aggregate(n)
	case *plan.Binary:
		return b.binary(n)
	case *plan.Negate:
		in, err := b.vector(n.Expr)
		if err != nil {
			return nil, err
		}
		return function.NewNegate(b.env, in), nil
	case *plan.Broadcast:
		b.repeated = n.Expr
		in, err := b.vector(n.Expr)
		if err != nil {
			return nil, err
		}
		return scan.NewBroadcast(in, grid), nil
	case *plan.Ref:
		return b.ref(n)
	default:
		return nil, fmt.Errorf("no operator for the vector %s (%T)", n, n)
	}
}

// stamp builds the times of the samples of a selector. Without start timestamps they are looked for all the same, as
// the statistics tell.
func (b *builder) stamp(n *plan.Stamp) (operator.Node, error) {
	grid, begin := n.When.Grid(), n.Begin && b.env.UseStartTimestamps
	s := b.selector(n.Select, begin)
	if at := n.Select.At; at != nil {
		s.At, s.Offset = at, n.Select.WrittenOffset
	}
	m := operator.NewMeter(b.env, true)
	b.of(n).found = m
	op := m.Node(scan.NewTimestamps(b.env, s, begin, grid))
	if n.Begin && !begin {
		return function.Build(b.env, function.Call{Func: "start_timestamp", Grid: grid, In: op})
	}
	return function.NewMerge(b.env, op, function.PerStep), nil
}

// differs tells whether a function of windows takes differences within them: of the counter reset hint of the first
// histogram of a window it looks at nothing but whether it is a gauge.
func differs(name string) bool { return name == "rate" || name == "increase" || name == "delta" }

// selector says what to read for a selector.
func (b *builder) selector(s *plan.Select, st bool) scan.Selector {
	h := s.Hint
	return scan.Selector{
		Matchers: s.Matchers, Offset: s.Offset, Anchored: s.Anchored, Smoothed: s.Smoothed, StatsOnly: s.StatsOnly, ST: st,
		Hint: column.Hint{MinT: h.Start, MaxT: h.End, Use: column.Use{
			Step: h.Step, Range: h.Range, Func: h.Func, Grouping: h.Grouping, By: h.By,
		}},
	}
}

// scalar builds a node whose value is a scalar.
func (b *builder) scalar(n plan.Node) (operator.Scalar, error) {
	at := b.at(n)
	op, err := at.scalarOf(n)
	if err != nil {
		return nil, err
	}
	return metered(at, n, op, meterScalar), nil
}

func (b *builder) scalarOf(n plan.Node) (operator.Scalar, error) {
	grid := n.Where().When.Grid()
	switch n := n.(type) {
	case *plan.Number:
		return scalar.Number(b.env, grid, n.Value), nil
	case *plan.Negate:
		in, err := b.scalar(n.Expr)
		if err != nil {
			return nil, err
		}
		return scalar.Negate(b.env, in), nil
	case *plan.Broadcast:
		in, err := b.scalar(n.Expr)
		if err != nil {
			return nil, err
		}
		return scalar.Broadcast(b.env, in, grid), nil
	case *plan.Binary:
		lhs, err := b.scalar(n.LHS)
		if err != nil {
			return nil, err
		}
		rhs, err := b.scalar(n.RHS)
		if err != nil {
			return nil, err
		}
		return scalar.Binary(b.env, n.Op, lhs, rhs), nil
	case *plan.Call:
		return b.scalarCall(n)
	default:
		return nil, fmt.Errorf("no operator for the scalar %s (%T)", n, n)
	}
}

// ranges builds a node whose value is a range vector; st: its start timestamps are used.
func (b *builder) ranges(n plan.Node, st bool) (operator.Ranges, error) {
	at := b.at(n)
	op, err := at.rangesOf(n, st)
	if err != nil {
		return nil, err
	}
	b.noting(n, op)
	return metered(at, n, op, meterRanges), nil
}

func (b *builder) rangesOf(n plan.Node, st bool) (operator.Ranges, error) {
	when := n.Where().When
	switch n := n.(type) {
	case *plan.Window:
		s := b.selector(n.Select, st)
		if n.Select.At != nil {
			at := when.Start - n.Select.Offset
			s.At, s.Offset = &at, 0
		}
		s.AnyFirst = !st && !s.Anchored && !s.Smoothed && differs(s.Hint.Use.Func)
		s.Differs = s.AnyFirst
		r := scan.NewRange(b.env, s, n.Range, when.Grid())
		b.noting(n, r)
		return r, nil
	case *plan.Subquery:
		b.within = true
		in, err := b.vector(n.Expr)
		if err != nil {
			return nil, err
		}
		w := operator.Windows{Grid: when.Grid(), Start: when.Start - n.Offset, Step: when.Step, Range: n.Range}
		if n.At != nil {
			w.Step = 0
		}
		r := scan.NewSubquery(b.env, in, w)
		b.noting(n, r)
		return r, nil
	default:
		return nil, fmt.Errorf("no operator for the range vector %s (%T)", n, n)
	}
}

func (b *builder) binary(n *plan.Binary) (operator.Node, error) {
	left, right := n.LHS.Type() == parser.ValueTypeScalar, n.RHS.Type() == parser.ValueTypeScalar
	if !left && !right {
		lhs, err := b.vector(n.LHS)
		if err != nil {
			return nil, err
		}
		rhs, err := b.vector(n.RHS)
		if err != nil {
			return nil, err
		}
		return join.New(b.env, join.Call{Op: n.Op, Bool: n.Bool, Matching: n.Matching, Left: lhs, Right: rhs, Narrow: n.Narrow}), nil
	}
	v, s := n.LHS, n.RHS
	if left {
		v, s = s, v
	}
	in, err := b.vector(v)
	if err != nil {
		return nil, err
	}
	by, err := b.scalar(s)
	if err != nil {
		return nil, err
	}
	return function.NewBinary(b.env, function.Binary{Op: n.Op, Vector: in, Scalar: by, Swapped: left, Bool: n.Bool}), nil
}

func (b *builder) aggregate(n *plan.Aggregate) (operator.Node, error) {
	if n.Multi != nil && !b.single {
		return b.multi(n)
	}
	c := b.aggregateConfig(n)
	var err error
	if c.Param == nil && n.Param != nil && n.Op != parser.COUNT_VALUES {
		if c.Param, err = b.scalar(n.Param); err != nil {
			return nil, err
		}
	}
	in, err := b.vector(n.Expr)
	if err != nil {
		return nil, err
	}
	return aggregate.New(b.env, c, in), nil
}

func (b *builder) aggregateConfig(n *plan.Aggregate) aggregate.Config {
	c := aggregate.Config{Op: n.Op, Grouping: n.Grouping, Without: n.Without, Where: n.Only}
	if label, ok := n.Param.(*plan.Text); ok {
		c.Label = label.Value
	}
	return c
}

// multi builds an aggregation that shares the loop over its input with others.
func (b *builder) multi(n *plan.Aggregate) (operator.Node, error) {
	m := n.Multi
	if b.multis[m] == nil {
		in, err := b.inputOf(m)
		if err != nil {
			return nil, err
		}
		configs := make([]aggregate.Config, len(m.Members))
		for i, a := range m.Members {
			configs[i] = b.aggregateConfig(a)
		}
		if b.multis == nil {
			b.multis = map[*plan.Multi][]aggregate.Node{}
		}
		b.multis[m] = aggregate.NewMulti(b.env, configs, in)
	}
	for i, a := range m.Members {
		if a == n {
			return b.multis[m][i], nil
		}
	}
	return nil, fmt.Errorf("%s is no member of its own group", n)
}

// inputOf builds the input of several aggregations. Where other places take it too, they take it as one.
func (b *builder) inputOf(m *plan.Multi) (operator.Node, error) {
	if m.Input.Whole == m {
		return b.shareOf(m.Input).whole()
	}
	refs := make([]*plan.Ref, 0, len(m.Members))
	chosen := 0
	for i, a := range m.Members {
		r, ok := a.Expr.(*plan.Ref)
		if !ok {
			return nil, fmt.Errorf("the input of %s is not shared", a)
		}
		if r.Primary() {
			chosen = i
		}
		refs = append(refs, r)
	}
	in, err := b.vector(refs[chosen])
	for _, r := range refs {
		b.handles[r] = b.handles[refs[chosen]]
	}
	return in, err
}
