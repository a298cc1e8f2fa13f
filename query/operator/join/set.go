// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// set is what the set operators have in common.
type set struct {
	env   *operator.Env
	call  Call
	left  *operand.Operand
	right *operand.Operand

	// Valid after Open.
	table   *vector.Table
	groups  []uint32 // by row of the side of which cells are hidden
	masks   *masks
	charged int64
}

func newSet(env *operator.Env, c Call) set {
	return set{env: env, call: c, left: operand.New(env, c.Left), right: operand.New(env, c.Right)}
}

// open opens both sides.
func (s *set) open(ctx context.Context) error {
	if err := s.left.Open(ctx); err != nil {
		return err
	}
	return s.right.Open(ctx)
}

// match groups the rows of both sides, after charging for rowBytes each.
func (s *set) match(rowBytes int) (keys, error) {
	l, r := s.left.Table(), s.right.Table()
	bytes := int64(l.N+r.N) * int64(rowBytes)
	if err := s.env.Account.Reserve(bytes); err != nil {
		return keys{}, err
	}
	s.charged = bytes
	return group(s.env, l, r, matchingNames(s.call.Matching, l, r)), nil
}

// Table implements operator.Node.
func (s *set) Table() *vector.Table { return s.table }

// Grid implements operator.Node.
func (s *set) Grid() vector.Grid { return s.call.Left.Grid() }

// Close implements operator.Node.
func (s *set) Close() {
	s.left.Close()
	s.right.Close()
	s.masks.free()
	s.env.Account.Release(s.charged)
	s.charged = 0
}
