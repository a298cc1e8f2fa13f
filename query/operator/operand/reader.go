// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operand

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// Reader moves over rows of an operand. Rows that are streamed must be asked for in the order of the ids with which
// the reader was made, each once; the node may leave out rows without a cell. A reader belongs to one goroutine.
type Reader struct {
	of  *Operand
	cur operator.Cursor // nil: all rows are held
	b   vector.Batch
	at  int
	end bool
}

// Reader returns one for rows that are streamed, and all that are held.
func (o *Operand) Reader(streamed []uint32) *Reader {
	r := &Reader{of: o, end: true}
	if len(streamed) > 0 {
		r.cur, r.end = o.node.Cursor(streamed), false
		r.b.Budget = o.env.Account
	}
	return r
}

// Ahead returns the streamed rows that are in memory now, from the next one on. There is none at the end only.
func (r *Reader) Ahead(ctx context.Context) (Row, error) {
	for r.at == len(r.b.IDs) && !r.end {
		ok, err := r.cur.Next(ctx, &r.b)
		if err != nil {
			return Row{}, err
		}
		r.at, r.end = 0, !ok
		if !ok {
			r.b.Reset(0)
		}
	}
	return Row{&r.b, r.at}, nil
}

// Skip goes on behind the next n rows.
func (r *Reader) Skip(n int) { r.at += n }

// Streams tells whether there may be streamed rows to come.
func (r *Reader) Streams() bool { return !r.end || r.at < len(r.b.IDs) }

// Row returns a row; false if it has no cell. The row is valid until the next call.
func (r *Reader) Row(ctx context.Context, id uint32) (Row, bool, error) {
	if r.of.Holds(id) {
		return r.of.Held(id), true, nil
	}
	row, err := r.Ahead(ctx)
	if err != nil {
		return Row{}, false, err
	}
	if row.At == len(row.IDs) || row.IDs[row.At] != id {
		return Row{}, false, nil
	}
	r.at++
	return row, true, nil
}

// Close closes the cursor.
func (r *Reader) Close() {
	if r.cur != nil {
		r.cur.Close()
	}
	r.b.Free()
}
