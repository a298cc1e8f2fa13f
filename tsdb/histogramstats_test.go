// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// steadyHistogram counts on, and resets once in so many times; 0: never.
func steadyHistogram(rng *rand.Rand, prev *histogram.Histogram, resets int) *histogram.Histogram {
	if prev == nil || resets > 0 && rng.IntN(resets) == 0 {
		return &histogram.Histogram{
			Schema: 2, ZeroThreshold: 0.001, PositiveSpans: []histogram.Span{{Offset: 2, Length: 2}}, PositiveBuckets: []int64{int64(rng.IntN(3)), 0},
			Count: 30, Sum: 1,
		}
	}
	h := prev.Copy()
	if n := len(h.PositiveBuckets); n < 20 && rng.IntN(12) == 0 {
		h.PositiveSpans[0].Length++
		h.PositiveBuckets = append(h.PositiveBuckets, int64(rng.IntN(4)))
	}
	k := rng.IntN(len(h.PositiveBuckets))
	grow := int64(rng.IntN(6))
	h.PositiveBuckets[k] += grow
	if k+1 < len(h.PositiveBuckets) {
		h.PositiveBuckets[k+1] -= grow
	}
	h.Count, h.Sum, h.ZeroCount = h.Count+uint64(grow), h.Sum+rng.Float64(), h.ZeroCount+1
	return h
}

// steadyStore has series of histograms in several blocks and the head, of which two never reset, two do, two have late
// rows and two of which some rows were deleted.
func steadyStore(t *testing.T, rng *rand.Rand) *DB {
	t.Helper()
	db := openTest(t, small(fsx.NewCrashable()))
	ls := make([]labels.Labels, 8)
	refs := make([]sample.Ref, len(ls))
	for i := range ls {
		ls[i] = seriesName(i)
	}
	if err := db.Resolve(ls, refs); err != nil {
		t.Fatal(err)
	}
	last := make([]*histogram.Histogram, len(ls))
	for step := range 200 {
		var b sample.Batch
		for i, ref := range refs {
			at, resets := int64(step)*2000, 0
			if i/2 == 1 {
				resets = 40
			}
			if i/2 == 2 && rng.IntN(30) == 0 {
				at -= 1 + rng.Int64N(50_000)
			}
			last[i] = steadyHistogram(rng, last[i], resets)
			if i%2 == 0 {
				b.AppendHistogram(ref, 0, at, nil, last[i].ToFloat(nil), 0)
			} else {
				b.AppendHistogram(ref, 0, at, last[i].Copy(), nil, 0)
			}
		}
		var r sample.Result
		if _, err := db.Commit(t.Context(), &b, &r); err != nil {
			t.Fatal(err)
		}
		if step%60 == 59 {
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, i := range []int{6, 7} {
		for range 4 {
			from := rng.Int64N(400_000)
			m := labels.MustNewMatcher(labels.MatchEqual, "i", ls[i].Get("i"))
			if err := db.Delete(t.Context(), from, from+rng.Int64N(20_000), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	return db
}

// The statistics of histograms that are read without their buckets are those of histograms read whole.
func TestHistogramStatisticsNeedNoBuckets(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	db := steadyStore(t, rng)
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	set, err := v.Series(t.Context(), nil, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	hints := map[histogram.CounterResetHint]int{}
	var whole, thin column.Block
	for range 300 {
		n := column.Need{MinT: rng.Int64N(400_000), Float: true}
		n.MaxT = n.MinT + rng.Int64N(200_000)
		ids := []uint32{uint32(rng.IntN(set.N))}
		if _, err := v.Scan(t.Context(), set, ids, n, &whole); err != nil {
			t.Fatal(err)
		}
		column.SetHints(&whole)
		n.HistStats = true
		if _, err := v.Scan(t.Context(), set, ids, n, &thin); err != nil {
			t.Fatal(err)
		}
		if len(thin.T) != len(whole.T) {
			t.Fatalf("series %d from %d to %d: %d rows, want %d", ids[0], n.MinT, n.MaxT, len(thin.T), len(whole.T))
		}
		var prev *histogram.FloatHistogram
		for i, want := range whole.H.Float {
			hint := want.CounterResetHint
			if got := thin.H.Stored[i]; got != hint {
				t.Fatalf("series %d from %d to %d, row %d: stored hint %d, want %d", ids[0], n.MinT, n.MaxT, i, got, hint)
			}
			if !value.IsStaleNaN(want.Sum) {
				if hint == histogram.UnknownCounterReset && prev != nil {
					hint = histogram.NotCounterReset
					if want.DetectReset(prev) {
						hint = histogram.CounterReset
					}
				}
				prev = want
			}
			stats := histogram.FloatHistogram{CounterResetHint: hint, Schema: want.Schema, Count: want.Count, Sum: want.Sum}
			if got := histText(thin.H.Float[i]); got != histText(&stats) || thin.T[i] != whole.T[i] {
				t.Fatalf("series %d from %d to %d, row %d: %s, want %s", ids[0], n.MinT, n.MaxT, i, got, histText(&stats))
			}
			hints[hint]++
		}
	}
	if len(hints) != 3 {
		t.Errorf("hints that were seen: %v", hints)
	}
}

// Of histograms of which the ends are asked for, those are whole where they begin, end or reset, and the others have their
// times, hints and sizes.
func TestEndsOfHistogramsAreWhole(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	db := steadyStore(t, rng)
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	set, err := v.Series(t.Context(), nil, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	var whole, ends column.Block
	others := 0
	for range 300 {
		n := column.Need{MinT: rng.Int64N(400_000), Float: true}
		n.MaxT = n.MinT + rng.Int64N(200_000)
		ids := []uint32{uint32(rng.IntN(set.N))}
		if _, err := v.Scan(t.Context(), set, ids, n, &whole); err != nil {
			t.Fatal(err)
		}
		column.SetHints(&whole)
		n.Ends = true
		if _, err := v.Scan(t.Context(), set, ids, n, &ends); err != nil {
			t.Fatal(err)
		}
		column.SetHints(&ends)
		if len(ends.T) != len(whole.T) {
			t.Fatalf("series %d from %d to %d: %d rows, want %d", ids[0], n.MinT, n.MaxT, len(ends.T), len(whole.T))
		}
		unknown := func(i int) bool {
			return i == len(whole.T) || whole.H.Float[i].CounterResetHint != histogram.NotCounterReset
		}
		for i, want := range whole.H.Float {
			got := ends.H.Float[i]
			same := histText(got) == histText(want)
			if ends.T[i] != whole.T[i] || ends.Kind[i] != whole.Kind[i] || got.CounterResetHint != want.CounterResetHint ||
				got.Size() != want.Size() || !same && (unknown(i) || unknown(i+1)) {
				t.Fatalf("series %d from %d to %d, row %d of %d: %s, want %s", ids[0], n.MinT, n.MaxT, i, len(whole.T), histText(got), histText(want))
			}
			if !same {
				others++
			}
		}
	}
	if others < 1000 {
		t.Errorf("%d histograms were left out", others)
	}
}
