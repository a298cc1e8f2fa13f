// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// stateLimit is how many bytes of state an aggregation may hold before it works in group order.
const stateLimit = 32 << 20

// inGroupOrder has the aggregation read its input group by group if holding all groups at once would take too much.
func (n *node) inGroupOrder(ctx context.Context) (done bool, err error) {
	if err := n.resolve(); err != nil {
		return false, err
	}
	steps := int64(n.Grid().N)
	if steps == 1 {
		return false, nil
	}
	switch n.cfg.Op {
	case parser.TOPK, parser.BOTTOMK:
		return n.topByParts(ctx)
	case parser.LIMITK, parser.LIMIT_RATIO, parser.COUNT_VALUES:
		return false, nil
	case parser.QUANTILE:
		if int64(n.group.rows)*steps*8 <= n.limit {
			return false, nil
		}
		checkQuantiles(&n.notes, n.cfg.Param.Values())
	default:
		if int64(n.group.len())*steps*cellBytes(n.cfg.Op) <= n.limit {
			return false, nil
		}
	}
	if n.group.drops() == dropSome {
		return false, nil
	}
	return true, n.startStream()
}

// stream computes groups while its cursors move, from the rows of the input in the order of groups.
type stream struct {
	node  *node
	table *vector.Table
	rows  []uint32 // of the input, group by group
	begin []uint32 // of the rows of a group
}

func (n *node) startStream() error {
	rows, begin, err := n.group.sorted(&n.held)
	if err != nil {
		return err
	}
	drop, err := n.group.drops().all(&n.held, n.group.len())
	if err != nil {
		return err
	}
	table, err := n.group.table(&n.held, n.group.first, drop)
	if err != nil {
		return err
	}
	n.stream = &stream{node: n, table: table, rows: rows, begin: begin}
	return nil
}

// cursor returns the cursor over groups.
func (s *stream) cursor(ids []uint32) operator.Cursor {
	c := &streamCursor{stream: s, held: retain.Memory{Account: s.node.feed.env.Account}}
	c.batch.Budget, c.batch.Brief = s.node.feed.env.Account, true
	rows := s.rows
	if ids != nil {
		rows, c.err = s.rowsOf(ids, &c.held)
	}
	c.input = s.node.feed.input.Cursor(rows)
	return c
}

// rowsOf returns the rows of some groups.
func (s *stream) rowsOf(ids []uint32, h *retain.Memory) ([]uint32, error) {
	n := 0
	for _, g := range ids {
		n += int(s.begin[g+1] - s.begin[g])
	}
	rows, err := retain.Make[uint32](h, n)
	if err != nil {
		return nil, err
	}
	rows = rows[:0]
	for _, g := range ids {
		rows = append(rows, s.rows[s.begin[g]:s.begin[g+1]]...)
	}
	return rows, nil
}

// streamCursor holds the state of the one group it is in.
type streamCursor struct {
	stream *stream
	held   retain.Memory
	input  operator.Cursor
	acc    accumulator
	batch  vector.Batch
	next   int // row of batch that was not added yet
	group  uint32
	inside bool // group has rows
	ended  bool
	err    error
}

// Next implements operator.Cursor.
func (c *streamCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	steps := c.stream.node.Grid().N
	b.Reset(steps)
	if c.err == nil && c.acc == nil {
		c.err = c.start()
	}
	if c.acc != nil {
		c.acc.shared().settle() // the batch before is not used any more
	}
	for c.err == nil && !c.ended && b.Rows() < operator.BatchRows(steps) {
		if c.next == c.batch.Rows() {
			c.err = c.read(ctx, b)
			continue
		}
		c.err = c.add(b)
	}
	return b.Rows() > 0, c.err
}

func (c *streamCursor) start() error {
	n := c.stream.node
	s, err := newState(n, &c.held, &c.held, 1)
	if err != nil {
		return err
	}
	c.acc, err = n.newAccumulator(s, []uint32{0})
	return err
}

// read gets the next rows of the input, or finishes the last group.
func (c *streamCursor) read(ctx context.Context, b *vector.Batch) error {
	c.next = 0
	if err := c.stream.node.feed.env.Check(); err != nil {
		return err
	}
	ok, err := c.input.Next(ctx, &c.batch)
	if err != nil || ok {
		return err
	}
	c.batch.Reset(c.batch.Steps)
	c.ended = true
	return c.finish(b)
}

// add adds the next row of the batch, or finishes the group before.
func (c *streamCursor) add(b *vector.Batch) error {
	i := c.next
	id := c.batch.IDs[i]
	if g := c.stream.node.group.of[id]; !c.inside || g != c.group {
		if c.inside {
			return c.finish(b)
		}
		size := int(c.stream.begin[g+1] - c.stream.begin[g])
		if err := c.acc.reset(size); err != nil {
			return err
		}
		c.group, c.inside = g, true
	}
	c.next++
	if c.batch.Shape[i] == vector.HasGaps {
		return nil
	}
	r := row{id: id, shape: c.batch.Shape[i]}
	r.v, r.k, r.h = c.batch.Row(i)
	if err := c.acc.row(0, r); err != nil {
		return err
	}
	return c.acc.shared().err
}

// finish writes the group that is complete.
func (c *streamCursor) finish(b *vector.Batch) error {
	if !c.inside {
		return nil
	}
	c.inside = false
	i, err := b.Add(c.group)
	if err != nil {
		return err
	}
	if c.acc.shared().mixed {
		if err := b.UseHistograms(); err != nil {
			return err
		}
	}
	v, k, h := b.Row(i)
	c.acc.finish(0, out{v: v, k: k, h: func(step int, x *histogram.FloatHistogram) {
		h[step], k[step] = x, vector.Histogram
	}})
	b.Shape[i] = retain.ShapeOf(k)
	return c.acc.shared().err
}

// Close implements operator.Cursor.
func (c *streamCursor) Close() {
	c.input.Close()
	c.batch.Free()
	c.held.Release()
	c.acc = nil
}
