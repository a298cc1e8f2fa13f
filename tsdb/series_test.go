// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// labelTexts are the label sets of a set, in its order.
func labelTexts(set *column.SeriesSet) []string {
	var sb labels.ScratchBuilder
	out := make([]string, set.N)
	for i := range out {
		out[i] = set.Labels(uint32(i), &sb).String()
	}
	return out
}

func TestSeriesAreSortedAsLabelsAre(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, names := range []int{1, 3, 7} {
		for _, n := range []int{0, 1, 100, 3000} {
			texts := []string{""}
			for i := range 1 + rng.IntN(200) {
				texts = append(texts, fmt.Sprintf("v%04d", i))
			}
			if n > 1000 && names == 3 { // more texts than one pass tells apart
				for i := range 70_000 {
					texts = append(texts, fmt.Sprintf("w%06d", i))
				}
			}
			cols := make([][]uint32, names)
			all := make([]labels.Labels, n)
			for c := range cols {
				cols[c] = make([]uint32, n)
			}
			for r := range n {
				var b labels.ScratchBuilder
				for c := range cols {
					x := uint32(0)
					if rng.IntN(4) > 0 {
						x = uint32(rng.IntN(len(texts)))
					}
					if cols[c][r] = x; x > 0 {
						b.Add(fmt.Sprintf("n%d", c), texts[x])
					}
				}
				all[r] = b.Labels()
			}
			perm := sortRows(budget.NewTask(t.Context(), nil), cols, n, len(texts))
			if len(perm) != n {
				t.Fatalf("%d rows of %d", len(perm), n)
			}
			for i := 1; i < n; i++ {
				if a, b := all[perm[i-1]], all[perm[i]]; labels.Compare(a, b) > 0 {
					t.Fatalf("%d names, %d rows: %s before %s", names, n, a, b)
				}
			}
			slices.Sort(perm)
			if n > 0 && (perm[0] != 0 || perm[n-1] != uint32(n-1) || len(slices.Compact(perm)) != n) {
				t.Fatalf("%d names, %d rows: not a permutation", names, n)
			}
		}
	}
}

