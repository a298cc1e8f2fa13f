// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// store keeps rows, charged to the query. When it is filled, cursors may read it side by side.
type store struct {
	batch vector.Batch
	bytes int64          // charged for histograms and places
	at    map[uint32]int // the place of the row with an id; nil: the id is the place
}

// placeBytes is about what an entry of at takes.
const placeBytes = 40

// add keeps a copy of row i of b.
func (s *store) add(b *vector.Batch, i int) error {
	if s.batch.Steps == 0 {
		s.batch.Reset(b.Steps)
	}
	if n := s.batch.Rows(); n == cap(s.batch.IDs) {
		if err := s.batch.Reserve(max(16, n/2)); err != nil {
			return err
		}
	}
	n := b.HistogramBytes(i)
	if s.at != nil {
		n += placeBytes
	}
	if err := s.batch.Budget.Reserve(n); err != nil {
		return err
	}
	s.bytes += n
	j, err := s.batch.Add(b.IDs[i])
	if err != nil {
		return err
	}
	return copyRow(&s.batch, j, b, i)
}

// copyRow makes row i of dst a copy of row j of src.
func copyRow(dst *vector.Batch, i int, src *vector.Batch, j int) error {
	if src.Shape[j]&vector.HasHistograms != 0 {
		if err := dst.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := src.Row(j)
	toV, toK, toH := dst.Row(i)
	copy(toV, v)
	copy(toK, k)
	if toH != nil {
		clear(toH)
		copy(toH, h)
	}
	dst.Shape[i] = src.Shape[j]
	return nil
}

// fill keeps all rows of a cursor.
func (s *store) fill(ctx context.Context, env *operator.Env, c operator.Cursor) error {
	s.at = map[uint32]int{}
	b := vector.Batch{Budget: env.Account}
	defer b.Free()
	for {
		if err := env.Check(); err != nil {
			return err
		}
		ok, err := c.Next(ctx, &b)
		if err != nil || !ok {
			return err
		}
		for i, id := range b.IDs {
			if err := s.add(&b, i); err != nil {
				return err
			}
			s.at[id] = s.batch.Rows() - 1
		}
	}
}

func (s *store) close() {
	s.batch.Budget.Release(s.bytes)
	s.bytes = 0
	s.batch.Free()
}

// cursor yields the rows with the ids given; nil: all.
func (s *store) cursor(ids []uint32) operator.Cursor {
	return &storeCursor{s: s, ids: ids, all: ids == nil}
}

type storeCursor struct {
	s    *store
	ids  []uint32
	all  bool
	next int
}

// Next implements operator.Cursor.
func (c *storeCursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	src := &c.s.batch
	b.Reset(max(src.Steps, 1))
	limit := operator.BatchRows(src.Steps)
	total := len(c.ids)
	if c.all {
		total = src.Rows()
	}
	if err := b.Reserve(min(limit, total-c.next)); err != nil {
		return false, err
	}
	for ; c.next < total && b.Rows() < limit; c.next++ {
		place, ok := c.place()
		if !ok {
			continue
		}
		i, err := b.Add(src.IDs[place])
		if err != nil {
			return false, err
		}
		if err := copyRow(b, i, src, place); err != nil {
			return false, err
		}
	}
	return b.Rows() > 0, nil
}

// place returns where the next row is; false: it had no cell.
func (c *storeCursor) place() (int, bool) {
	switch {
	case c.all:
		return c.next, true
	case c.s.at == nil:
		return int(c.ids[c.next]), true
	default:
		i, ok := c.s.at[c.ids[c.next]]
		return i, ok
	}
}

// Close implements operator.Cursor.
func (c *storeCursor) Close() {}
