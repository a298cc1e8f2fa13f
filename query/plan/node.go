// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
)

// Node is a part of a query. The kinds are Number, Text, Select, Window, Stamp, Subquery, Call, Aggregate, Binary, Negate,
// Broadcast and, made by a pass, Ref.
type Node interface {
	// Where tells when and where the node is evaluated.
	Where() *Place
	// Type is that of the value.
	Type() parser.ValueType
	// Inputs are the nodes whose values this one takes, in the order in which Prometheus evaluates them.
	Inputs() []Node
	// SetInput replaces the i-th of Inputs.
	SetInput(i int, n Node)
	// String is PromQL, or nearly so.
	String() string
}

// Place is when a node is evaluated and where in the query it stands.
type Place struct {
	When When
	// Slots are the places that annotations name: first that of the node itself, then those of its arguments as
	// they are written; of an aggregation first the expression and then the parameter.
	Slots []posrange.PositionRange
}

func place(when When, e parser.Expr, args ...parser.Expr) Place {
	p := Place{When: when, Slots: make([]posrange.PositionRange, 1, 1+len(args))}
	p.Slots[0] = e.PositionRange()
	for _, a := range args {
		p.Slots = append(p.Slots, a.PositionRange())
	}
	return p
}

// Where implements Node.
func (p *Place) Where() *Place { return p }

// leaf is a node without inputs.
type leaf struct{}

// Inputs implements Node.
func (leaf) Inputs() []Node { return nil }

// SetInput implements Node.
func (leaf) SetInput(int, Node) {}

// Number is a float that is the same at every step.
type Number struct {
	Place
	leaf
	Value float64
	// From is what it was computed from when the query was planned, nil if it stands in the query.
	From Node
}

// Type implements Node.
func (*Number) Type() parser.ValueType { return parser.ValueTypeScalar }

// Text is a string.
type Text struct {
	Place
	leaf
	Value string
}

// Type implements Node.
func (*Text) Type() parser.ValueType { return parser.ValueTypeString }

// Select is a selector of an instant vector.
type Select struct {
	Place
	leaf
	// Matchers are those to read with; Written those of the query, from which absent() makes labels.
	Matchers, Written []*labels.Matcher
	// Offset is added to nothing but subtracted from the time of each step, milliseconds. That is so with an @
	// modifier too, which is an offset relative to the first step.
	Offset int64
	// At is the time of an @ modifier, WrittenOffset the offset of the query; for functions to which the time of a
	// step does not matter then.
	At            *int64
	WrittenOffset int64
	// Anchored and Smoothed are the extended selectors.
	Anchored, Smoothed bool
	// StatsOnly says that of native histograms count and sum are enough.
	StatsOnly bool
	Hint      Hint
}

// Type implements Node.
func (*Select) Type() parser.ValueType { return parser.ValueTypeVector }

// Name returns the metric name if the selector asks for exactly one.
func (s *Select) Name() (string, bool) {
	for _, m := range s.Matchers {
		if m.Name == labels.MetricName && m.Type == labels.MatchEqual && m.Value != "" {
			return m.Value, true
		}
	}
	return "", false
}

// Hint is what Prometheus' engine tells a storage about a selector besides its matchers.
type Hint struct {
	Start, End  int64 // closed range of times that may be read
	Step, Range int64
	Func        string
	Grouping    []string
	By          bool
}

// Window is a selector of a range vector.
type Window struct {
	Place
	leaf
	// Select has the matchers, the offset and the modifiers. It is not evaluated by itself.
	Select *Select
	Range  int64 // milliseconds
}

// Type implements Node.
func (*Window) Type() parser.ValueType { return parser.ValueTypeMatrix }

// Stamp is the times of the samples that a selector finds, or with Begin their start timestamps: timestamp(x) and
// start_timestamp(x) of a selector.
type Stamp struct {
	Place
	leaf
	// Select is not evaluated by itself.
	Select *Select
	Begin  bool
}

// Type implements Node.
func (*Stamp) Type() parser.ValueType { return parser.ValueTypeVector }

// Subquery is a range vector of the values of an expression.
type Subquery struct {
	Place
	// Expr is evaluated at times of its own.
	Expr  Node
	Range int64 // milliseconds
	Step  int64
	// Offset is that of the window from the time of a step; with At, of the only window from the first step.
	Offset int64
	At     *int64
	// WrittenOffset is the offset of the query without what At adds.
	WrittenOffset int64
}

