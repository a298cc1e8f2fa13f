// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"path"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

func equal(name, v string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, v)
}

// deleteStore holds three series with a sample every 10 s for 5 slots, 3 of them in blocks.
func deleteStore(t *testing.T, o Options) (*DB, map[string][]point) {
	t.Helper()
	db := openTest(t, o)
	ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2)}
	for ts := int64(0); ts < 5*60_000; ts += 10_000 {
		commit(t, db, ls, ts, func(i int) float64 { return float64(ts) + float64(i) })
		if ts == 3*60_000-10_000 {
			if err := db.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return db, contents(t, db)
}

func without(all map[string][]point, name string, mint, maxt int64) map[string][]point {
	out := map[string][]point{}
	for s, ps := range all {
		var keep []point
		for _, p := range ps {
			if s != name || p.T < mint || p.T > maxt {
				keep = append(keep, p)
			}
		}
		if keep != nil {
			out[s] = keep
		}
	}
	return out
}

func TestDeleteTakesExactlyTheRangeAndStaysOverRestartsFlushesAndRewrites(t *testing.T) {
	o := small(fsx.NewCrashable())
	db, all := deleteStore(t, o)
	name := seriesName(1).String()
	const mint, maxt = 95_000, 235_000 // ends inside a block and inside the head
	if err := db.Delete(t.Context(), mint, maxt, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	want := without(all, name, mint, maxt)
	wantContents(t, db, want)
	reopen := func() {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = openTest(t, o)
		wantContents(t, db, want)
	}
	reopen()
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, want)
	if err := db.CleanTombstones(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, want)
	for _, b := range db.blocks.all() {
		if len(b.dead) > 0 {
			t.Errorf("block %s still has tombstones", b.Meta().ULID)
		}
	}
	reopen()
	names, err := o.FS.List(path.Join(testDir, "tidemark", "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(db.blocks.all()) {
		t.Errorf("files %v are left for %d blocks", names, len(db.blocks.all()))
	}
}

func TestSamplesWrittenAfterADeleteAreNotTouchedByIt(t *testing.T) {
	o := small(fsx.NewCrashable())
	db, all := deleteStore(t, o)
	name := seriesName(1).String()
	if err := db.Delete(t.Context(), minTime, maxTime, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	commit(t, db, []labels.Labels{seriesName(1)}, 5*60_000, func(int) float64 { return 42 })
	want := without(all, name, minTime, maxTime)
	want[name] = contents(t, db)[name]
	if len(want[name]) != 1 || want[name][0].T != 5*60_000 {
		t.Fatalf("after the delete and one more sample the series holds %v", want[name])
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, want)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantContents(t, openTest(t, o), want)
}

func TestAnOpenViewDoesNotSeeALaterDelete(t *testing.T) {
	db, all := deleteStore(t, small(fsx.NewCrashable()))
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := db.Delete(t.Context(), minTime, maxTime, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	if err := db.CleanTombstones(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(all, scanAll(t, v)); d != "" {
		t.Errorf("the view changed (-before +after):\n%s", d)
	}
}

func TestASnapshotIsAStoreOfItsOwn(t *testing.T) {
	check := func(skipHead bool) {
		t.Helper()
		o := small(fsx.NewCrashable())
		db, want := deleteStore(t, o)
		if err := db.Delete(t.Context(), 0, 15_000, equal("i", "0002")); err != nil {
			t.Fatal(err)
		}
		want = without(want, seriesName(2).String(), 0, 15_000)
		if skipHead {
			for s := range want {
				want = without(want, s, 3*60_000, maxTime)
			}
		}
		name, err := db.Snapshot(t.Context(), skipHead)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, db, []labels.Labels{seriesName(9)}, 900_000, func(int) float64 { return 1 }) // must not reach the copy
		o.Dir = path.Join(testDir, "snapshots", name)
		copied := openTest(t, o)
		wantContents(t, copied, want)
		// What is written to the copy, into slots that its blocks hold too, survives a restart.
		commit(t, copied, []labels.Labels{seriesName(1)}, 5_000, func(int) float64 { return 7 })
		want = contents(t, copied)
		if err := copied.Close(); err != nil {
			t.Fatal(err)
		}
		wantContents(t, openTest(t, o), want)
	}
	check(false)
	check(true)
}

func FuzzTombstones(f *testing.F) {
	f.Add(tombstones{
		{series: map[uint32][]interval{1: {{0, 5}, {9, 9}}, 7: {{minTime, maxTime}}}}, {id: 9, all: []interval{{3, 4}}},
	}.appendTo(nil))
	f.Add([]byte(tombstoneMagic1 + "\xfd\x60\xd5\x45\x01\x02\x01\x00\x0a"))
	f.Add([]byte(tombstoneMagic))
	f.Fuzz(func(t *testing.T, p []byte) {
		dead, err := parseTombstones(p)
		if err != nil {
			return
		}
		again, err := parseTombstones(dead.appendTo(nil))
		if err != nil {
			t.Fatalf("what was parsed does not encode: %v", err)
		}
		if d := cmp.Diff(dead, again, cmp.AllowUnexported(interval{}, mask{})); d != "" {
			t.Errorf("encoding changed the tombstones:\n%s", d)
		}
	})
}

func TestADamagedTombstoneFileIsNeverTakenForAnother(t *testing.T) {
	p := tombstones{{id: 5, series: map[uint32][]interval{1: {{0, 5}, {9, 12}}, 300: {{-7, 1 << 40}}}}, {id: 7, all: []interval{{1, 2}}}}.appendTo(nil)
	for bit := range len(p) * 8 {
		q := append([]byte(nil), p...)
		q[bit/8] ^= 1 << (bit % 8)
		if _, err := parseTombstones(q); err == nil {
			t.Errorf("bit %d flipped: no error", bit)
		}
	}
	for n := range len(p) {
		if _, err := parseTombstones(p[:n]); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
}
