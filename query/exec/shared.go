// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// defaultKeepBytes is the default of Options.KeepBytes: reading twice costs less than not having the memory.
const defaultKeepBytes = 64 << 20

// shared is a node of which several places take the value. Its rows are kept from the first Open to the last Close.
type shared struct {
	builder *builder
	of      *plan.Shared
	node    operator.Node

	opened bool
	err    error
	// split: the rows are too many to be kept, every place evaluates for itself.
	split   bool
	rows    vector.Batch
	slot    []uint32 // by id: the number of the kept row, plus 1; 0: it has no cell
	charged int64
	open    int // handles not closed yet
}

func (b *builder) shareOf(of *plan.Shared) *shared {
	s := b.shared[of]
	if s == nil {
		if b.shared == nil {
			b.shared, b.handles = map[*plan.Shared]*shared{}, map[*plan.Ref]*handle{}
		}
		s = &shared{builder: b, of: of}
		b.shared[of] = s
	}
	return s
}

// whole returns the shared node itself, for the only consumer it has.
func (s *shared) whole() (operator.Node, error) { return s.builder.vector(s.of.Node) }

// ref builds the place where a shared value is taken.
func (b *builder) ref(r *plan.Ref) (operator.Node, error) {
	if b.single {
		return b.vector(r.As)
	}
	s := b.shareOf(r.To)
	if s.node == nil {
		var err error
		if s.node, err = b.vector(r.To.Node); err != nil {
			return nil, err
		}
	}
	s.open++
	h := &handle{shared: s, ref: r}
	b.handles[r] = h
	return h, nil
}

func (s *shared) start(ctx context.Context) error {
	if s.opened {
		return s.err
	}
	s.opened = true
	s.err = s.keep(ctx)
	return s.err
}

// keep evaluates the node and keeps its rows, if there is room for them.
func (s *shared) keep(ctx context.Context) error {
	if err := s.node.Open(ctx); err != nil {
		return err
	}
	n, steps, account := s.node.Table().N, s.node.Grid().N, s.builder.env.Account
	bytes := int64(n) * 4
	if int64(n)*int64(steps)*vector.CellBytes > s.builder.opts.KeepBytes || account.Reserve(bytes) != nil {
		s.split = true
		return nil
	}
	s.charged, s.slot = bytes, make([]uint32, n)
	s.rows.Budget = account
	s.rows.Reset(steps)
	if err := s.rows.Reserve(n); err != nil {
		if _, full := errors.AsType[*budget.ExceededError](err); full {
			s.split = true
			s.release()
			return nil
		}
		return err
	}
	return s.builder.env.Drain(ctx, s.node, nil, s.add)
}

// add keeps the rows of b that have a cell.
func (s *shared) add(b *vector.Batch) error {
	for i, id := range b.IDs {
		if b.Shape[i] == vector.HasGaps {
			continue
		}
		if err := s.charge(b, i); err != nil {
			return err
		}
		if err := appendRow(&s.rows, b, i); err != nil {
			return err
		}
		s.slot[id] = uint32(s.rows.Rows())
	}
	return nil
}

// charge charges for the histograms of row i of b.
func (s *shared) charge(b *vector.Batch, i int) error {
	if b.Shape[i]&vector.HasHistograms == 0 {
		return nil
	}
	_, k, h := b.Row(i)
	n := histogramBytes(k, h)
	if err := s.builder.env.Account.Reserve(n); err != nil {
		return err
	}
	s.charged += n
	return nil
}

// histogramBytes is what the histograms of a row take.
func histogramBytes(k []vector.Kind, h []*histogram.FloatHistogram) (n int64) {
	for i := range k {
		if k[i] == vector.Histogram {
			n += int64(h[i].Size())
		}
	}
	return n
}

