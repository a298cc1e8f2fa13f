// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// randomHistogram grows prev, resets it or changes its layout.
func randomHistogram(rng *rand.Rand, prev *histogram.Histogram) *histogram.Histogram {
	if prev == nil || rng.IntN(15) == 0 {
		h := &histogram.Histogram{Schema: int32(rng.IntN(3)), ZeroThreshold: 0.001, ZeroCount: uint64(rng.IntN(5))}
		h.Count = h.ZeroCount
		if rng.IntN(4) == 0 {
			h.Schema, h.ZeroThreshold, h.ZeroCount, h.Count = histogram.CustomBucketsSchema, 0, 0, 0
			h.CustomValues = []float64{1, 2, 3 + float64(rng.IntN(2)), 10, 20}
			h.PositiveSpans, h.PositiveBuckets = []histogram.Span{{Offset: 0, Length: 3}}, []int64{1, 0, 0}
			h.Count += 3
			return h
		}
		h.PositiveSpans = []histogram.Span{{Offset: int32(rng.IntN(4)), Length: 2}, {Offset: int32(rng.IntN(3)), Length: 1}}
		h.PositiveBuckets = []int64{2, 1, -1}
		h.NegativeSpans, h.NegativeBuckets = []histogram.Span{{Offset: 1, Length: 2}}, []int64{1, 0}
		h.Count += 9
		h.CounterResetHint = []histogram.CounterResetHint{0, 0, 0, histogram.CounterReset, histogram.GaugeType}[rng.IntN(5)]
		return h
	}
	h := prev.Copy()
	if h.CounterResetHint == histogram.CounterReset {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	k := rng.IntN(len(h.PositiveBuckets))
	h.PositiveBuckets[k] += 2
	if k+1 < len(h.PositiveBuckets) {
		h.PositiveBuckets[k+1] -= 2
	}
	h.Count, h.Sum = h.Count+2, h.Sum+rng.Float64()
	return h
}

// histogramStore has series of integer and float histograms, floats and stale markers, some late, in blocks and head.
func histogramStore(t *testing.T, rng *rand.Rand) *DB {
	t.Helper()
	db := openTest(t, small(fsx.NewCrashable()))
	ls := make([]labels.Labels, 12)
	refs := make([]sample.Ref, len(ls))
	for i := range ls {
		ls[i] = seriesName(i)
	}
	if err := db.Resolve(ls, refs); err != nil {
		t.Fatal(err)
	}
	last := make([]*histogram.Histogram, len(ls))
	stale := math.Float64frombits(value.StaleNaN)
	for step := range 120 {
		var b sample.Batch
		for i, ref := range refs {
			at := int64(step) * 2000
			if rng.IntN(10) == 0 {
				at -= rng.Int64N(60_000)
			}
			last[i] = randomHistogram(rng, last[i])
			switch {
			case rng.IntN(20) == 0:
				b.AppendFloat(ref, 0, at, stale, 0)
			case rng.IntN(20) == 0:
				b.AppendFloat(ref, 0, at, rng.Float64(), 0)
			case i%3 == 0 || i%3 == 1 && rng.IntN(10) == 0:
				b.AppendHistogram(ref, 0, at, nil, last[i].ToFloat(nil), 0)
			default:
				b.AppendHistogram(ref, 0, at, last[i].Copy(), nil, 0)
			}
		}
		var r sample.Result
		if _, err := db.Commit(t.Context(), &b, &r); err != nil {
			t.Fatal(err)
		}
		if step == 60 {
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return db
}

// histText writes a histogram with its hint.
func histText(h *histogram.FloatHistogram) string {
	if h == nil {
		return "float"
	}
	return fmt.Sprintf("%d %s zero<=%g %v", h.CounterResetHint, h, h.ZeroThreshold, h.CustomValues)
}

func TestFloatHistogramsOfTheBlockAreThoseOfAFullDecode(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	db := histogramStore(t, rand.New(rand.NewPCG(seed, 0)))
	v, set := wholeView(t, db)
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	var full, floats, again column.Block
	for _, x := range []struct {
		need column.Need
		to   *column.Block
	}{{column.Need{ST: true}, &full}, {column.Need{Float: true}, &floats}, {column.Need{Float: true, ST: true}, &again}} {
		if n, err := v.Scan(t.Context(), set, ids, x.need, x.to); err != nil || n != set.N {
			t.Fatal(n, err)
		}
		column.SetHints(x.to)
	}
	hists := 0
	for i := range full.T {
		want := full.H.Float[i]
		if h := full.H.Int[i]; h != nil {
			want = h.ToFloat(nil)
		}
		for _, got := range []*column.Block{&floats, &again} {
			if got.T[i] != full.T[i] || got.Kind[i] != full.Kind[i] || got.H.Int[i] != nil {
				t.Fatalf("row %d: time %d kind %d, want %d and %d", i, got.T[i], got.Kind[i], full.T[i], full.Kind[i])
			}
			if d := cmp.Diff(histText(want), histText(got.H.Float[i])); d != "" {
				t.Fatalf("row %d (-want +got):\n%s", i, d)
			}
		}
		if want != nil {
			hists++
		}
	}
	if hists < 1000 || cmp.Diff(full.Shape, floats.Shape) != "" || cmp.Diff(full.Off, floats.Off) != "" {
		t.Errorf("%d histograms; shapes %v and %v", hists, full.Shape, floats.Shape)
	}
}

func TestHistogramStatisticsAreThoseOfPrometheusIterator(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	db := histogramStore(t, rand.New(rand.NewPCG(seed, 0)))
	v, set := wholeView(t, db)
	q, err := queryable.New(db).Querier(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	series := q.Select(t.Context(), true, nil)
	var b column.Block
	hints := map[histogram.CounterResetHint]int{}
	for id := uint32(0); series.Next(); id++ {
		if _, err := v.Scan(t.Context(), set, []uint32{id}, column.Need{HistStats: true}, &b); err != nil {
			t.Fatal(err)
		}
		column.SetHints(&b)
		it := promql.NewHistogramStatsIterator(series.At().Iterator(nil))
		row := 0
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			if vt == chunkenc.ValFloatHistogram {
				at, want := it.AtFloatHistogram(nil)
				if got := histText(b.H.Float[row]); b.T[row] != at || got != histText(want) {
					t.Fatalf("series %d at %d: %s, want %s at %d", id, b.T[row], got, histText(want), at)
				}
				hints[want.CounterResetHint]++
			} else if b.Kind[row] != sample.Float {
				t.Fatalf("series %d: row %d is a histogram", id, row)
			}
			row++
		}
		if row != len(b.T) {
			t.Fatalf("series %d: %d rows, want %d", id, len(b.T), row)
		}
	}
	if len(hints) != 4 {
		t.Errorf("hints that were seen: %v", hints)
	}
}
