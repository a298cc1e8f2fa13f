// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// pressed returns a store whose memory new series have used up, and those that are there.
func pressed(t *testing.T, limit int64) (db *DB, known []sample.Ref) {
	t.Helper()
	o := small(fsx.NewCrashable())
	o.Slot = 2 * time.Hour
	o.Budget = budget.NewRoot("process", limit)
	db = openTest(t, o)
	const step = 100
	for len(known) < 1_000_000 {
		ls := make([]labels.Labels, step)
		for i := range ls {
			ls[i] = seriesName(len(known) + i)
		}
		if _, err := tryCommit(db, ls, 1, func(int) float64 { return 1 }); err != nil {
			if !db.conds.has(ConditionMemory) {
				t.Fatalf("after %d series: %v, and no condition", len(known), err)
			}
			return db, known
		}
		refs := make([]sample.Ref, step)
		if err := db.Resolve(ls, refs); err != nil {
			t.Fatal(err)
		}
		known = append(known, refs...)
	}
	t.Fatal("no series was refused")
	return nil, nil
}

// Whoever asks for more series than there is memory for hears of those that exist in the same call, however many new ones
// are before them.
func TestSeriesBehindThoseWithoutMemoryAreFound(t *testing.T) {
	db, known := pressed(t, 12<<20)
	const fresh = 2 * createBatch
	ls := []labels.Labels{seriesName(0)}
	for i := range fresh {
		ls = append(ls, labels.FromStrings(labels.MetricName, "fresh", "i", strconv.Itoa(i)))
		if i%createBatch == 0 {
			ls = append(ls, seriesName(i+1))
		}
	}
	ls = append(ls, seriesName(2))
	refs := make([]sample.Ref, len(ls))
	err := db.Resolve(ls, refs)
	if _, full := errors.AsType[*budget.ExceededError](err); !full {
		t.Fatalf("resolved: %v", err)
	}
	for i, want := range map[int]sample.Ref{0: known[0], 2: known[1], createBatch + 3: known[createBatch+1], len(ls) - 1: known[2]} {
		if refs[i] != want {
			t.Errorf("%s has ref %d, want %d", ls[i], refs[i], want)
		}
	}
	if refs[len(ls)-2] != 0 {
		t.Error("a series was made where there is no memory")
	}
}

// Series that have used memory up go on for as long as they like: what they hold is put aside, nothing of it is refused,
// and the condition ends by itself.
func TestKnownSeriesGoOnWhenMemoryIsUsedUp(t *testing.T) {
	db, known := pressed(t, 12<<20)
	now := time.Now()
	db.now = func() time.Time { return now }
	refused := 0
	for round := range 25 {
		const part = 4 // of a scrape interval
		for k := range part {
			var b sample.Batch
			var r sample.Result
			for i := k * len(known) / part; i < (k+1)*len(known)/part; i++ {
				b.AppendFloat(known[i], 0, int64(round+2)*15_000, float64(round*i)*1.1, 0) // nothing to compress
			}
			if _, err := db.Commit(t.Context(), &b, &r); err != nil {
				t.Fatal(err)
			}
			for i := range b.Len() {
				if r.At(i) != sample.Accepted {
					refused++
				}
			}
			if err := db.spillDue(t.Context()); err != nil {
				t.Fatal(err)
			}
			db.watchDisk()
		}
		now = now.Add(15 * time.Second)
	}
	if refused > 0 {
		t.Errorf("%d samples of %d known series were refused", refused, len(known))
	}
	if len(known) < 20_000 {
		t.Errorf("%d series only had room", len(known))
	}
	if db.conds.has(ConditionMemory) {
		t.Error("the condition has not ended")
	}
	if _, err := tryCommit(db, []labels.Labels{labels.FromStrings(labels.MetricName, "new", "text", string(make([]byte, 64<<10)))}, 1, func(int) float64 { return 1 }); err == nil {
		t.Error("a series is taken for which the others would have no room")
	}
}

// The condition ends seconds after there is room again, which more memory or series that leave may make.
func TestThePressureOfMemoryEndsSecondsAfterThereIsRoom(t *testing.T) {
	db, _ := pressed(t, 8<<20)
	now := time.Now()
	db.now = func() time.Time { return now }
	check := func(after time.Duration, want bool) {
		t.Helper()
		now = now.Add(after)
		db.watchDisk()
		if got := db.conds.has(ConditionMemory); got != want {
			t.Errorf("the condition holds: %t, want %t", got, want)
		}
	}
	full := func() { db.opts.Budget.SetLimit(db.opts.Budget.Used()) } // whatever the store has given back by itself
	full()
	check(2*roomRest, true)
	db.opts.Budget.SetLimit(64 << 20)
	check(time.Millisecond, false)
	full()
	if _, err := tryCommit(db, []labels.Labels{labels.FromStrings(labels.MetricName, "another")}, 1, func(int) float64 { return 1 }); err == nil {
		t.Fatal("a series was taken where there is no room")
	}
	check(0, true)
	db.opts.Budget.SetLimit(8 << 20)
	commit(t, db, []labels.Labels{seriesName(0)}, 4*2*time.Hour.Milliseconds(), func(int) float64 { return 1 })
	for range 2 { // the first makes a block of the slot, in which the others were, and they leave
		if err := db.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.spillDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(2*roomRest, false)
}
