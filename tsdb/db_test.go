// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDir = "/data"

// small are options of a store that is cheap to crash and copy.
func small(fs fsx.FS) Options {
	return Options{Dir: testDir, FS: fs, SegmentBytes: minSegmentBytes, Slot: time.Minute, Shards: 4, MaxFuture: -1, BlockCache: 1 << 20}
}

func openTest(t testing.TB, o Options) *DB {
	t.Helper()
	db, err := Open(context.Background(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func seriesName(i int) labels.Labels {
	return labels.FromStrings(labels.MetricName, "m", "i", fmt.Sprintf("%04d", i))
}

// commit writes one float sample to each of the series and waits until it is durable.
func commit(t testing.TB, db *DB, ls []labels.Labels, ts int64, v func(i int) float64) sample.Result {
	t.Helper()
	r, err := tryCommit(db, ls, ts, v)
	if err != nil {
		t.Fatalf("commit at %d: %v", ts, err)
	}
	return r
}

func tryCommit(db *DB, ls []labels.Labels, ts int64, v func(i int) float64) (sample.Result, error) {
	var r sample.Result
	refs := make([]sample.Ref, len(ls))
	if err := db.Resolve(ls, refs); err != nil {
		return r, err
	}
	var b sample.Batch
	for i, ref := range refs {
		b.AppendFloat(ref, 0, ts, v(i), 0)
	}
	lsn, err := db.Commit(context.Background(), &b, &r)
	if err != nil {
		return r, err
	}
	return r, db.Durable(context.Background(), lsn)
}

type point struct {
	T int64
	V uint64 // bits
}

// contents reads everything that matches, by label text.
func contents(t testing.TB, db *DB, ms ...*labels.Matcher) map[string][]point {
	t.Helper()
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	defer v.Close()
	out := scanAll(t, v, ms...)
	if w := v.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %v", w)
	}
	return out
}

func scanAll(t testing.TB, v column.View, ms ...*labels.Matcher) map[string][]point {
	t.Helper()
	set, err := v.Series(context.Background(), ms, column.Hint{})
	if err != nil {
		t.Fatalf("series: %v", err)
	}
	out := map[string][]point{}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	var b column.Block
	var sb labels.ScratchBuilder
	last := labels.EmptyLabels()
	for len(ids) > 0 {
		n, err := v.Scan(context.Background(), set, ids, column.Need{}, &b)
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		for i := range n {
			ls := set.Labels(ids[i], &sb)
			if labels.Compare(last, ls) >= 0 && !last.IsEmpty() {
				t.Errorf("series %s after %s: not in label order", ls, last)
			}
			last = ls
			from, to := b.Rows(i)
			var ps []point
			for k := from; k < to; k++ {
				if k > from && b.T[k] <= b.T[k-1] {
					t.Errorf("series %s: %d after %d", ls, b.T[k], b.T[k-1])
				}
				ps = append(ps, point{b.T[k], math.Float64bits(b.V[k])})
			}
			if ps != nil {
				out[ls.String()] = ps
			}
		}
		ids = ids[n:]
	}
	return out
}

func wantContents(t testing.TB, db *DB, want map[string][]point) {
	t.Helper()
	if d := cmp.Diff(want, contents(t, db)); d != "" {
		t.Errorf("contents differ (-want +got):\n%s", d)
	}
}

func TestWrittenSamplesComeBackBitForBitAfterReopening(t *testing.T) {
	o := small(fsx.NewCrashable())
	db := openTest(t, o)
	values := []float64{
		0, math.Copysign(0, -1), 1.5, math.Inf(1), math.Inf(-1), math.NaN(),
		math.Float64frombits(0x7ff0000000000002), math.Float64frombits(0x7ff8000000000123), 5e-324, math.MaxFloat64,
	}
	want := map[string][]point{}
	ls := []labels.Labels{seriesName(1), seriesName(2)}
	for i, v := range values {
		commit(t, db, ls, int64(i)*1000, func(int) float64 { return v })
		for _, l := range ls {
			want[l.String()] = append(want[l.String()], point{int64(i) * 1000, math.Float64bits(v)})
		}
	}
	wantContents(t, db, want)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, o)
	wantContents(t, db, want)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(db.blocks.all()) == 0 {
		t.Error("flush made no block")
	}
	wantContents(t, db, want)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantContents(t, openTest(t, o), want)
}

// Every batch writes one value to all its series, so a view must find the same value in all of them, whatever is
// being written meanwhile: x - x == 0.
func TestViewsSeeBatchesWholeWhileOthersWrite(t *testing.T) {
	const series, writers, views = 64, 4, 8
	db := openTest(t, small(fsx.NewCrashable()))
	var stop atomic.Bool
	var wg sync.WaitGroup
	ls := make([]labels.Labels, series)
	for i := range ls {
		ls[i] = seriesName(i)
	}
	var clock atomic.Int64
	for range writers {
		wg.Go(func() {
			for !stop.Load() {
				// Writers race for the order: a batch that comes late is refused as a whole or stored as late
				// data as a whole, because all series have the same newest sample.
				ts := clock.Add(1)
				if _, err := tryCommit(db, ls, ts, func(int) float64 { return float64(ts) }); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
			}
		})
	}
	check := func(v column.View) map[string][]point {
		got := scanAll(t, v)
		var first []point
		for name, ps := range got {
			if first == nil {
				first = ps
			}
			if d := cmp.Diff(first, ps); d != "" {
				t.Errorf("series %s differs from another of the same batches (view not atomic):\n%s", name, d)
				return got
			}
		}
		if len(got) != 0 && len(got) != series {
			t.Errorf("%d series in a view, want none or %d", len(got), series)
		}
		return got
	}
	open := make([]column.View, views)
	seen := make([]map[string][]point, views)
	deadline := time.Now().Add(1500 * time.Millisecond)
	for i := 0; time.Now().Before(deadline) && !t.Failed(); i++ {
		k := i % views
		if open[k] != nil {
			if d := cmp.Diff(seen[k], check(open[k])); d != "" {
				t.Errorf("an open view changed:\n%s", d)
			}
			open[k].Close()
		}
		v, err := db.View(minTime, maxTime)
		if err != nil {
			t.Fatal(err)
		}
		open[k], seen[k] = v, check(v)
	}
	stop.Store(true)
	wg.Wait()
	for _, v := range open {
		if v != nil {
			v.Close()
		}
	}
}

func TestHeadAndBlocksMergeInLabelOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	db := openTest(t, small(fsx.NewCrashable()))
	want := map[string][]point{}
	for slot := range 6 {
		for step := range 5 {
			ts := int64(slot)*60_000 + int64(step)*10_000
			var ls []labels.Labels
			for i := range 40 {
				if rng.IntN(3) > 0 {
					ls = append(ls, seriesName(i))
				}
			}
			commit(t, db, ls, ts, func(int) float64 { return float64(ts) })
			for _, l := range ls {
				want[l.String()] = append(want[l.String()], point{ts, math.Float64bits(float64(ts))})
			}
		}
		if slot%2 == 1 {
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantContents(t, db, want)
}

func TestLateSamplesMergeAndTheFirstValueWins(t *testing.T) {
	o := small(fsx.NewCrashable())
	db := openTest(t, o)
	l := []labels.Labels{seriesName(1)}
	put := func(ts int64, v float64, want sample.Reason) {
		t.Helper()
		r := commit(t, db, l, ts, func(int) float64 { return v })
		if got := r.At(0); got != want {
			t.Errorf("t %d v %g: %s, want %s", ts, v, got, want)
		}
	}
	put(10_000, 1, sample.Accepted)
	put(30_000, 3, sample.Accepted)
	put(20_000, 2, sample.Accepted)
	put(20_000, 2, sample.Same)
	put(20_000, 9, sample.Conflict)
	put(30_000, 9, sample.Conflict)
	put(30_000, 3, sample.Same)
	want := map[string][]point{l[0].String(): {
		{10_000, math.Float64bits(1)}, {20_000, math.Float64bits(2)}, {30_000, math.Float64bits(3)},
	}}
	wantContents(t, db, want)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(20_000, 9, sample.Accepted) // the head does not hold the first any more; the block's value wins
	put(25_000, 2.5, sample.Accepted)
	want[l[0].String()] = append(want[l[0].String()][:2:2], point{25_000, math.Float64bits(2.5)}, want[l[0].String()][2])
	wantContents(t, db, want)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, want)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantContents(t, openTest(t, o), want)
}

func TestRetentionFollowsTheSamplesNotAWrongClock(t *testing.T) {
	check := func(name string, now time.Time, retention time.Duration, wantBlocks int) {
		t.Run(name, func(t *testing.T) {
			o := small(fsx.NewCrashable())
			db := openTest(t, o)
			base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
			for slot := range int64(5) {
				commit(t, db, []labels.Labels{seriesName(1)}, base+slot*60_000, func(int) float64 { return 1 })
			}
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			db.now = func() time.Time { return now }
			db.SetRetention(retention, 0)
			if err := db.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := len(db.blocks.all()); got != wantBlocks {
				t.Errorf("%d blocks are left, want %d", got, wantBlocks)
			}
		})
	}
	right := time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC)
	check("right clock, all within", right, time.Hour, 5)
	check("right clock, two minutes kept", right, 2*time.Minute, 3)
	check("clock ten years ahead", right.AddDate(10, 0, 0), time.Hour, 5)
	check("clock at 1970", time.UnixMilli(0), time.Minute, 5)
	check("retention 0 keeps for ever", right.AddDate(100, 0, 0), 0, 5)
}

func TestOnlyOneServerOpensADirectory(t *testing.T) {
	o := small(fsx.NewCrashable())
	openTest(t, o)
	if db, err := Open(t.Context(), o); err == nil {
		db.Close()
		t.Error("a second Open of the same directory succeeded")
	}
}

func TestNewerDirectoryIsNotTouched(t *testing.T) {
	fs := fsx.NewCrashable()
	o := small(fs)
	db, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(path.Join(testDir, "tidemark", "store.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(`{"format":99,"shards":4,"slot_ms":60000}`), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := Open(t.Context(), o); err == nil {
		t.Fatal("a directory of a newer format was opened")
	} else if want := "store format 99"; !containsText(err, want) {
		t.Errorf("error %q does not say %q", err, want)
	}
}

func containsText(err error, text string) bool {
	s := err.Error()
	for i := 0; i+len(text) <= len(s); i++ {
		if s[i:i+len(text)] == text {
			return true
		}
	}
	return false
}
