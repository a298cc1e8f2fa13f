// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	store "github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Reader implements tsdb.ForeignBlock.
func (b *Block) Reader() store.ForeignReader { return &reader{block: b} }

// reader decodes the chunks of series into columns. Its memory is used from series to series.
type reader struct {
	block *Block
	metas []chunks.Meta
	it    chunkenc.Iterator
}

// Read implements tsdb.ForeignReader. What Prometheus has deleted is left out.
func (r *reader) Read(ctx context.Context, id uint32, n column.Need, dst *column.Block) error {
	var err error
	if r.metas, err = r.block.entries.chunks(id, r.metas); err != nil {
		return r.block.damaged(err)
	}
	dead, err := r.block.dead.Get(storage.SeriesRef(id))
	if err != nil {
		return r.block.damaged(err)
	}
	x := chunkRows{need: n, dead: dead, last: math.MinInt64, dst: dst}
	for _, m := range r.metas {
		if m.MaxTime < n.MinT || m.MinTime > n.MaxT {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c, _, err := r.block.chunks.ChunkOrIterable(m)
		if err != nil {
			return r.block.damaged(err)
		}
		if err := dst.Reserve(c.NumSamples()); err != nil {
			return err
		}
		r.it = c.Iterator(r.it)
		if err := x.append(c, r.it); err != nil {
			return err
		}
		if err := r.it.Err(); err != nil {
			r.it = nil
			return r.block.damaged(fmt.Errorf("chunk of series %d at %d: %w", id, m.MinTime, err))
		}
	}
	return nil
}

// chunkRows takes the rows of one series over from chunks.
type chunkRows struct {
	need column.Need
	dead tombstones.Intervals // ascending; those that are over are cut off
	last int64
	some bool
	dst  *column.Block
}

// append takes what is wanted of one chunk. Rows not later than the last, which only a broken block has, are left out,
// as Prometheus' engine never sees them either.
func (x *chunkRows) append(c chunkenc.Chunk, it chunkenc.Iterator) error {
	reset := declaresReset(c)
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		t := it.AtT()
		if t > x.need.MaxT {
			return nil
		}
		first := reset
		reset = false
		if t < x.need.MinT || x.some && t <= x.last || x.deleted(t) {
			continue
		}
		x.last, x.some = t, true
		if err := x.row(it, kind, t, first); err != nil {
			return err
		}
	}
	return nil
}

// declaresReset reports whether the first histogram of a chunk is known to begin anew.
func declaresReset(c chunkenc.Chunk) bool {
	h, ok := c.(interface {
		GetCounterResetHeader() chunkenc.CounterResetHeader
	})
	return ok && h.GetCounterResetHeader() == chunkenc.CounterReset
}

func (x *chunkRows) deleted(t int64) bool {
	for len(x.dead) > 0 && x.dead[0].Maxt < t {
		x.dead = x.dead[1:]
	}
	return len(x.dead) > 0 && x.dead[0].Mint <= t
}

// row appends the sample that the iterator stands on.
func (x *chunkRows) row(it chunkenc.Iterator, kind chunkenc.ValueType, t int64, reset bool) error {
	var st int64
	if x.need.ST {
		if st = it.AtST(); st != 0 {
			if err := x.dst.UseST(); err != nil {
				return err
			}
		}
	}
	switch kind {
	case chunkenc.ValFloat:
		_, v := it.At()
		x.dst.AppendFloat(t, st, v)
	case chunkenc.ValHistogram:
		_, h := it.AtHistogram(nil)
		if err := x.dst.Charge(histogramBytes(len(h.PositiveSpans)+len(h.NegativeSpans), len(h.PositiveBuckets)+len(h.NegativeBuckets))); err != nil {
			return err
		}
		h.CounterResetHint = hintOf(h.CounterResetHint, reset)
		x.dst.AppendHistogram(t, st, h, nil)
	case chunkenc.ValFloatHistogram:
		_, h := it.AtFloatHistogram(nil)
		if err := x.dst.Charge(int64(h.Size())); err != nil {
			return err
		}
		h.CounterResetHint = hintOf(h.CounterResetHint, reset)
		x.dst.AppendHistogram(t, st, nil, h)
	default:
		return fmt.Errorf("unknown value type %v", kind)
	}
	return nil
}

// hintOf is the hint with which the histogram may have come in: the store works out from it, and from the samples,
// what readers see. What an iterator says is what Prometheus worked out.
func hintOf(seen histogram.CounterResetHint, reset bool) histogram.CounterResetHint {
	switch {
	case seen == histogram.GaugeType:
		return seen
	case reset:
		return histogram.CounterReset
	}
	return histogram.UnknownCounterReset
}

// histogramBytes is about what an integer histogram takes.
func histogramBytes(spans, buckets int) int64 { return int64(160 + 8*spans + 8*buckets) }
