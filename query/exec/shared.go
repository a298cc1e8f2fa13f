// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"context"
	"errors"

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
	split bool
	kept  kept
	open  int // handles not closed yet
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
	n, steps := s.node.Table().N, s.node.Grid().N
	if int64(n)*int64(steps)*vector.CellBytes > s.builder.opts.KeepBytes {
		s.split = true
		return nil
	}
	if err := s.kept.room(s.builder.env.Account, n, steps); err != nil {
		if _, full := errors.AsType[*budget.ExceededError](err); full {
			s.split = true
			return nil
		}
		return err
	}
	return s.builder.env.Drain(ctx, s.node, nil, s.kept.add)
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
	return h.shared.kept.cursor(ids)
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
		s.kept.release()
	}
}
