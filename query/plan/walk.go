// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

// replace lets f replace every node of a tree, inputs before what they go into, and returns the new root.
func replace(n Node, f func(Node) Node) Node {
	for i, in := range n.Inputs() {
		if r := replace(in, f); r != in {
			n.SetInput(i, r)
		}
	}
	return f(n)
}

// visit calls f for every node of a tree, inputs before what they go into.
func visit(n Node, f func(Node)) {
	for _, in := range n.Inputs() {
		visit(in, f)
	}
	f(n)
}

// visitAll calls f for every node that is evaluated, shared ones included, once.
func visitAll(n Node, f func(Node)) { visitScoped(n, func(n, _ Node) { f(n) }) }

// visitScoped is visitAll that also tells the subquery or broadcast around each node, nil for none.
func visitScoped(n Node, f func(n, scope Node)) {
	seen := map[*Shared]bool{}
	var walk func(n, scope Node)
	walk = func(n, scope Node) {
		if r, ok := n.(*Ref); ok {
			if !seen[r.To] {
				seen[r.To] = true
				walk(r.To.Node, scope)
			}
			return
		}
		for _, in := range n.Inputs() {
			walk(in, scopeOf(n, scope))
		}
		f(n, scope)
	}
	walk(n, nil)
}

// origin returns what a reference stands for, and any other node as it is.
func origin(n Node) Node {
	if r, ok := n.(*Ref); ok {
		return r.To.Node
	}
	return n
}

// selectOf returns the selector of a node that reads from the storage, nil if it does not.
func selectOf(n Node) *Select {
	switch n := n.(type) {
	case *Select:
		return n
	case *Window:
		return n.Select
	case *Stamp:
		return n.Select
	default:
		return nil
	}
}
