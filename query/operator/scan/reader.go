// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"fmt"
	"sort"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// reader decodes the series of a source one after the other.
type reader struct {
	src  *source
	ids  []uint32 // those not yet decoded
	need column.Need

	blk     *column.Block
	decoded []uint32 // ids of the series in blk
	at      int      // the next of them
	trim    bool     // blk begins before need.MinT
	work    int      // rows since the query was last asked whether to stop
}

func (s *source) reader(ids []uint32) reader { return reader{src: s, ids: ids, need: s.need} }

// series is one series in a block: the rows [from, to).
type series struct {
	id       uint32
	from, to int
	shape    column.Shape
}

// next returns the next series.
func (r *reader) next(ctx context.Context) (s series, ok bool, err error) {
	for r.at == len(r.decoded) {
		if len(r.ids) == 0 {
			return series{}, false, nil
		}
		if err := r.fill(ctx); err != nil {
			return series{}, false, err
		}
	}
	i := r.at
	r.at++
	s = series{id: r.decoded[i], shape: r.blk.Shape[i]}
	s.from, s.to = r.blk.Rows(i)
	if r.trim {
		t := r.blk.T[s.from:s.to]
		s.from += sort.Search(len(t), func(i int) bool { return t[i] >= r.need.MinT })
	}
	if r.work += s.to - s.from; r.work >= pollRows {
		r.work = 0
		if err := r.src.env.Check(); err != nil {
			return series{}, false, err
		}
	}
	return s, true, nil
}

// batch makes rows of the next series that have samples. fill sets the cells of row i, which are absent, and its shape;
// rows without a cell are left out.
func (r *reader) batch(ctx context.Context, b *vector.Batch, steps int, fill func(b *vector.Batch, i int, s series) error) (bool, error) {
	b.Reset(steps)
	for limit := operator.BatchRows(steps); b.Rows() < limit; {
		s, ok, err := r.next(ctx)
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
		if s.from == s.to {
			continue
		}
		if err := b.Reserve(min(limit-b.Rows(), r.left()+1)); err != nil {
			return false, err
		}
		i, err := b.Add(s.id)
		if err != nil {
			return false, err
		}
		if err := fill(b, i, s); err != nil {
			return false, err
		}
		if b.Shape[i] == vector.HasGaps {
			b.Drop(i)
		}
	}
	return b.Rows() > 0, nil
}

// firstTry is how many series are read to see whether there are histograms: where there are, they are read again.
const firstTry = 16

// pollRows is after how many rows a reader looks whether to stop.
const pollRows = 4096

func (r *reader) fill(ctx context.Context) error {
	if err := r.src.env.Check(); err != nil {
		return err
	}
	if r.blk == nil {
		r.blk = r.src.block()
	}
	need := r.need
	wide := r.src.wide.Load()
	if wide {
		need.MinT = column.HintStart(need.MinT)
	}
	r.decoded, r.at = nil, 0
	ids := r.ids
	hints := !r.src.sel.AnyFirst && !keepsHints(r.src.env.View) // of the first histogram
	if hints && !wide && !r.src.tried.Swap(true) {
		ids = ids[:min(len(ids), firstTry)]
	}
	n, err := r.src.env.View.Scan(ctx, r.src.set, ids, need, r.blk)
	if err != nil {
		return err
	}
	if n < 1 || n > len(ids) || n != r.blk.Series() {
		return fmt.Errorf("scan of %d series gave %d, and %d were decoded", len(ids), n, r.blk.Series())
	}
	if len(r.blk.Kind) > 0 && !keepsHints(r.src.env.View) {
		if hints && !wide {
			r.src.wide.Store(true)
			return r.fill(ctx)
		}
		column.SetHints(r.blk)
	}
	r.decoded, r.ids, r.trim = r.ids[:n], r.ids[n:], wide
	return nil
}

// left is how many series are to come.
func (r *reader) left() int { return len(r.ids) + len(r.decoded) - r.at }

// reset makes the reader go on with other series.
func (r *reader) reset(ids []uint32) { r.ids, r.decoded, r.at = ids, nil, 0 }

func (r *reader) close() {
	if r.blk != nil {
		r.src.give(r.blk)
		r.blk = nil
	}
}
