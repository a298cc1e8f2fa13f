// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// empty is the value of an expression that is evaluated at no time. It has a grid of one step, as none has less.
type empty struct {
	table vector.Table
	grid  vector.Grid
}

func newEmpty(env *operator.Env, grid vector.Grid) *empty {
	return &empty{table: vector.Table{Dict: env.Dict}, grid: grid}
}

// Open implements operator.Node.
func (*empty) Open(context.Context) error { return nil }

// Table implements operator.Node.
func (e *empty) Table() *vector.Table { return &e.table }

// Grid implements operator.Node.
func (e *empty) Grid() vector.Grid { return e.grid }

// Cursor implements operator.Node.
func (e *empty) Cursor([]uint32) operator.Cursor { return emptyCursor{} }

// Close implements operator.Node.
func (*empty) Close() {}

type emptyCursor struct{}

// Next implements operator.Cursor.
func (emptyCursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	b.Reset(b.Steps)
	return false, nil
}

// Close implements operator.Cursor.
func (emptyCursor) Close() {}
