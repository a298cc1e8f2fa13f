// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func lastDelete(t testing.TB, db *DB) sample.LSN {
	t.Helper()
	ds := db.Deletes()
	if len(ds) == 0 {
		t.Fatal("no deletes are listed")
	}
	return ds[len(ds)-1].ID
}

func TestADeleteCanBeUndoneUntilItIsPurged(t *testing.T) {
	o := small(fsx.NewCrashable())
	db, all := deleteStore(t, o)
	reopen := func() {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = openTest(t, o)
	}
	name := seriesName(1).String()
	if err := db.Delete(t.Context(), 95_000, 235_000, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	gone := without(all, name, 95_000, 235_000)
	id := lastDelete(t, db)
	if d := db.Deletes()[0]; d.Match != `{i="0001"}` || d.MinT != 95_000 || d.MaxT != 235_000 || d.Series != 1 || d.Final || time.Since(d.At) > time.Minute {
		t.Errorf("listed as %+v", d)
	}
	for _, step := range []func(){reopen, func() { settle(t, db) }, func() { compactAll(t, db) }, reopen} {
		step()
		wantContents(t, db, gone)
	}
	if err := db.Undelete(t.Context(), id+1000); !errors.Is(err, ErrNoDelete) {
		t.Errorf("undelete of what never was: %v", err)
	}
	old, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := db.Undelete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, all)
	if d := cmp.Diff(gone, scanAll(t, old)); d != "" {
		t.Errorf("a view that was open before the undelete changed:\n%s", d)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	reopen()
	wantContents(t, db, all)
	if n := len(db.Deletes()); n != 0 {
		t.Errorf("%d deletes are listed after the undelete", n)
	}
	if err := db.Delete(t.Context(), 95_000, 235_000, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	id = lastDelete(t, db)
	before := db.DiskBytes()
	if err := db.CleanTombstones(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Undelete(t.Context(), id); !errors.Is(err, ErrNoDelete) {
		t.Errorf("undelete after the purge: %v", err)
	}
	wantContents(t, db, gone)
	if now := db.DiskBytes(); now >= before {
		t.Errorf("%d bytes on disk after the purge, %d before", now, before)
	}
}

func TestDeletesBecomeFinalWithAgeAndMergesPurgeThem(t *testing.T) {
	o := small(fsx.NewCrashable())
	db, all := deleteStore(t, o)
	settle(t, db)
	if err := db.Delete(t.Context(), 0, 100_000, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	want := without(all, seriesName(1).String(), 0, 100_000)
	compactAll(t, db)
	if ds := db.Deletes(); len(ds) != 1 || ds[0].Final {
		t.Fatalf("deletes %+v, want one that is not final", ds)
	}
	db.now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	settle(t, db)
	fillSlots(t, db, 84, 86, []labels.Labels{seriesName(9)}) // the windows of what is deleted are over
	settle(t, db)
	compactAll(t, db)
	for _, b := range db.blocks.all() {
		if len(b.dead) > 0 {
			t.Errorf("block %+v still hides %v", b.Meta(), b.dead)
		}
	}
	if ds := db.Deletes(); len(ds) != 0 {
		t.Errorf("deletes %+v are left", ds)
	}
	got := contents(t, db)
	delete(got, seriesName(9).String())
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("contents (-want +got):\n%s", d)
	}
}

// Deletes and undeletes go on beside views that are opened and read: each of them sees the series, which is in blocks and
// in the head, whole or not at all.
func TestEveryViewSeesADeleteWholeOrNotAtAll(t *testing.T) {
	db, all := deleteStore(t, small(fsx.NewCrashable()))
	name := seriesName(1).String()
	n := len(all[name])
	var stop atomic.Bool
	done := make(chan error)
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			err := db.Delete(context.Background(), minTime, maxTime, equal("i", "0001"))
			if err == nil {
				ds := db.Deletes()
				err = db.Undelete(context.Background(), ds[len(ds)-1].ID)
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	seen := map[int]int{}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		seen[len(contents(t, db, equal("i", "0001"))[name])]++
	}
	stop.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0] == 0 || seen[n] == 0 {
		t.Errorf("views saw this many of %d samples: %v", n, seen)
	}
}

func TestADeleteThatACrashCutShortIsCompletedAndFinal(t *testing.T) {
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	db, all := deleteStore(t, small(faulty))
	want := without(all, seriesName(1).String(), minTime, maxTime)
	var crashed *fsx.Crashable
	faulty.Observe(func(op fsx.Op, name string) {
		if crashed == nil && op&fsx.OpRename != 0 {
			crashed = disk.Crash(0, 1) // the log is synced, no tombstones are there
		}
	})
	if err := db.Delete(t.Context(), minTime, maxTime, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, small(crashed))
	wantContents(t, again, want)
	ds := again.Deletes()
	if len(ds) != 1 || !ds[0].Final {
		t.Fatalf("deletes %+v, want one that is final", ds)
	}
	if err := again.Undelete(t.Context(), ds[0].ID); !errors.Is(err, ErrFinal) {
		t.Errorf("undelete: %v", err)
	}
}

func TestADamagedListOfDeletesMakesThemFinal(t *testing.T) {
	o := small(fsx.NewCrashable())
	db, all := deleteStore(t, o)
	if err := db.Delete(t.Context(), minTime, maxTime, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	name := db.layout.deletes()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := fsx.ReadFile(o.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p {
		q := slices.Clone(p)
		q[i] ^= 0x10
		if _, err := parseDeletes(q); err == nil {
			t.Errorf("byte %d changed: no error", i)
		}
	}
	f, err := o.FS.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0}, int64(len(p)/2)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, o)
	wantContents(t, db, without(all, seriesName(1).String(), minTime, maxTime))
	if len(db.Deletes()) != 0 || !db.conds.has(ConditionQuarantined) {
		t.Errorf("deletes %v, conditions %v", db.Deletes(), db.Conditions())
	}
}

// version is a sample that was accepted; more than one may be of one series and time.
type version struct {
	v     uint64
	masks map[sample.LSN]bool // the deletes that hide it
	gone  bool
}

// deletesModel is a store as its documentation has it.
type deletesModel struct {
	series map[string]map[int64][]*version // by time, in the order of their commits
}

func (m *deletesModel) put(name string, ts int64, v float64) {
	if m.series[name] == nil {
		m.series[name] = map[int64][]*version{}
	}
	m.series[name][ts] = append(m.series[name][ts], &version{v: math.Float64bits(v), masks: map[sample.LSN]bool{}})
}

func (m *deletesModel) each(name string, mint, maxt int64, f func(vs []*version)) {
	for s, times := range m.series {
		for ts, vs := range times {
			if (name == "" || s == name) && ts >= mint && ts <= maxt {
				f(vs)
			}
		}
	}
}

func (m *deletesModel) delete(id sample.LSN, name string, mint, maxt int64) {
	m.each(name, mint, maxt, func(vs []*version) {
		for _, v := range vs {
			v.masks[id] = true
		}
	})
}

func (m *deletesModel) undelete(id sample.LSN) {
	m.each("", minTime, maxTime, func(vs []*version) {
		replaced := slices.ContainsFunc(vs, func(v *version) bool { return !v.gone && !v.masks[id] })
		for _, v := range vs {
			if v.masks[id] {
				delete(v.masks, id)
				v.gone = v.gone || replaced
			}
		}
	})
}

func (m *deletesModel) purge() {
	for _, times := range m.series {
		for ts, vs := range times {
			times[ts] = slices.DeleteFunc(vs, func(v *version) bool { return v.gone || len(v.masks) > 0 })
		}
	}
}

func (m *deletesModel) contents() map[string][]point {
	out := map[string][]point{}
	for name, times := range m.series {
		for ts, vs := range times {
			i := slices.IndexFunc(vs, func(v *version) bool { return !v.gone && len(v.masks) == 0 })
			if i >= 0 {
				out[name] = append(out[name], point{ts, vs[i].v})
			}
		}
		slices.SortFunc(out[name], func(a, b point) int { return int(a.T - b.T) })
	}
	return out
}

func TestDeletesUndeletesLateSamplesAndMergesDoAsTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := small(fsx.NewCrashable())
		db, err := Open(context.Background(), o)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		m := &deletesModel{series: map[string]map[int64][]*version{}}
		now, value, last := int64(0), 0.0, [3]int64{}
		put := func(i int, ts int64) {
			value++
			r, err := tryCommit(db, []labels.Labels{seriesName(i)}, ts, func(int) float64 { return value })
			if err != nil {
				rt.Fatal(err)
			}
			if len(r.Reason) == 0 || r.Reason[0] == sample.Accepted {
				m.put(seriesName(i).String(), ts, value)
			}
		}
		must := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		span := func() (int64, int64) {
			from := rapid.Int64Range(0, now/5_000).Draw(rt, "from") * 5_000
			return from, from + rapid.Int64Range(0, 60).Draw(rt, "length")*5_000
		}
		ops := map[string]func(){
			"append": func() {
				for range rapid.IntRange(1, 30).Draw(rt, "samples") {
					now += 5_000
					for i := range 3 {
						put(i, now)
					}
				}
			},
			"late": func() {
				for range rapid.IntRange(1, 5).Draw(rt, "samples") {
					put(rapid.IntRange(0, 3).Draw(rt, "series"), rapid.Int64Range(0, now/5_000).Draw(rt, "time")*5_000)
				}
			},
			"delete": func() {
				i := rapid.IntRange(0, 3).Draw(rt, "series")
				mint, maxt := span()
				must(db.Delete(context.Background(), mint, maxt, equal("i", fmt.Sprintf("%04d", i))))
				ds := db.Deletes()
				m.delete(ds[len(ds)-1].ID, seriesName(i).String(), mint, maxt)
				last = [3]int64{int64(i), mint / 5_000, min(maxt, now) / 5_000}
			},
			"rewrite": func() { // where the last delete was
				for ts := last[1]; ts <= last[2]; ts += rapid.Int64Range(1, 9).Draw(rt, "step") {
					put(int(last[0]), ts*5_000)
				}
			},
			"undelete": func() {
				if ds := db.Deletes(); len(ds) > 0 {
					d := rapid.SampledFrom(ds).Draw(rt, "id")
					must(db.Undelete(context.Background(), d.ID))
					m.undelete(d.ID)
				}
			},
			"flush": func() { must(db.Flush(context.Background())) },
			"compact": func() {
				must(db.Flush(context.Background()))
				for range 2 {
					must(db.logNothing(context.Background()))
					must(db.Checkpoint(context.Background()))
				}
				must(db.Compact(context.Background()))
			},
			"clean": func() {
				must(db.CleanTombstones(context.Background()))
				m.purge()
			},
			"restart": func() {
				must(db.Close())
				var err error
				db, err = Open(context.Background(), o)
				must(err)
			},
			"crash": func() {
				disk, _ := o.FS.(*fsx.Crashable)
				old := db
				o.FS = disk.Crash(rapid.IntRange(0, 100).Draw(rt, "percent"), rapid.Uint64().Draw(rt, "seed"))
				must(old.Close())
				var err error
				db, err = Open(context.Background(), o)
				must(err)
			},
		}
		names := []string{"append", "append", "late", "late", "delete", "delete", "undelete", "rewrite", "flush", "compact", "compact", "clean", "restart", "crash"}
		for range rapid.IntRange(1, 40).Draw(rt, "ops") {
			op := rapid.SampledFrom(names).Draw(rt, "op")
			ops[op]()
			v, err := db.View(minTime, maxTime)
			must(err)
			got := scanAll(t, v)
			must(v.Close())
			if d := cmp.Diff(m.contents(), got); d != "" {
				rt.Fatalf("after %s (-model +store):\n%s", op, d)
			}
		}
	})
}

