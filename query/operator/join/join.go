// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package join has the binary operators between two vectors: arithmetic, comparisons, and the set operators.
//
// Series match by some of their labels. These are symbols of one Dict on both sides, so matching is the grouping of
// integers, done once when the operator is opened and not at every step. What comes out of it is a list of pairs, one
// for each series of the result: a row of the many side with a row of the one side ("one" is the side that may have
// one series per group; in a one-to-one match that is the right side). A cursor then moves over both operands in
// lockstep, in the order of the pairs, and computes row by row.
//
// Three sorts of rows are not streamed but held in memory when the operator is opened, 9 B a cell:
//   - rows of the one side that more than one row of the many side needs;
//   - rows of groups in which something can go wrong or change from step to step: several rows on a side that has to
//     have one, results with equal labels, values to be filled in. They are computed step by step, with the checks
//     that Prometheus' engine makes at each step, by type exact;
//   - of the set operators, the left rows of "or" that a right row may stand in for. "and" and "unless" need one byte
//     a cell, of the groups of the right side.
//
// Rows that match nothing are read all the same unless Call.Narrow allows to leave them out: their annotations and
// their statistics are part of the answer.
//
// Cost: a pair of floats is about a nanosecond beside what reading them takes. Operators follow the rules of package
// operator; everything held is charged to the query.
package join

import (
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
)

// Call is one binary operation between vectors.
type Call struct {
	Op parser.ItemType
	// Bool is the modifier of comparisons: 0 or 1 instead of filtering.
	Bool     bool
	Matching *parser.VectorMatching
	// Left and Right have the same grid.
	Left, Right operator.Node
	// Narrow leaves rows that match nothing unread. It is for when nobody would see what reading them has to say.
	Narrow bool
}

// New returns the operator for a call. Its annotations have slot 0, the position of the binary expression, and are
// complete when its cursors have ended: Notes is to be called then.
//
// Rows of the result are in the order in which Prometheus' engine has them in an instant query. Where a grid has
// several steps they have distinct labels. In an instant with delayed name removal they may have the same, as they
// may in Prometheus' engine.
func New(env *operator.Env, c Call) operator.Node {
	switch c.Op {
	case parser.LAND, parser.LUNLESS:
		return newFilter(env, c)
	case parser.LOR:
		return newUnion(env, c)
	default:
		return newPairwise(env, c)
	}
}
