// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const testSlot = 60_000 // ms, of small

// settle flushes everything and writes two checkpoints above the blocks, so that all of them may be merged.
func settle(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := db.logNothing(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := db.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// fillSlots commits a sample every 10 s to each of the series, in the slots [from, to), and flushes after each.
func fillSlots(t testing.TB, db *DB, from, to int64, ls []labels.Labels) {
	t.Helper()
	for slot := from; slot < to; slot++ {
		for ts := slot * testSlot; ts < (slot+1)*testSlot; ts += 10_000 {
			commit(t, db, ls, ts, func(i int) float64 { return float64(ts) + float64(i) })
		}
		if err := db.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// spans lists the blocks: first slot, slots, level.
func spans(db *DB) [][3]int64 {
	var out [][3]int64
	for _, m := range db.Blocks() {
		out = append(out, [3]int64{m.SlotStart / testSlot, (m.SlotEnd - m.SlotStart) / testSlot, int64(m.Level)})
	}
	return out
}

func compactAll(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Compact(t.Context()); err != nil {
		t.Fatalf("compact: %v", err)
	}
}

func TestBlocksOfAWindowBecomeOneAndAnswersStay(t *testing.T) {
	o := small(fsx.NewCrashable())
	db := openTest(t, o)
	few := []labels.Labels{seriesName(0), seriesName(2)}
	many := []labels.Labels{seriesName(0), seriesName(1), seriesName(3)}
	fillSlots(t, db, 0, 5, few)
	fillSlots(t, db, 5, 14, many)
	// Late: between others, at times that are there already, and a series that has nothing else.
	for ts := int64(65_000); ts < 500_000; ts += 60_000 {
		commit(t, db, []labels.Labels{seriesName(0), seriesName(7)}, ts, func(int) float64 { return -1 })
	}
	commit(t, db, []labels.Labels{seriesName(2)}, 130_000, func(int) float64 { return -2 }) // loses against the block's
	settle(t, db)
	want := contents(t, db)
	old, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	compactAll(t, db)
	if d := cmp.Diff([][3]int64{{0, 12, 2}, {12, 1, 0}, {13, 1, 0}}, spans(db)); d != "" {
		t.Errorf("blocks after the merges: first slot, slots, level (-want +got):\n%s", d)
	}
	wantContents(t, db, want)
	if d := cmp.Diff(want, scanAll(t, old)); d != "" {
		t.Errorf("a view that was open changed (-before +after):\n%s", d)
	}
	m := db.Blocks()[0]
	if len(m.Sources) < 12 || m.Series != 5 {
		t.Errorf("the merged block has %d series and names %d sources", m.Series, len(m.Sources))
	}
	if s := db.Stats().Merges; s.Done == 0 || s.Failed != 0 || s.BytesWritten == 0 || s.BytesRead <= s.BytesWritten || s.AllSeries != 0 {
		t.Errorf("stats after the merges: %+v", s)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, o)
	wantContents(t, db, want)
	compactAll(t, db)
	if n := len(db.Blocks()); n != 3 {
		t.Errorf("%d blocks after a restart, want 3", n)
	}
	for _, dir := range []string{db.layout.merging(), db.layout.blocks()} {
		names, err := o.FS.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{db.layout.merging(): 0, db.layout.blocks(): 3}[dir]; len(names) != want {
			t.Errorf("%s holds %v, want %d files", dir, names, want)
		}
	}
}

func TestRowsOfTheLogAreNotHadTwiceAfterAMergeNorLost(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	ls := []labels.Labels{seriesName(0), seriesName(1)}
	fillSlots(t, db, 0, 13, ls)
	settle(t, db)
	commit(t, db, ls, 100_500, func(int) float64 { return 5 }) // late, in a slot that is about to be merged
	compactAll(t, db)
	want := contents(t, db)
	for _, percent := range []int{0, 100, 50} {
		again := openTest(t, small(disk.Crash(percent, 7)))
		wantContents(t, again, want)
		settle(t, again)
		compactAll(t, again)
		wantContents(t, again, want)
	}
}

func TestABlockIsNotMergedBeforeNoStartNeedsItsLSN(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	fillSlots(t, db, 0, 2, []labels.Labels{seriesName(0)})
	late := []labels.Labels{seriesName(0), seriesName(5)}
	for ts := int64(5_000); ts < 60_000; ts += 10_000 {
		commit(t, db, late, ts, func(int) float64 { return 1 })
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	compactAll(t, db)
	if n := len(db.Blocks()); n != 3 {
		t.Errorf("%d blocks, want 3: the newest checkpoint but one is older than the late block", n)
	}
	settle(t, db)
	compactAll(t, db)
	if d := cmp.Diff([][3]int64{{0, 1, 1}, {1, 1, 0}}, spans(db)); d != "" {
		t.Errorf("blocks (-want +got):\n%s", d)
	}
}

func TestADamagedBlockIsLeftAloneAndTheOthersAreMerged(t *testing.T) {
	disk := fsx.NewCrashable()
	o := small(disk)
	o.BlockCache = 1 // nothing stays in memory
	db := openTest(t, o)
	fillSlots(t, db, 0, 13, []labels.Labels{seriesName(0), seriesName(1)})
	settle(t, db)
	bad := db.Blocks()[3].ULID
	flip(t, disk, block.Path(db.layout.blocks(), bad), 18)
	if err := db.Compact(t.Context()); !damaged(err) {
		t.Errorf("compact over a damaged block: %v, want the damage", err)
	}
	if d := cmp.Diff([][3]int64{{0, 12, 1}, {3, 1, 0}, {12, 1, 0}}, spans(db)); d != "" {
		t.Errorf("blocks (-want +got):\n%s", d)
	}
	if s := db.Stats().Merges; s.Failed != 1 {
		t.Errorf("%d merges failed, want 1", s.Failed)
	}
	flip(t, disk, block.Path(db.layout.blocks(), bad), 18)
	db.recheck()
	compactAll(t, db)
	if d := cmp.Diff([][3]int64{{0, 12, 2}, {12, 1, 0}}, spans(db)); d != "" {
		t.Errorf("blocks when it can be read again (-want +got):\n%s", d)
	}
}

func TestAMergeWaitsForRoomOnTheDisk(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	fillSlots(t, db, 0, 13, []labels.Labels{seriesName(0)})
	settle(t, db)
	disk.SetFree(2_000)
	compactAll(t, db)
	if n, s := len(db.Blocks()), db.Stats().Merges; n != 13 || s.Skipped == 0 {
		t.Errorf("%d blocks, stats %+v: merged without room", n, s)
	}
	disk.SetFree(-1)
	compactAll(t, db)
	if n := len(db.Blocks()); n != 2 {
		t.Errorf("%d blocks after there was room, want 2", n)
	}
}

func TestAMergeLetsOthersGoFirstAndGetsToItsEnd(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := make([]labels.Labels, 6) // 72 in 12 blocks: one look at what else there is to do
	for i := range ls {
		ls[i] = seriesName(i)
	}
	fillSlots(t, db, 0, 13, ls)
	settle(t, db)
	db.raiseMemory()
	compactAll(t, db)
	s := db.Stats().Merges
	if s.Done != 1 || s.PauseSeconds < mergePause.Seconds()*mergePauses {
		t.Errorf("%d merges, which paused for %.2f s while memory was used up", s.Done, s.PauseSeconds)
	}
}

func TestAMergeEndsWithItsContextAndLeavesNothing(t *testing.T) {
	o := small(fsx.NewCrashable())
	db := openTest(t, o)
	fillSlots(t, db, 0, 13, []labels.Labels{seriesName(0)})
	settle(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Compact(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("compact: %v", err)
	}
	names, err := o.FS.List(db.layout.merging())
	if err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if used := db.upkeep.Used(); db.Stats().Merges.Done != 0 || used < 0 {
		t.Errorf("%d bytes charged, stats %+v", used, db.Stats().Merges)
	}
}

func TestDeletesDuringAMergeAreInItsBlock(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := []labels.Labels{seriesName(0), seriesName(1)}
	fillSlots(t, db, 0, 13, ls)
	settle(t, db)
	want := without(contents(t, db), seriesName(1).String(), 100_000, 300_000)
	job, ok := db.nextMerge()
	if !ok {
		t.Fatal("nothing to merge")
	}
	parents, final, err := db.holdParents(job.Inputs)
	if err != nil {
		t.Fatal(err)
	}
	x := &mergeRun{db: db, parents: parents, final: final}
	if err := x.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Delete(t.Context(), 100_000, 300_000, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, want)
	if err := x.publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.end()
	releaseAll(parents)
	wantContents(t, db, want)
	compactAll(t, db)
	wantContents(t, db, want)
	if n := len(db.Blocks()); n != 2 {
		t.Errorf("%d blocks, want 2", n)
	}
}

func TestHistogramsExemplarsStartsAndDescriptionsSurviveMerges(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	a, b := seriesName(1), seriesName(2)
	refs := make([]sample.Ref, 2)
	if err := db.Resolve([]labels.Labels{a, b}, refs); err != nil {
		t.Fatal(err)
	}
	for slot := range int64(13) {
		var batch sample.Batch
		var r sample.Result
		ts := slot*testSlot + 1000
		batch.AppendFloat(refs[0], ts-500, ts, float64(slot), 0)
		batch.AppendHistogram(refs[1], ts-700, ts, tsdbutil.GenerateTestHistogram(slot), nil, 0)
		batch.Exemplars = []sample.Exemplar{{Ref: refs[0], Labels: labels.FromStrings("trace", "x"), V: float64(slot), T: ts, HasT: true}}
		batch.Meta = []sample.Metadata{{Ref: refs[0], Type: "gauge", Help: "help " + string(rune('a'+slot/4))}}
		if _, err := db.Commit(t.Context(), &batch, &r); err != nil {
			t.Fatal(err)
		}
		if err := db.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, db)
	describe := func() map[string]any {
		v, err := db.view(t.Context(), minTime, maxTime)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.users.enter(); err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		out := map[string]any{}
		for s, err := range v.eachSeries(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for i := s.From; i < s.To; i++ {
				row := []any{s.Rows.T[i], s.Rows.STAt(i), s.Rows.V[i], s.Rows.KindAt(i)}
				if s.Rows.KindAt(i) == sample.Histogram {
					row = append(row, s.Rows.H.Int[i].String())
				}
				key := s.Labels.String()
				rows, _ := out[key].([]any)
				out[key] = append(rows, row)
			}
		}
		for _, src := range v.sources {
			for id := range uint32(2) {
				b, ok := src.(blockSource)
				if !ok || int(id) >= b.idx.N() {
					continue
				}
				es, err := src.exemplars(t.Context(), id, minTime, maxTime)
				if err != nil {
					t.Fatal(err)
				}
				n, _ := out["exemplars"].(int)
				out["exemplars"] = n + len(es)
			}
			for family, ds := range maps.Collect(src.metadata("")) {
				for _, d := range ds {
					out[family+d.Help] = true
				}
			}
		}
		return out
	}
	want := describe()
	compactAll(t, db)
	if n := len(db.Blocks()); n != 2 {
		t.Fatalf("%d blocks, want 2", n)
	}
	if d := cmp.Diff(want, describe()); d != "" {
		t.Errorf("the merge changed (-before +after):\n%s", d)
	}
	if want["exemplars"] != 13 {
		t.Errorf("%v exemplars before the merge, want 13", want["exemplars"])
	}
}