// appendRow adds row j of from, which has the same steps, to to.
func appendRow(to *vector.Batch, from *vector.Batch, j int) error {
	i, err := to.Add(from.IDs[j])
	if err != nil {
		return err
	}
	if len(from.H) > 0 {
		if err := to.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := to.Row(i)
	fv, fk, fh := from.Row(j)
	copy(v, fv)
	copy(k, fk)
	copy(h, fh)
	to.Shape[i] = from.Shape[j]
	return nil
}

func (s *shared) release() {
	s.rows.Free()
	s.builder.env.Account.Release(s.charged)
	s.slot, s.charged = nil, 0
}

// handle is one place where a shared value is taken.
type handle struct {
	shared *shared
	ref    *plan.Ref
	// own evaluates for this place alone, after a split.
	own     operator.Node
	private *builder
	closed  bool
}

// Open implements operator.Node.
func (h *handle) Open(ctx context.Context) error {
	s := h.shared
	if err := s.start(ctx); err != nil || !s.split {
		return err
	}
	if h.ref.Primary() {
		h.own = s.node
		return nil
	}
	h.private = newBuilder(s.builder.base, s.builder.plan, s.builder.opts)
	h.private.single = true
	h.private.within = s.builder.within
	own, err := h.private.vector(h.ref.As)
	if err != nil {
		return err
	}
	h.own = own
	return own.Open(ctx)
}

// Table implements operator.Node.
func (h *handle) Table() *vector.Table {
	if h.own != nil {
		return h.own.Table()
	}
	return h.shared.node.Table()
}

// Grid implements operator.Node.
func (h *handle) Grid() vector.Grid { return h.shared.node.Grid() }

// Cursor implements operator.Node.
func (h *handle) Cursor(ids []uint32) operator.Cursor {
	if h.own != nil {
		return h.own.Cursor(ids)
	}
	return &handleCursor{from: h.shared, ids: ids, all: ids == nil}
}

// Close implements operator.Node.
func (h *handle) Close() {
	if h.closed {
		return
	}
	h.closed = true
	if h.own != nil && !h.ref.Primary() {
		h.own.Close()
	}
	s := h.shared
	if s.open--; s.open == 0 {
		s.node.Close()
		s.release()
	}
}

// handleCursor yields kept rows.
type handleCursor struct {
	from *shared
	ids  []uint32
	all  bool // every row, in the order in which they are kept
	at   int
}

// Next implements operator.Cursor.
func (c *handleCursor) Next(_ context.Context, b *vector.Batch) (bool, error) {
	rows := &c.from.rows
	b.Reset(rows.Steps)
	limit := operator.BatchRows(rows.Steps)
	if c.all {
		n := min(limit, rows.Rows()-c.at)
		err := c.stretch(b, n)
		return n > 0, err
	}
	if err := b.Reserve(min(limit, len(c.ids)-c.at)); err != nil {
		return false, err
	}
	for ; c.at < len(c.ids) && b.Rows() < limit; c.at++ {
		kept := c.from.slot[c.ids[c.at]]
		if kept == 0 {
			continue
		}
		if err := appendRow(b, rows, int(kept-1)); err != nil {
			return false, err
		}
	}
	return b.Rows() > 0, nil
}

// stretch copies the next n kept rows at once.
func (c *handleCursor) stretch(b *vector.Batch, n int) error {
	if err := b.Reserve(n); err != nil {
		return err
	}
	rows := &c.from.rows
	from, to := c.at*rows.Steps, (c.at+n)*rows.Steps
	b.IDs = append(b.IDs, rows.IDs[c.at:c.at+n]...)
	b.Shape = append(b.Shape, rows.Shape[c.at:c.at+n]...)
	b.V = append(b.V, rows.V[from:to]...)
	b.K = append(b.K, rows.K[from:to]...)
	c.at += n
	if len(rows.H) == 0 {
		return nil
	}
	if err := b.UseHistograms(); err != nil {
		return err
	}
	copy(b.H, rows.H[from:to])
	return nil
}

// Close implements operator.Cursor.
func (*handleCursor) Close() {}