// Type implements Node.
func (*Subquery) Type() parser.ValueType { return parser.ValueTypeMatrix }

// Inputs implements Node.
func (s *Subquery) Inputs() []Node { return []Node{s.Expr} }

// SetInput implements Node.
func (s *Subquery) SetInput(_ int, n Node) { s.Expr = n }

// Call is a function.
type Call struct {
	Place
	Func string
	// Args are as written.
	Args []Node
	// Result is the type of the function's value.
	Result parser.ValueType
	// Written is the call as it stands in the query, for info(), which looks at the modifiers of its argument.
	Written *parser.Call
}

// Type implements Node.
func (c *Call) Type() parser.ValueType { return c.Result }

// order returns the numbers of the arguments in the order of evaluation: a subquery comes first.
func (c *Call) order() []int {
	first := slices.IndexFunc(c.Args, func(a Node) bool { _, ok := a.(*Subquery); return ok })
	order := make([]int, 0, len(c.Args))
	if first >= 0 {
		order = append(order, first)
	}
	for i := range c.Args {
		if i != first {
			order = append(order, i)
		}
	}
	return order
}

// Inputs implements Node. The second argument of info() is a selector in form only.
func (c *Call) Inputs() []Node {
	if c.Func == "info" {
		return c.Args[:1]
	}
	in := make([]Node, 0, len(c.Args))
	for _, i := range c.order() {
		in = append(in, c.Args[i])
	}
	return in
}

// SetInput implements Node.
func (c *Call) SetInput(i int, n Node) { c.Args[c.order()[i]] = n }

// Aggregate is an aggregation.
type Aggregate struct {
	Place
	Op       parser.ItemType
	Grouping []string // sorted
	Without  bool
	// Param is the parameter of those that have one, else nil.
	Param Node
	Expr  Node
	// Only leaves out rows of Expr that do not match; in a plan, not in a query.
	Only []*labels.Matcher
	// Multi is set for aggregations of the same input that are fed together.
	Multi *Multi
}

// Type implements Node.
func (*Aggregate) Type() parser.ValueType { return parser.ValueTypeVector }

// Inputs implements Node.
func (a *Aggregate) Inputs() []Node {
	if a.Param == nil {
		return []Node{a.Expr}
	}
	return []Node{a.Param, a.Expr}
}

// SetInput implements Node.
func (a *Aggregate) SetInput(i int, n Node) {
	if a.Param != nil && i == 0 {
		a.Param = n
		return
	}
	a.Expr = n
}

// Binary is a binary operator between scalars, vectors, or one of each.
type Binary struct {
	Place
	Op       parser.ItemType
	LHS, RHS Node
	// Scalar tells that both operands are scalars. Matching is set between vectors.
	Scalar   bool
	Matching *parser.VectorMatching
	Bool     bool
	// Narrow says that rows which find no match need not be read.
	Narrow bool
}

// Type implements Node.
func (b *Binary) Type() parser.ValueType {
	if b.Scalar {
		return parser.ValueTypeScalar
	}
	return parser.ValueTypeVector
}

// Inputs implements Node.
func (b *Binary) Inputs() []Node { return []Node{b.LHS, b.RHS} }

// SetInput implements Node.
func (b *Binary) SetInput(i int, n Node) {
	if i == 0 {
		b.LHS = n
		return
	}
	b.RHS = n
}

// Negate is the unary minus.
type Negate struct {
	Place
	Expr Node
}

// Type implements Node.
func (n *Negate) Type() parser.ValueType { return n.Expr.Type() }

// Inputs implements Node.
func (n *Negate) Inputs() []Node { return []Node{n.Expr} }

// SetInput implements Node.
func (n *Negate) SetInput(_ int, x Node) { n.Expr = x }

// Broadcast evaluates an expression at the first step and takes its value for every step.
type Broadcast struct {
	Place
	Expr Node
}

// Type implements Node.
func (b *Broadcast) Type() parser.ValueType { return b.Expr.Type() }

// Inputs implements Node.
func (b *Broadcast) Inputs() []Node { return []Node{b.Expr} }

// SetInput implements Node.
func (b *Broadcast) SetInput(_ int, n Node) { b.Expr = n }
