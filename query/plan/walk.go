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
