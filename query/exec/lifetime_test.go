// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"context"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// spoiler is a storage that spoils the float histograms of a block when the block is scanned into again, as one does
// that cuts them from slabs. No operator may hold on to them.
type spoiler struct{ querytest.Model }

func newSpoiler(testing.TB) storage.Storage { return spoiler{querytest.ModelOf(&columntest.Store{})} }

func (s spoiler) View(mint, maxt int64) (column.View, error) {
	v, err := s.Model.View(mint, maxt)
	return &spoilingView{View: v, given: map[*column.Block][]*histogram.FloatHistogram{}}, err
}

type spoilingView struct {
	column.View
	mu    sync.Mutex
	given map[*column.Block][]*histogram.FloatHistogram
}

func (v *spoilingView) Scan(ctx context.Context, s *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, h := range v.given[dst] {
		for _, counts := range [][]float64{h.PositiveBuckets, h.NegativeBuckets} {
			for i := range counts {
				counts[i] = -666
			}
		}
		for _, spans := range [][]histogram.Span{h.PositiveSpans, h.NegativeSpans} {
			for i := range spans {
				spans[i] = histogram.Span{Offset: 666, Length: 666}
			}
		}
		h.Count, h.Sum, h.ZeroCount, h.Schema = -666, -666, -666, 1
	}
	k, err := v.View.Scan(ctx, s, ids, n, dst)
	v.given[dst] = v.given[dst][:0]
	for _, h := range dst.H.Float {
		if h != nil {
			v.given[dst] = append(v.given[dst], h)
		}
	}
	return k, err
}

func TestNobodyHoldsOnToTheHistogramsOfABlock(t *testing.T) {
	promqltest.RunBuiltinTestsWithStorage(t, newEngine(t), newSpoiler)
}
