// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"iter"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// foreignCopy reads a foreign block on its way into a block of the store. What final deletes hide is left out; what can be
// brought back comes along, and tombstones says how it stays hidden. It belongs to one goroutine.
type foreignCopy struct {
	b     storedForeign           // with what is left out
	carry tombstones              // of the foreign block
	masks []map[uint32][]interval // of each of carry, of the new block
	out   uint32                  // series of the new block so far
}

func newForeignCopy(b storedForeign, final func(sample.LSN) bool) *foreignCopy {
	c := &foreignCopy{b: b, carry: b.dead.without(final)}
	c.b.dead = b.dead.only(final)
	c.masks = make([]map[uint32][]interval, len(c.carry))
	return c
}

// series yields the series in label order. Memory: the samples of one of them.
func (c *foreignCopy) series(ctx context.Context, account *budget.Account) iter.Seq2[block.Series, error] {
	return func(yield func(block.Series, error) bool) {
		ids, err := c.b.find(ctx, nil)
		if err != nil {
			yield(block.Series{}, err)
			return
		}
		var (
			sb    labels.ScratchBuilder
			pairs []uint32
			ls    labels.Labels
		)
		rows := column.Block{Budget: account}
		defer rows.Free()
		r := foreignReader{block: c.b, rows: c.b.Reader(), need: column.Need{MinT: minTime, MaxT: maxTime, ST: true}}
		r.load(ids)
		for _, id := range ids {
			pairs, err = c.b.Pairs(id, pairs[:0])
			if err == nil {
				ls = c.b.labels(pairs, &sb)
				rows.Reset()
				err = r.next(ctx, &rows)
			}
			s := block.Series{Labels: ls, Rows: &rows, To: len(rows.T)}
			if err == nil {
				s.Exemplars, err = c.b.Exemplars(id, minTime, maxTime)
			}
			if err == nil && s.To == 0 && len(s.Exemplars) == 0 {
				continue // it gets no number in the new block
			}
			c.note(id)
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// note takes over what hides the series that comes next.
func (c *foreignCopy) note(id uint32) {
	for k := range c.carry {
		ivs := c.carry[k].of(id)
		if len(ivs) == 0 {
			continue
		}
		if c.masks[k] == nil {
			c.masks[k] = map[uint32][]interval{}
		}
		c.masks[k][c.out] = ivs
	}
	c.out++
}

// tombstones returns what is hidden of the new block.
func (c *foreignCopy) tombstones() tombstones {
	var out tombstones
	for k := range c.carry {
		if len(c.masks[k]) > 0 {
			out = append(out, mask{id: c.carry[k].id, series: c.masks[k]})
		}
	}
	return out
}
