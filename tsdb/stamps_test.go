// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// clock is a clock that tests set.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

const stampStart = 1_700_000_000_000

func clockStore(t *testing.T) (*DB, *clock) {
	t.Helper()
	db := openTest(t, small(fsx.NewCrashable()))
	c := &clock{}
	c.ms.Store(stampStart)
	db.now = c.now
	return db, c
}

func named(name string) labels.Labels { return labels.FromStrings(labels.MetricName, name) }

// samplesIn returns what a view shows of a range, by series.
func samplesIn(t *testing.T, db *DB, mint, maxt int64, ms ...*labels.Matcher) map[string][]point {
	t.Helper()
	v, err := db.View(mint, maxt)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	all := scanAll(t, v, ms...)
	maps.DeleteFunc(all, func(_ string, ps []point) bool { return len(ps) == 0 })
	return all
}

func TestAStampCountsWhatComesLateWhereItComes(t *testing.T) {
	db, c := clockStore(t)
	a, b := []*labels.Matcher{equal(labels.MetricName, "a")}, []*labels.Matcher{equal(labels.MetricName, "b")}
	either := []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, "a|c")}
	prefix := []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, "a.*")}
	old := int64(stampStart - 10*minute)
	stamp := func(ms []*labels.Matcher) uint64 { return db.Stamp(ms, old, db.Sealed()) }
	check := func(what string, wantA, wantB bool, f func()) {
		t.Helper()
		before := []uint64{stamp(a), stamp(b), stamp(either), stamp(prefix), stamp(nil)}
		f()
		after := []uint64{stamp(a), stamp(b), stamp(either), stamp(prefix), stamp(nil)}
		want := []bool{wantA, wantB, wantA, wantA || wantB, wantA || wantB}
		for i := range want {
			if got := after[i] != before[i]; got != want[i] || after[i] < before[i] {
				t.Errorf("%s: stamp %d went from %d to %d", what, i, before[i], after[i])
			}
		}
	}
	put := func(name string, ts int64) func() {
		return func() { commit(t, db, []labels.Labels{named(name)}, ts, one(1)) }
	}
	check("live", false, false, put("a", stampStart))
	check("live, half a minute ago", false, false, put("b", stampStart-liveFor))
	check("late", true, false, put("a", stampStart-2*minute))
	check("late before the range", false, false, put("a", old-2*minute))
	check("late after the range", false, false, put("a", db.Sealed()+minute))
	c.ms.Add(-5 * minute)
	check("live by a clock that was set back", true, false, put("a", stampStart-5*minute))
	c.ms.Store(stampStart + minute)
	check("of another time of its minute", false, true, put("b", stampStart-3*minute+1))
	check("a flush", false, false, func() {
		if err := db.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	check("a deletion", true, true, func() {
		if err := db.Delete(t.Context(), minTime, maxTime, equal(labels.MetricName, "a")); err != nil {
			t.Fatal(err)
		}
	})
	check("retention", true, true, func() {
		c.ms.Add(1000 * minute)
		db.SetRetention(time.Minute, 0)
		put("a", c.ms.Load())()
		if err := db.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAStampNeverFallsAndSeesWhatIsLateWhileRowsArePutTogether(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	account := budget.NewRoot("stamps", 0)
	var s stamps
	now := int64(stampStart)
	type query struct {
		mint, maxt int64
		cell       uint32
		last       uint64
	}
	queries := make([]query, 200)
	for i := range queries {
		from := stampStart - rng.Int64N(2*stampSlots*stampSlot)
		queries[i] = query{mint: from, maxt: from + rng.Int64N(30*stampSlot), cell: uint32(rng.IntN(4))}
	}
	most := 0
	for range 30_000 {
		now += rng.Int64N(10 * minute)
		at := stampStart - rng.Int64N(2*stampSlots*stampSlot)
		if rng.IntN(3) == 0 {
			at = now - rng.Int64N(2*stampFine*minute)
		}
		cell := uint8(rng.IntN(4))
		s.count([]lateCell{lateCellOf(at, cell)}, now, account)
		for i := range queries {
			q := &queries[i]
			if at >= q.mint && at <= q.maxt && uint32(cell) == q.cell {
				if n := s.sum([]uint32{q.cell}, q.mint, q.maxt); n <= q.last {
					t.Fatalf("[%d, %d]: %d after %d, with a late row at %d", q.mint, q.maxt, n, q.last, at)
				}
			}
		}
		q := &queries[rng.IntN(len(queries))]
		n := s.sum([]uint32{q.cell}, q.mint, q.maxt)
		if n < q.last {
			t.Fatalf("[%d, %d]: %d after %d", q.mint, q.maxt, n, q.last)
		}
		q.last = n
		from := now - rng.Int64N(2*stampFine*minute)
		to := from + rng.Int64N(stampFine*minute)
		if got, want := s.sum([]uint32{uint32(cell), allNames}, from, to), sumOfRows(&s, []uint32{uint32(cell), allNames}, from, to); got != want {
			t.Fatalf("[%d, %d]: %d, want %d", from, to, got, want)
		}
		most = max(most, len(s.fine)+len(s.coarse))
	}
	rows := len(s.fine) + len(s.hours) + len(s.coarse)
	if s.rest != nil {
		rows++
	}
	if most > stampFine+stampSlots+2 || len(s.hours) > 25 || s.rest == nil || account.Used() != int64(rows)*rowBytes {
		t.Errorf("%d rows at most, %d now, %d bytes", most, rows, account.Used())
	}
}

func TestWhatHasTheSameStampIsTheSame(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	db, c := clockStore(t)
	names := []string{"a", "b", "c"}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	defer wg.Wait()
	defer close(stop)
	for w := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				ts := c.ms.Load() - rng.Int64N(liveFor)
				switch rng.IntN(200) {
				case 0, 1:
					ts -= rng.Int64N(10 * minute)
				case 2:
					if err := db.Delete(t.Context(), ts-5*minute, ts-minute, equal(labels.MetricName, "c")); err != nil {
						t.Errorf("delete: %v", err)
					}
				case 3:
					if err := db.Flush(t.Context()); err != nil {
						t.Errorf("flush: %v", err)
					}
				}
				ls := labels.FromStrings(labels.MetricName, names[rng.IntN(3)], "i", string(rune('0'+rng.IntN(5))))
				if _, err := tryCommit(db, []labels.Labels{ls}, ts, one(rng.Float64())); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				c.ms.Add(rng.Int64N(200))
			}
		})
	}
	type answer struct {
		ms         []*labels.Matcher
		mint, maxt int64
		stamp      uint64
		samples    map[string][]point
	}
	rng := rand.New(rand.NewPCG(seed, 99))
	var kept []answer
	same, other := 0, 0
	for i := 0; i < 30_000 && (same < 300 || other < 30); i++ {
		if i%4 == 0 || len(kept) == 0 {
			x := answer{ms: []*labels.Matcher{equal(labels.MetricName, names[rng.IntN(3)])}, maxt: db.Sealed()}
			x.mint = x.maxt - rng.Int64N(10*minute)
			x.stamp = db.Stamp(x.ms, x.mint, x.maxt)
			x.samples = samplesIn(t, db, x.mint, x.maxt, x.ms...)
			kept = append(kept, x)
		}
		k := rng.IntN(len(kept))
		x := kept[k]
		now := samplesIn(t, db, x.mint, x.maxt, x.ms...)
		if db.Stamp(x.ms, x.mint, x.maxt) != x.stamp {
			kept = slices.Delete(kept, k, k+1)
			other++
		} else if same++; !maps.EqualFunc(x.samples, now, func(a, b []point) bool { return slices.Equal(a, b) }) {
			t.Fatalf("[%d, %d] of %s changed, the stamp did not", x.mint, x.maxt, x.ms)
		}
		if len(kept) > 20 {
			kept = slices.Delete(kept, 0, 10)
		}
	}
	if same < 300 || other < 30 {
		t.Errorf("%d stamps were the same, %d others", same, other)
	}
}

// sumOfRows is sum without the rows by hour.
func sumOfRows(s *stamps, cells []uint32, mint, maxt int64) (n uint64) {
	for length, rows := range map[int64]map[int64]*stampRow{minute: s.fine, stampSlot: s.coarse} {
		for at, row := range rows {
			for _, c := range cells {
				if at <= maxt && at+length > mint {
					n += uint64(row[c])
				}
			}
		}
	}
	return n
}
