// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"slices"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// plan says how the rows of both sides come together.
type plan struct {
	keys keys
	// pairs are those in which nothing can go wrong, in the order of the many side.
	pairs pairs
	// shared are rows of the one side with more than one of them.
	shared []uint32
	// hardMany and hardOne are the rows of groups that need a look at each step.
	hardMany, hardOne []uint32
	// unreadMany and unreadOne match nothing.
	unreadMany, unreadOne []uint32
}

// plan matches the rows.
func (b *pairwise) plan() *plan {
	m := b.call.Matching
	p := &plan{keys: group(b.many.Table(), b.one.Table(), matchingNames(m, b.many.Table(), b.one.Table()))}
	nMany, nOne := p.keys.sizes(0), p.keys.sizes(1)
	fill := b.fills()
	hard := b.hard(p.keys, nMany, nOne)

	p.pairs = pairs{make([]uint32, 0, b.many.Table().N), make([]uint32, 0, b.many.Table().N)}
	one := make([]uint32, p.keys.n) // the row of a group that has a single one
	for row, g := range p.keys.of[1] {
		id := uint32(row)
		one[g] = id
		switch {
		case hard[g]:
			p.hardOne = append(p.hardOne, id)
		case nMany[g] == 0:
			p.unreadOne = append(p.unreadOne, id)
		case nMany[g] > 1:
			p.shared = append(p.shared, id)
		}
	}
	for row, g := range p.keys.of[0] {
		id := uint32(row)
		switch {
		case nOne[g] == 0 && !fill:
			p.unreadMany = append(p.unreadMany, id)
		case hard[g]:
			p.hardMany = append(p.hardMany, id)
		default:
			p.pairs.add(id, one[g])
		}
	}
	return p
}

// fills tells whether a value stands in for what is missing on some side.
func (b *pairwise) fills() bool {
	f := b.call.Matching.FillValues
	return f.LHS != nil || f.RHS != nil
}

// hard tells which groups have to be computed step by step, because the result or an error depends on which of
// their rows have a cell.
func (b *pairwise) hard(k keys, nMany, nOne []uint32) []bool {
	hard := make([]bool, k.n)
	for g := range hard {
		hard[g] = b.fills() || nOne[g] > 1 ||
			b.call.Matching.Card == parser.CardOneToOne && nMany[g] > 1 && nOne[g] > 0
	}
	if b.fills() || b.distinct() {
		return hard
	}
	// Results may have equal labels where rows of the many side differ only in labels that results do not have.
	many := b.many.Table()
	like := group(many, &vector.Table{}, b.labels.unique())
	if like.n == many.N {
		return hard
	}
	alike := make([]uint32, like.n)
	for row, c := range like.of[0] {
		if nOne[k.of[0][row]] > 0 {
			alike[c]++
		}
	}
	for row, c := range like.of[0] {
		if g := k.of[0][row]; alike[c] > 1 && nOne[g] > 0 {
			hard[g] = true
		}
	}
	return hard
}

// distinct tells whether it is plain that no two results have equal labels, apart from those of groups that are hard
// anyway.
func (b *pairwise) distinct() bool {
	many := b.many.Table()
	kept := b.labels.unique()
	keeps := func(name string) bool { return slices.Contains(kept, name) }
	if b.call.Matching.Card == parser.CardOneToOne {
		// Results have the labels by which groups differ.
		names := matchingNames(b.call.Matching, many, b.one.Table())
		return !slices.ContainsFunc(names, func(n string) bool { return !keeps(n) && many.Column(n) != nil })
	}
	if b.env.DelayedNameRemoval {
		return false // Rows of an instant may be equal then.
	}
	// Rows of the many side are distinct, and the labels that go are the same in all of them.
	return !slices.ContainsFunc(many.Names, func(n string) bool {
		_, same := constant(many.Column(n), many.N)
		return !same && !keeps(n)
	})
}
