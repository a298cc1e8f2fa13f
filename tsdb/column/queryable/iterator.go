// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package queryable

import (
	"math"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// iterator implements chunkenc.Iterator over the rows of one series in a batch. It stands before the first
// row at -1 and past the last at len(t).
type iterator struct {
	batch *batch
	block *column.Block
	base  int     // row of the block that the series begins at
	t     []int64 // times of the series
	i     int
	err   error
}

// newIterator returns an iterator over the samples of row from mint on.
func newIterator(b *batch, row uint32, mint int64) iterator {
	from, to := b.block.Rows(int(row - b.first))
	for from < to && b.block.T[from] < mint {
		from++
	}
	return iterator{batch: b, block: &b.block, base: from, t: b.block.T[from:to], i: -1}
}

// Next implements chunkenc.Iterator.
func (it *iterator) Next() chunkenc.ValueType {
	it.i = min(it.i+1, len(it.t))
	return it.kind()
}

// Seek implements chunkenc.Iterator.
func (it *iterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // The interface is Prometheus'.
	it.i = max(it.i, 0)
	rest := it.t[it.i:]
	// The row looked for is mostly a few rows ahead: double the reach until it lies within, then search there.
	reach := 1
	for reach < len(rest) && rest[reach-1] < t {
		reach *= 2
	}
	lo, hi := reach/2, min(reach, len(rest))
	it.i += lo + sort.Search(hi-lo, func(k int) bool { return rest[lo+k] >= t })
	return it.kind()
}

func (it *iterator) kind() chunkenc.ValueType {
	if it.i >= len(it.t) {
		return chunkenc.ValNone
	}
	switch it.block.KindAt(it.base + it.i) {
	case sample.Histogram:
		return chunkenc.ValHistogram
	case sample.FloatHistogram:
		return chunkenc.ValFloatHistogram
	default:
		return chunkenc.ValFloat
	}
}

// At implements chunkenc.Iterator.
func (it *iterator) At() (int64, float64) {
	return it.t[it.i], it.block.V[it.base+it.i]
}

// AtHistogram implements chunkenc.Iterator. The histogram is the caller's.
func (it *iterator) AtHistogram(into *histogram.Histogram) (int64, *histogram.Histogram) {
	if it.kind() != chunkenc.ValHistogram {
		return math.MinInt64, nil
	}
	h := it.block.H.Int[it.base+it.i]
	if into == nil {
		return it.t[it.i], h.Copy()
	}
	h.CopyTo(into)
	return it.t[it.i], into
}

// AtFloatHistogram implements chunkenc.Iterator. The histogram is the caller's.
func (it *iterator) AtFloatHistogram(into *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	switch it.kind() {
	case chunkenc.ValHistogram:
		return it.t[it.i], it.block.H.Int[it.base+it.i].ToFloat(into)
	case chunkenc.ValFloatHistogram:
		h := it.block.H.Float[it.base+it.i]
		if into == nil {
			return it.t[it.i], h.Copy()
		}
		h.CopyTo(into)
		return it.t[it.i], into
	default:
		return math.MinInt64, nil
	}
}

// AtT implements chunkenc.Iterator.
func (it *iterator) AtT() int64 { return it.t[it.i] }

// AtST implements chunkenc.Iterator.
func (it *iterator) AtST() int64 { return it.block.STAt(it.base + it.i) }

// Err implements chunkenc.Iterator.
func (it *iterator) Err() error { return it.err }
