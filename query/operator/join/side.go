// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// side is one operand. Most of its rows are streamed; those that are needed more than once, or next to rows far
// away, are held.
type side struct {
	env  *operator.Env
	node operator.Node
	rows *vector.Table

	held    vector.Batch
	slot    []uint32 // of a held row, plus 1; nil while none is held
	charged int64
}

func (s *side) open(ctx context.Context) error {
	if err := s.node.Open(ctx); err != nil {
		return err
	}
	s.rows = s.node.Table()
	return nil
}

func (s *side) close() {
	s.node.Close()
	s.held.Free()
	s.env.Account.Release(s.charged)
	s.slot, s.charged = nil, 0
}

// hold reads rows into memory, in the order given. Those held already must not be among them.
func (s *side) hold(ctx context.Context, ids []uint32) error {
	if len(ids) == 0 {
		return nil
	}
	if s.slot == nil {
		bytes := int64(4 * s.rows.N)
		if err := s.env.Account.Reserve(bytes); err != nil {
			return err
		}
		s.charged = bytes
		s.slot = make([]uint32, s.rows.N)
		s.held.Budget = s.env.Account
		s.held.Reset(s.node.Grid().N)
	}
	if err := s.held.Reserve(len(ids)); err != nil {
		return err
	}
	for _, id := range ids {
		i, err := s.held.Add(id)
		if err != nil {
			return err
		}
		s.slot[id] = uint32(i + 1)
	}
	return s.env.Drain(ctx, s.node, ids, func(b *vector.Batch) error {
		for i, id := range b.IDs {
			if err := copyRow(&s.held, int(s.slot[id]-1), b, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// holds tells whether a row is held.
func (s *side) holds(id uint32) bool { return s.slot != nil && s.slot[id] != 0 }

// discard reads rows that no result comes from, for what reading them has to say: annotations, errors, statistics.
func (s *side) discard(ctx context.Context, ids []uint32) error {
	if len(ids) == 0 {
		return nil
	}
	return s.env.Drain(ctx, s.node, ids, func(*vector.Batch) error { return nil })
}

// kind returns what step i of a held row is.
func (s *side) kind(id uint32, i int) vector.Kind {
	return s.held.K[int(s.slot[id]-1)*s.held.Steps+i]
}

// cell returns what stands at step i of a held row.
func (s *side) cell(id uint32, i int) cell {
	return rowsOf{&s.held, int(s.slot[id] - 1)}.cell(i)
}

// copyRow makes row i of to what row j of from is.
func copyRow(to *vector.Batch, i int, from *vector.Batch, j int) error {
	if len(from.H) > 0 && from.Shape[j]&vector.HasHistograms != 0 {
		if err := to.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := to.Row(i)
	fv, fk, fh := from.Row(j)
	copy(v, fv)
	copy(k, fk)
	if len(from.H) > 0 {
		copy(h, fh)
	}
	to.Shape[i] = from.Shape[j]
	return nil
}

// reader moves over rows of a side. Rows that are streamed must be asked for in the order of the ids it was made
// with, each once; the operand may leave out rows without a cell.
type reader struct {
	side *side
	cur  operator.Cursor // nil: all rows are held
	b    vector.Batch
	at   int
	end  bool
}

// reader returns one for the rows given, those that are held left out.
func (s *side) reader(streamed []uint32) reader {
	r := reader{side: s, end: true}
	if len(streamed) > 0 {
		r.cur, r.end = s.node.Cursor(streamed), false
		r.b.Budget = s.env.Account
	}
	return r
}

// fill makes sure that there is a streamed row to look at, until the end.
func (r *reader) fill(ctx context.Context) error {
	for r.at == len(r.b.IDs) && !r.end {
		ok, err := r.cur.Next(ctx, &r.b)
		if err != nil {
			return err
		}
		r.at, r.end = 0, !ok
		if !ok {
			r.b.Reset(0)
		}
	}
	return nil
}

// row returns where a row is: a batch and its number there, or nil if it has no cell.
func (r *reader) row(ctx context.Context, id uint32) (*vector.Batch, int, error) {
	if r.side.holds(id) {
		return &r.side.held, int(r.side.slot[id] - 1), nil
	}
	if err := r.fill(ctx); err != nil {
		return nil, 0, err
	}
	if r.at < len(r.b.IDs) && r.b.IDs[r.at] == id {
		r.at++
		return &r.b, r.at - 1, nil
	}
	return nil, 0, nil
}

func (r *reader) close() {
	if r.cur != nil {
		r.cur.Close()
	}
	r.b.Free()
}