// checkSeries compares what a view answers with what it finds anew.
func checkSeries(t *testing.T, c column.View, gens map[uint64]string, ms ...*labels.Matcher) {
	t.Helper()
	v, _ := c.(*view)
	got, err := v.Series(t.Context(), ms, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	fresh, at, err := v.find(t.Context(), v.sources, ms, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	want := v.give(fresh, at, v.sources)
	if d := cmp.Diff(labelTexts(want), labelTexts(got)); d != "" {
		t.Fatalf("series of a view that others made (-want +got):\n%s", d)
	}
	if !slices.IsSorted(got.Text) || len(slices.Compact(slices.Clone(got.Text))) != len(got.Text) || got.Text[0] != "" {
		t.Errorf("texts are not in order: %q", got.Text)
	}
	text := strings.Join(labelTexts(got), "\n")
	if was, ok := gens[got.Gen]; ok && was != text {
		t.Errorf("two sets of generation %d", got.Gen)
	}
	gens[got.Gen] = text
	var a, b column.Block
	for id := range uint32(got.N) {
		for _, x := range []struct {
			set *column.SeriesSet
			to  *column.Block
		}{{got, &a}, {want, &b}} {
			if _, err := v.Scan(t.Context(), x.set, []uint32{id}, column.Need{}, x.to); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(a.T, b.T) || len(a.T) > 0 && !slices.Equal(a.V, b.V) {
			t.Errorf("samples of %s: %d, want %d", labelTexts(got)[id], a.T, b.T)
		}
	}
}

func TestSeriesThatAreKeptAreThoseOfTheView(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	db := openTest(t, small(fsx.NewCrashable()))
	var open []column.View
	gens := map[uint64]string{}
	now, born := int64(0), 20
	for range 250 {
		now += rng.Int64N(4000)
		if rng.IntN(3) == 0 {
			born += rng.IntN(4)
		}
		var ls []labels.Labels
		for i := max(0, born-20); i < born; i++ { // the oldest fall silent
			ls = append(ls, labels.FromStrings(labels.MetricName, fmt.Sprintf("m%d", i%3), "i", fmt.Sprint(i), fmt.Sprintf("x%d", i%2), "1"))
		}
		commit(t, db, ls, now-rng.Int64N(2)*rng.Int64N(90_000), one(1))
		switch rng.IntN(12) {
		case 0:
			if err := db.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := db.Delete(t.Context(), now-100_000, now-rng.Int64N(100_000), equal(labels.MetricName, "m1")); err != nil {
				t.Fatal(err)
			}
		case 2:
			if err := db.CleanTombstones(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		v, err := db.View(now-rng.Int64N(3)*100_000, now)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, v)
		for _, v := range open {
			checkSeries(t, v, gens, equal(labels.MetricName, "m0"))
			checkSeries(t, v, gens)
		}
		if i := rng.IntN(len(open)); len(open) > 3 {
			if err := open[i].Close(); err != nil {
				t.Fatal(err)
			}
			open = slices.Delete(open, i, i+1)
		}
	}
	for _, v := range open {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s := db.Stats().Series; s.Hits < 100 || s.Misses < 100 || s.Entries == 0 {
		t.Errorf("%d answers were kept ones, %d not, %d are", s.Hits, s.Misses, s.Entries)
	}
}

func TestANewViewListsWhatWasCommittedBefore(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	commit(t, db, []labels.Labels{seriesName(0)}, 0, one(0))
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 60 {
				ls := labels.FromStrings(labels.MetricName, "m", "w", fmt.Sprint(w), "i", fmt.Sprint(i))
				if _, err := tryCommit(db, []labels.Labels{ls}, int64(i), one(1)); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				v, err := db.View(minTime, maxTime)
				if err != nil {
					t.Errorf("view: %v", err)
					return
				}
				set, err := v.Series(t.Context(), []*labels.Matcher{equal(labels.MetricName, "m")}, column.Hint{})
				if err != nil || !slices.Contains(labelTexts(set), ls.String()) {
					t.Errorf("%s is not among the series (%v)", ls, err)
				}
				if err := v.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSeriesOfOtherMetricsLeaveAKeptAnswerAlone(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	gen := func() uint64 {
		t.Helper()
		v, err := db.View(minTime, maxTime)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		set, err := v.Series(t.Context(), []*labels.Matcher{equal(labels.MetricName, "m")}, column.Hint{})
		if err != nil {
			t.Fatal(err)
		}
		return set.Gen
	}
	commit(t, db, []labels.Labels{seriesName(0)}, 0, one(0))
	first := gen()
	commit(t, db, []labels.Labels{labels.FromStrings(labels.MetricName, "other")}, 1, one(0))
	if again := gen(); again != first {
		t.Error("a series of another metric made the answer anew")
	}
	commit(t, db, []labels.Labels{seriesName(1)}, 1, one(0))
	if again := gen(); again == first {
		t.Error("a series of the metric left the answer as it was")
	}
}

func TestTheSeriesCacheKeepsToItsLimitAndGivesBackWhatItTook(t *testing.T) {
	account := budget.NewRoot("cache", 0)
	c := newSeriesCache(10_000, account)
	for i := range 50 {
		c.put(&cachedSet{key: fmt.Sprint(i), set: column.SeriesSet{N: 100, Bytes: 400}, at: &places{}})
		if account.Used() > 10_000 || account.Used() != c.used {
			t.Fatalf("%d bytes charged, %d used", account.Used(), c.used)
		}
	}
	if len(c.byKey) < 5 || c.byKey["49"] == nil || c.byKey["0"] != nil {
		t.Errorf("%d answers are kept", len(c.byKey))
	}
	account.SetLimit(account.Used())
	c.put(&cachedSet{key: "a", set: column.SeriesSet{}, at: &places{}})
	if c.byKey["a"] == nil {
		t.Error("an answer does not push out others where memory is short")
	}
	c.empty()
	if account.Used() != 0 {
		t.Errorf("%d bytes are not given back", account.Used())
	}
}
