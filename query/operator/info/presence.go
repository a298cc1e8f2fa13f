// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// presence is an input that remembers which of its rows had a cell. It takes a byte per row.
type presence struct {
	operator.Node
	env     *operator.Env
	there   []bool
	charged int64
}

// Open implements operator.Node.
func (p *presence) Open(ctx context.Context) error {
	if err := p.Node.Open(ctx); err != nil {
		return err
	}
	n := p.Table().N
	if err := p.env.Account.Reserve(int64(n)); err != nil {
		return err
	}
	p.charged, p.there = int64(n), make([]bool, n)
	return nil
}

// Close implements operator.Node.
func (p *presence) Close() {
	p.Node.Close()
	p.env.Account.Release(p.charged)
	p.there, p.charged = nil, 0
}

// Cursor implements operator.Node. Rows are read once, so that cursors write to different places.
func (p *presence) Cursor(ids []uint32) operator.Cursor {
	return &presenceCursor{p.Node.Cursor(ids), p}
}

type presenceCursor struct {
	operator.Cursor
	of *presence
}

// Next implements operator.Cursor.
func (c *presenceCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	ok, err := c.Cursor.Next(ctx, b)
	if !ok || err != nil {
		return ok, err
	}
	for i, id := range b.IDs {
		if b.Shape[i] != vector.HasGaps {
			c.of.there[id] = true
		}
	}
	return true, nil
}
