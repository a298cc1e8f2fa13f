// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// checkLatest compares what a view says without decoding with what its samples are, and returns how many it knew.
func checkLatest(t *testing.T, v column.View, at int64, ms ...*labels.Matcher) (known int) {
	t.Helper()
	set, err := v.Series(t.Context(), ms, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(set.N - 1 - i)
	}
	got := column.Latest{Known: make([]bool, set.N), T: make([]int64, set.N), V: make([]float64, set.N)}
	if err := v.(column.LatestReader).Latest(t.Context(), set, ids, at, &got); err != nil {
		t.Fatal(err)
	}
	var b column.Block
	for i, id := range ids {
		if !got.Known[i] {
			continue
		}
		known++
		if _, err := v.Scan(t.Context(), set, []uint32{id}, column.Need{MinT: math.MinInt64, MaxT: at}, &b); err != nil {
			t.Fatal(err)
		}
		n := len(b.T)
		switch {
		case n == 0 && got.T[i] != math.MinInt64:
			t.Errorf("at %d: row %d: %d, the view holds none", at, id, got.T[i])
		case n > 0 && (got.T[i] != b.T[n-1] || b.KindAt(n-1) != sample.Float || math.Float64bits(got.V[i]) != math.Float64bits(b.V[n-1])):
			t.Errorf("at %d: row %d: %d=%g, want %d=%g", at, id, got.T[i], got.V[i], b.T[n-1], b.V[n-1])
		}
	}
	return known
}

func TestLatestIsWhatAScanFinds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	db := openTest(t, small(fsx.NewCrashable()))
	ls := make([]labels.Labels, 40)
	for i := range ls {
		ls[i] = seriesName(i)
	}
	now, known := int64(0), 0
	var open []column.View
	for range 300 {
		now += rng.Int64N(3000)
		randomBatch(t, rng, db, ls, now)
		switch rng.IntN(25) {
		case 0:
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 1:
			from := now - rng.Int64N(60_000)
			if err := db.Delete(t.Context(), from, from+rng.Int64N(60_000), equal("i", "0003")); err != nil {
				t.Fatal(err)
			}
		case 2, 3, 4, 5, 6:
			v, err := db.View(now-rng.Int64N(200_000), now+rng.Int64N(10_000)-5000)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, v)
		}
		for _, v := range open {
			known += checkLatest(t, v, now+rng.Int64N(20_000)-10_000)
		}
		if len(open) > 3 {
			if err := open[0].Close(); err != nil {
				t.Fatal(err)
			}
			open = open[1:]
		}
	}
	for _, v := range open {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if known < 100 {
		t.Errorf("the head knew %d samples only", known)
	}
}

// randomBatch writes floats, stale markers, late samples and now and then a histogram.
func randomBatch(t *testing.T, rng *rand.Rand, db *DB, ls []labels.Labels, now int64) {
	t.Helper()
	refs := make([]sample.Ref, len(ls))
	if err := db.Resolve(ls, refs); err != nil {
		t.Fatal(err)
	}
	var b sample.Batch
	for _, ref := range refs {
		at := now
		switch rng.IntN(12) {
		case 0:
			at -= rng.Int64N(150_000)
		case 1:
			b.AppendFloat(ref, 0, at, math.Float64frombits(value.StaleNaN), 0)
			continue
		case 2:
			if rng.IntN(4) == 0 {
				b.AppendHistogram(ref, 0, at, &histogram.Histogram{Count: 1, ZeroCount: 1, Sum: rng.Float64()}, nil, 0)
			}
			continue
		case 3:
			continue
		}
		b.AppendFloat(ref, 0, at, rng.Float64(), 0)
	}
	var r sample.Result
	if _, err := db.Commit(t.Context(), &b, &r); err != nil {
		t.Fatal(err)
	}
}

func TestLatestOfAViewStaysWhileOthersAppend(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := make([]labels.Labels, 200)
	for i := range ls {
		ls[i] = seriesName(i)
	}
	commit(t, db, ls, 0, one(0))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for at := int64(1); ; at++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := tryCommit(db, ls, at, one(float64(at))); err != nil {
				t.Errorf("commit: %v", err)
				return
			}
		}
	})
	known := 0
	for range 200 {
		v, err := db.View(minTime, maxTime)
		if err != nil {
			t.Fatal(err)
		}
		known += checkLatest(t, v, maxTime)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if known == 0 {
		t.Error("the head never knew a sample")
	}
}

func TestLatestOfASeriesThatCameBackOlderThanItsBlockIsNotKnown(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	gone, stays := []labels.Labels{seriesName(1)}, []labels.Labels{seriesName(2)}
	commit(t, db, gone, 50_000, one(5))
	for at := int64(60_000); at <= 600_000; at += 30_000 {
		commit(t, db, stays, at, one(1))
		if err := db.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := db.head.Lookup(gone[0]); ok {
		t.Fatal("the silent series is still in the head")
	}
	commit(t, db, stays, 700_000, one(1))
	commit(t, db, gone, 40_000, one(4))
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if known := checkLatest(t, v, 55_000); known > 0 {
		t.Errorf("%d samples are known", known)
	}
	if known := checkLatest(t, v, maxTime); known != 1 {
		t.Errorf("%d samples are known, want that of the other series", known)
	}
}
