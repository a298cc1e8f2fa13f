// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operand

import (
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// All returns ids, or those of n rows for nil.
func All(ids []uint32, n int) []uint32 {
	if ids != nil {
		return ids
	}
	ids = make([]uint32, n)
	for i := range ids {
		ids[i] = uint32(i)
	}
	return ids
}

// Results are the results that a cursor has yet to yield.
type Results []uint32

// Pop takes the next one.
func (r *Results) Pop() uint32 {
	id := (*r)[0]
	*r = (*r)[1:]
	return id
}

// Fill makes a batch of the next results: add takes some of them, and adds at most limit rows.
func (r *Results) Fill(env *operator.Env, to *vector.Batch, steps int, add func(limit int) error) (bool, error) {
	if err := env.Check(); err != nil {
		return false, err
	}
	to.Reset(steps)
	limit := min(operator.BatchRows(steps), len(*r))
	if err := to.Reserve(limit); err != nil {
		return false, err
	}
	for to.Rows() < limit && len(*r) > 0 {
		if err := add(limit - to.Rows()); err != nil {
			return false, err
		}
	}
	return to.Rows() > 0, nil
}

// AddCopy adds a row like another one to a batch and returns its number.
func AddCopy(to *vector.Batch, id uint32, row Row) (int, error) {
	at, err := to.Add(id)
	if err != nil {
		return 0, err
	}
	return at, CopyRow(to, at, row.Batch, row.At)
}
