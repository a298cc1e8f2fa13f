// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// Ref is a place where the value of a shared node is taken.
type Ref struct {
	To *Shared
	// As is what stands in the query here: the same as what is shared, but at a place of its own.
	As Node
}

// Shared is a node that several places of a query have in common. It is evaluated once.
type Shared struct {
	Node Node
	Refs []*Ref
	// Whole is set where all of Refs are the input of one Multi: the rows are needed once, one after the other.
	Whole *Multi
}

// Where implements Node.
func (r *Ref) Where() *Place { return r.As.Where() }

// Type implements Node.
func (r *Ref) Type() parser.ValueType { return r.As.Type() }

// Inputs implements Node: what is shared belongs to no place alone.
func (*Ref) Inputs() []Node { return nil }

// SetInput implements Node.
func (*Ref) SetInput(int, Node) {}

// String implements Node.
func (r *Ref) String() string { return "shared(" + r.To.Node.String() + ")" }

// Primary tells whether r is the place whose node is the shared one.
func (r *Ref) Primary() bool { return r.As == r.To.Node }

// shareSubexpressions makes one of subtrees that are the same.
func shareSubexpressions() Pass {
	return Pass{
		Name: "share", Does: "evaluates once what stands more than once in the query",
		apply: func(p *Plan) string {
			if selectors(p.Root) < 2 {
				return "there is one selector at most"
			}
			s := sharing{
				ids: map[string]int{}, of: map[Node]int{}, reads: map[Node]bool{},
				uses: map[occurrence]int{}, made: map[occurrence]*Shared{},
			}
			s.number(p.Root)
			s.count(p.Root, nil)
			p.Root = s.rewrite(p.Root, nil)
			return ""
		},
	}
}

func selectors(n Node) int {
	found := 0
	visit(n, func(n Node) {
		if selectOf(n) != nil {
			found++
		}
	})
	return found
}

// sharing finds equal subtrees: nodes that are the same, their inputs included, have the same number.
type sharing struct {
	ids   map[string]int
	of    map[Node]int
	reads map[Node]bool      // there is a selector in it
	uses  map[occurrence]int // how many places take the value when equal nodes are evaluated once
	made  map[occurrence]*Shared
}

// occurrence is a number within a scope: the subquery or broadcast around it, nil for none. Samples are counted by
// scope, so what stands in different ones is not shared, unless the scopes are shared as a whole.
type occurrence struct {
	scope Node
	id    int
}

func scopeOf(n, around Node) Node {
	switch n.(type) {
	case *Subquery, *Broadcast:
		return n
	default:
		return around
	}
}

// number gives every node of a tree its number.
func (s *sharing) number(n Node) int {
	var key strings.Builder
	fmt.Fprintf(&key, "%T|%v|%s|", n, n.Where().When, own(n))
	reads := hintOf(n) != nil
	for _, in := range n.Inputs() {
		key.WriteString(strconv.Itoa(s.number(in)) + ",")
		reads = reads || s.reads[in]
	}
	s.reads[n] = reads
	id, ok := s.ids[key.String()]
	if !ok {
		id = len(s.ids) + 1
		s.ids[key.String()] = id
	}
	s.of[n] = id
	return id
}

// own is what makes a node what it is beside its inputs and when it is evaluated.
func own(n Node) string {
	switch n := n.(type) {
	case *Number:
		return strconv.FormatUint(math.Float64bits(n.Value), 16)
	case *Text:
		return n.Value
	case *Select:
		return n.identity()
	case *Window:
		return n.Select.identity() + duration(n.Range)
	case *Stamp:
		return n.Select.identity() + strconv.FormatBool(n.Begin)
	case *Subquery:
		return fmt.Sprintf("%d %d %d %t", n.Range, n.Step, n.Offset, n.At != nil)
	case *Call:
		if n.Func == "info" && len(n.Args) > 1 {
			return "info " + own(n.Args[1])
		}
		return n.Func
	case *Aggregate:
		return fmt.Sprintf("%v %t %q %q", n.Op, n.Without, n.Grouping, n.Only)
	case *Binary:
		if n.Matching == nil {
			return fmt.Sprintf("%v %t", n.Op, n.Bool)
		}
		return fmt.Sprintf("%v %t %v%s", n.Op, n.Bool, n.Matching.Card, matching(n.Matching))
	case *Negate, *Broadcast:
		return ""
	case *Ref:
		return fmt.Sprintf("%p", n.To)
	default:
		return fmt.Sprintf("%p", n) // unknown: equal to none
	}
}

func (s *Select) identity() string {
	at := "-"
	if s.At != nil {
		at = strconv.FormatInt(*s.At, 10)
	}
	return fmt.Sprintf("%q %d %s %d %t %t %t %q", s.Matchers, s.Offset, at, s.WrittenOffset, s.Anchored, s.Smoothed, s.StatsOnly, s.Written)
}

// worth tells whether the value of a node is kept rather than computed again: vectors are, unless they are made of
// numbers alone.
func (s *sharing) worth(n Node) bool { return n.Type() == parser.ValueTypeVector && s.reads[n] }

// count counts how many places take the value of a node.
func (s *sharing) count(n, scope Node) {
	if s.worth(n) {
		at := occurrence{scope, s.of[n]}
		s.uses[at]++
		if s.uses[at] > 1 {
			return
		}
	}
	for _, in := range n.Inputs() {
		s.count(in, scopeOf(n, scope))
	}
}

// rewrite puts references where several places take the value of a node.
func (s *sharing) rewrite(n, scope Node) Node {
	at := occurrence{scope, s.of[n]}
	if s.uses[at] < 2 {
		s.inside(n, scope)
		return n
	}
	shared := s.made[at]
	if shared == nil {
		shared = &Shared{Node: n}
		s.made[at] = shared
		s.inside(n, scope)
	} else {
		unhint(shared.Node, n)
	}
	r := &Ref{To: shared, As: n}
	shared.Refs = append(shared.Refs, r)
	return r
}

func (s *sharing) inside(n, scope Node) {
	for i, x := range n.Inputs() {
		if r := s.rewrite(x, scopeOf(n, scope)); r != x {
			n.SetInput(i, r)
		}
	}
}

// unhint takes out of the hints of a what b, which is the same otherwise, does not say: it is read for both.
func unhint(a, b Node) {
	if r, ok := a.(*Ref); ok {
		a = r.To.Node
	}
	if to, from := hintOf(a), hintOf(b); to != nil && from != nil {
		if to.Func != from.Func {
			to.Func = ""
		}
		if to.By != from.By || !slices.Equal(to.Grouping, from.Grouping) {
			to.By, to.Grouping = false, nil
		}
	}
	in := b.Inputs()
	for i, x := range a.Inputs() {
		unhint(x, in[i])
	}
}

func hintOf(n Node) *Hint {
	if s := selectOf(n); s != nil {
		return &s.Hint
	}
	return nil
}
