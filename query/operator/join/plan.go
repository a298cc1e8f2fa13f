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
	many, one := b.many.Table(), b.one.Table()
	p := &plan{keys: group(b.env, many, one, matchingNames(b.call.Matching, many, one))}
	nMany, nOne := p.keys.sizes(0), p.keys.sizes(1)
	hard := b.hard(p.keys, nMany, nOne)
	fill := b.call.Matching.FillValues
	p.pairs = pairs{make([]uint32, 0, many.N), make([]uint32, 0, many.N)}

	var alone []uint32                  // rows of the one side that match nothing and are filled up
	partner := make([]uint32, p.keys.n) // the row of a group that has a single one
	for row, g := range p.keys.of[1] {
		id := uint32(row)
		partner[g] = id
		switch {
		case hard[g]:
			p.hardOne = append(p.hardOne, id)
		case nMany[g] == 0 && fill.LHS != nil:
			alone = append(alone, id)
		case nMany[g] == 0:
			p.unreadOne = append(p.unreadOne, id)
		case nMany[g] > 1:
			p.shared = append(p.shared, id)
		}
	}
	for row, g := range p.keys.of[0] {
		id := uint32(row)
		switch {
		case hard[g] && (nOne[g] > 0 || b.fills()):
			p.hardMany = append(p.hardMany, id)
		case nOne[g] > 0:
			p.pairs.add(id, partner[g])
		case fill.RHS != nil:
			p.pairs.add(id, none)
		default:
			p.unreadMany = append(p.unreadMany, id)
		}
	}
	for _, id := range alone {
		p.pairs.add(none, id)
	}
	return p
}

// fills tells whether a value stands in for what is missing on some side.
func (b *pairwise) fills() bool {
	f := b.call.Matching.FillValues
	return f.LHS != nil || f.RHS != nil
}

// fillsStreams tells whether a row and its partner have one result, whichever of them is there: its labels are those
// by which they match. In an instant the place of a result among the others depends on which is there.
func (b *pairwise) fillsStreams() bool {
	if !b.fills() || b.call.Matching.Card != parser.CardOneToOne || b.Grid().N == 1 {
		return false
	}
	for i := range b.labels.cols {
		if !b.labels.cols[i].matching {
			return false
		}
	}
	return b.keeps(matchingNames(b.call.Matching, b.many.Table(), b.one.Table()))
}

// keeps tells whether results have all of some labels, as far as rows have them.
func (b *pairwise) keeps(names []string) bool {
	for _, n := range names {
		there := b.many.Table().Column(n) != nil || b.one.Table().Column(n) != nil
		if there && !slices.ContainsFunc(b.labels.cols, func(c labelColumn) bool { return c.name == n && !c.include }) {
			return false
		}
	}
	return true
}

// hard tells which groups have to be computed step by step, because the result or an error depends on which of
// their rows have a cell.
func (b *pairwise) hard(k keys, nMany, nOne []uint32) []bool {
	hard := make([]bool, k.n)
	fills, streams := b.fills(), b.fillsStreams()
	for g := range hard {
		hard[g] = nOne[g] > 1 || fills && (nMany[g] > 1 || !streams) ||
			b.call.Matching.Card == parser.CardOneToOne && nMany[g] > 1 && nOne[g] > 0
	}
	if fills || b.distinct() {
		return hard
	}
	// Results may have equal labels where rows of the many side differ only in labels that results do not have.
	many := b.many.Table()
	like := group(b.env, many, &vector.Table{}, b.labels.unique())
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
	if b.call.Matching.Card == parser.CardOneToOne {
		// Results have the labels by which groups differ.
		return b.keeps(matchingNames(b.call.Matching, many, b.one.Table()))
	}
	if b.env.DelayedNameRemoval {
		return false // Rows of an instant may be equal then.
	}
	// Rows of the many side are distinct, and the labels that go are the same in all of them.
	kept := b.labels.unique()
	return !slices.ContainsFunc(many.Names, func(n string) bool {
		_, same := constant(many.Column(n), many.N)
		return !same && !slices.Contains(kept, n)
	})
}