// The disk is cut off before every operation of a workload of deletes, undos, merges and purges. Each step is found done or
// not done, never half, and stays so over merges and a purge.
func TestEveryCrashPointOfDeletesFindsEachStepDoneOrNot(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	db, err := Open(t.Context(), small(faulty))
	if err != nil {
		t.Fatal(err)
	}
	ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2)}
	put := func(ls []labels.Labels, ts int64) func() error {
		return func() error {
			_, err := tryCommit(db, ls, ts, func(i int) float64 { return float64(ts*10) + float64(i) })
			return err
		}
	}
	del := func(mint, maxt int64, i int) func() error {
		return func() error {
			return db.Delete(t.Context(), mint, maxt, equal("i", fmt.Sprintf("%04d", i)))
		}
	}
	undo := func(k int) func() error {
		return func() error { return db.Undelete(t.Context(), db.Deletes()[k].ID) }
	}
	flush := func() error { return db.Flush(t.Context()) }
	merge := func() error {
		for range 2 {
			if err := errors.Join(db.logNothing(t.Context()), db.Checkpoint(t.Context())); err != nil {
				return err
			}
		}
		return db.Compact(t.Context())
	}
	steps := []func() error{
		put(ls, 10_000), put(ls, 40_000), put(ls, 70_000), flush, put(ls, 130_000), put(ls, 200_000),
		del(0, 140_000, 0), put(ls[:1], 40_000), del(60_000, 300_000, 1), undo(0), flush, del(0, 100_000, 2), put(ls, 260_000),
		merge, undo(1), put(ls[2:], 15_000), flush, merge, undo(0), del(0, 50_000, 1), del(200_000, 300_000, 0),
		func() error { return db.CleanTombstones(t.Context()) }, merge, put(ls, 900_000), flush, merge,
	}
	type state struct {
		name string
		disk *fsx.Crashable
		step int
	}
	var states []state
	var mu sync.Mutex
	step, n := 0, uint64(0)
	faulty.Observe(func(op fsx.Op, name string) {
		if op&fsx.OpChange == 0 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		percent := []int{0, 100, 50}[n%3]
		states = append(states, state{fmt.Sprintf("step %d, op %d (%v %s), %d%%, seed %d", step, n, op, name, percent, seed+n), disk.Crash(percent, seed+n), step})
	})
	want := []map[string][]point{{}}
	for i, f := range steps {
		mu.Lock()
		step = i
		mu.Unlock()
		if err := f(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		want = append(want, contents(t, db))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states", len(states))
	for _, s := range states {
		o := small(s.disk)
		again, err := Open(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		got := contents(t, again)
		if before, after := cmp.Diff(want[s.step], got), cmp.Diff(want[s.step+1], got); before != "" && after != "" {
			t.Fatalf("%s: neither as before (-want +got):\n%snor as after:\n%s", s.name, before, after)
		}
		if cs := again.Conditions(); len(cs) > 0 {
			t.Errorf("%s: conditions %v", s.name, cs)
		}
		if err := again.Close(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if again, err = Open(t.Context(), o); err != nil {
			t.Fatalf("%s, again: %v", s.name, err)
		}
		wantContents(t, again, got)
		if err := errors.Join(again.Compact(t.Context()), again.CleanTombstones(t.Context())); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		wantContents(t, again, got)
		if err := again.Close(); err != nil || t.Failed() {
			t.Fatalf("%s: %v", s.name, err)
		}
	}
}
