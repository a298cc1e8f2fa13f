// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"io"
	"math"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func one(v float64) func(int) float64 { return func(int) float64 { return v } }

func mustClose(t *testing.T, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// The checkpoint was written before the flush, and nothing came since: the block alone says that its rows are
// not to be taken from the checkpoint again.
func TestDeletedSamplesStayDeletedWhenTheirWholeBlockIsCleaned(t *testing.T) {
	o := small(fsx.NewCrashable())
	db := openTest(t, o)
	commit(t, db, []labels.Labels{seriesName(1)}, 1000, one(1))
	mustClose(t, db)
	db = openTest(t, o)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Delete(t.Context(), minTime, maxTime, equal(labels.MetricName, "m")); err != nil {
		t.Fatal(err)
	}
	if err := db.CleanTombstones(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(db.Blocks()); n != 0 {
		t.Errorf("%d blocks are left of deleted samples", n)
	}
	wantContents(t, db, map[string][]point{})
	mustClose(t, db)
	wantContents(t, openTest(t, o), map[string][]point{})
}

func TestABlockThatCannotBeOpenedAfterItsWriteLeavesNoFileBehind(t *testing.T) {
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	o := small(faulty)
	db := openTest(t, o)
	commit(t, db, []labels.Labels{seriesName(1)}, 1000, one(1))
	want := contents(t, db)
	faulty.Inject(fsx.Fault{Op: fsx.OpOpen, Path: "*.blk", Err: syscall.EMFILE})
	for range 2 {
		if err := db.Flush(t.Context()); !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("flush without file descriptors: %v", err)
		}
	}
	names, err := disk.List(testDir + "/tidemark/blocks")
	if err != nil || len(names) > 0 {
		t.Errorf("files %v (%v) are left of blocks that are not in use", names, err)
	}
	wantContents(t, db, want)
	faulty.Heal()
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, want)
}

func TestTombstonesStayWhileTheirBlockCannotBeRemoved(t *testing.T) {
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	o := small(faulty)
	db := openTest(t, o)
	commit(t, db, []labels.Labels{seriesName(1), seriesName(2)}, 1000, one(1))
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Delete(t.Context(), minTime, maxTime, equal("i", "0001")); err != nil {
		t.Fatal(err)
	}
	want := contents(t, db)
	faulty.Inject(fsx.Fault{Op: fsx.OpRemove, Path: "*.blk", Err: syscall.EACCES})
	db.SetRetention(0, 1)
	if err := db.Maintain(t.Context()); !errors.Is(err, syscall.EACCES) {
		t.Fatalf("retention over a directory that cannot be changed: %v", err)
	}
	faulty.Heal()
	mustClose(t, db)
	wantContents(t, openTest(t, o), want)
}

func TestScanGivesBackWithItsBlockAllThatItCharged(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	for ts := range int64(500) {
		commit(t, db, []labels.Labels{seriesName(1)}, 1000+ts, one(1))
	}
	v, set := wholeView(t, db)
	b := column.Block{Budget: budget.NewRoot("query", 0)}
	if _, err := v.Scan(t.Context(), set, []uint32{0}, column.Need{}, &b); err != nil {
		t.Fatal(err)
	}
	if used, have := b.Budget.Used(), int64(cap(b.T)+cap(b.V))*8; used != have {
		t.Errorf("%d bytes are charged for columns of %d", used, have)
	}
	b.Free()
	if n := b.Budget.Used(); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
}

// A limit that was lowered, or a share that others took, must not make the replay drop what was acknowledged.
func TestRecoveryKeepsAllThatWasAcknowledgedUnderASmallerBudget(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		disk := fsx.NewCrashable()
		db := openTest(t, small(disk))
		ls := make([]labels.Labels, 2000)
		for i := range ls {
			ls[i] = seriesName(i)
		}
		for ts := range int64(20) {
			commit(t, db, ls, 1000+ts, func(i int) float64 { return math.Sin(float64(i) * float64(ts)) })
		}
		want := contents(t, db)
		if checkpoint {
			if err := db.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		o := small(disk.Crash(0, 1))
		root := budget.NewRoot("process", 64<<10)
		o.Budget = root.Child("store", 0)
		again := openTest(t, o)
		wantContents(t, again, want)
		if root.Limit() != 64<<10 {
			t.Errorf("the limit is %d after the recovery", root.Limit())
		}
		var full *budget.ExceededError
		for i := range ls {
			ls[i] = labels.FromStrings("fresh", strings.Repeat("x", 100)+seriesName(i).Get("i"))
		}
		if err := again.Resolve(ls, make([]sample.Ref, len(ls))); !errors.As(err, &full) {
			t.Errorf("new series above the budget: %v, want them refused", err)
		}
	}
}

func TestCloseLeavesRunningCommitsAndViewsWhatTheyRead(t *testing.T) {
	db, err := Open(context.Background(), small(fsx.NewCrashable()))
	if err != nil {
		t.Fatal(err)
	}
	ls := []labels.Labels{seriesName(1), seriesName(2)}
	commit(t, db, ls, 1000, one(1))
	want := contents(t, db)
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	refs := make([]sample.Ref, 2)
	if err := db.Resolve(ls, refs); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		var b sample.Batch
		var r sample.Result
		for ts := int64(2000); ; ts++ {
			b.Reset()
			b.AppendFloat(refs[0], 0, ts, 1, 0)
			if _, err := db.Commit(context.Background(), &b, &r); err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(10 * time.Millisecond)
	mustClose(t, db)
	if err := <-done; err == nil {
		t.Error("a commit on a closed store succeeded")
	}
	got := scanAll(t, v)
	if len(got) != len(want) {
		t.Errorf("a view that was open at Close answers %v, want %v", got, want)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if _, err := db.View(minTime, maxTime); err == nil {
		t.Error("a closed store gave a view")
	}
}

// damage changes a byte of a file.
func damage(t *testing.T, fsys fsx.FS, name string, off int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	if off < 0 {
		off += size
	}
	b := []byte{0}
	if _, err := f.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// twoBlocks returns a closed store of two blocks, in slots 0 and 10.
func twoBlocks(t *testing.T) *fsx.Crashable {
	t.Helper()
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	commit(t, db, []labels.Labels{seriesName(1)}, 1000, one(1))
	commit(t, db, []labels.Labels{seriesName(1)}, 601_000, one(1))
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	return disk
}

func blockFiles(t *testing.T, disk fsx.FS) []string {
	t.Helper()
	names, err := disk.List(testDir + "/tidemark/blocks")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range names {
		if strings.HasSuffix(n, ".blk") {
			out = append(out, path.Join(testDir, "tidemark/blocks", n))
		}
	}
	return out
}

func warnings(t *testing.T, db *DB, mint, maxt int64) int {
	t.Helper()
	v, err := db.View(mint, maxt)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	return len(v.Warnings())
}

func TestAnswersOverAQuarantinedBlockCarryAWarningUntilItsFileIsDeleted(t *testing.T) {
	disk := twoBlocks(t)
	db := openTest(t, small(disk))
	first := db.Blocks()[0]
	mustClose(t, db)
	// The index: the meta is sound and tells the time.
	name := path.Join(testDir, "tidemark/blocks", first.ULID+".blk")
	damage(t, disk, name, offsetOf(t, disk, name, "__name__"))
	for range 2 {
		db = openTest(t, small(disk))
		if n := len(db.Blocks()); n != 1 {
			t.Fatalf("%d blocks, want the sound one", n)
		}
		if n := warnings(t, db, 0, 59_999); n != 1 {
			t.Errorf("%d warnings over the time of the block, want 1", n)
		}
		if n := warnings(t, db, 600_000, 660_000); n != 0 {
			t.Errorf("%d warnings over another time", n)
		}
		if !db.conds.has(ConditionQuarantined) {
			t.Error("no condition tells of the block")
		}
		mustClose(t, db)
	}
	names, err := disk.List(testDir + "/tidemark/quarantine")
	if err != nil || len(names) != 1 {
		t.Fatalf("quarantine holds %v (%v)", names, err)
	}
	if err := disk.Remove(path.Join(testDir, "tidemark/quarantine", names[0])); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, small(disk))
	if warnings(t, db, 0, 59_999) != 0 || len(db.Conditions()) != 0 {
		t.Error("warnings go on after the loss was accepted")
	}
}

func TestABlockWithoutAReadableMetaWarnsOfAllTimes(t *testing.T) {
	disk := twoBlocks(t)
	damage(t, disk, blockFiles(t, disk)[0], -1)
	db := openTest(t, small(disk))
	if warnings(t, db, 0, 59_999) != 1 || warnings(t, db, 600_000, 660_000) != 1 {
		t.Error("an answer that may lack samples carries no warning")
	}
}

func TestADamagedLogRaisesAConditionAndWarns(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	for ts := range int64(100) {
		commit(t, db, []labels.Labels{seriesName(1)}, 1000+ts, one(1))
	}
	crashed := disk.Crash(0, 1)
	names, err := crashed.List(testDir + "/tidemark/wal")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	damage(t, crashed, path.Join(testDir, "tidemark/wal", names[0]), 3000)
	again := openTest(t, small(crashed))
	if again.Recovery().Log.LostRecords == 0 {
		t.Fatal("nothing was lost: the test damages the wrong byte")
	}
	if !again.conds.has(ConditionQuarantined) {
		t.Error("records were lost, and no condition says so")
	}
	if warnings(t, again, 0, 5000) == 0 {
		t.Error("records were lost, and answers carry no warning")
	}
}

func TestABadSectorDoesNotKeepTheStoreFromStarting(t *testing.T) {
	for _, pattern := range []string{"*.blk", "*.ckpt"} {
		disk := twoBlocks(t)
		faulty := fsx.NewFaulty(disk)
		faulty.Inject(fsx.Fault{Op: fsx.OpRead, Path: pattern, Err: syscall.EIO})
		db, err := Open(t.Context(), small(faulty))
		faulty.Heal()
		if err != nil {
			t.Errorf("a bad sector in %s: %v", pattern, err)
			continue
		}
		if !db.conds.has(ConditionQuarantined) {
			t.Errorf("a bad sector in %s: no condition", pattern)
		}
		mustClose(t, db)
	}
}

func TestASlotThatCannotBecomeABlockHoldsUpNeitherOthersNorTheCheckpoint(t *testing.T) {
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	db := openTest(t, small(faulty))
	for slot := range int64(4) {
		commit(t, db, []labels.Labels{seriesName(1)}, slot*60_000, one(1))
	}
	faulty.Inject(fsx.Fault{Op: fsx.OpCreate, Path: "*.blk.tmp", Times: 1, Err: syscall.EIO})
	if err := db.Maintain(t.Context()); err == nil {
		t.Error("a slot could not be written, and nobody says so")
	}
	if n := len(db.Blocks()); n != 3 {
		t.Errorf("%d blocks, want those of the three other slots", n)
	}
	if db.lastCheckpoint() == 0 {
		t.Error("no checkpoint: the log grows for as long as one slot fails")
	}
}

func TestRetentionByTimeAndBytesRemovesABlockOnce(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := []labels.Labels{seriesName(1)}
	commit(t, db, ls, 1000, one(1))
	commit(t, db, ls, 50_000, one(1))
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, db, ls, 2000, one(1)) // late: a second block of the slot, which ends earlier
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, db, ls, 100_000, one(1)) // its slot is not over
	db.now = func() time.Time { return time.UnixMilli(100_000) }
	db.SetRetention(60*time.Second, 1)
	if err := db.Maintain(t.Context()); err != nil {
		t.Errorf("maintain: %v", err)
	}
	if n := len(db.Blocks()); n != 0 {
		t.Errorf("%d blocks are left, want none", n)
	}
}

func TestAReaderThatGivesUpRaisesNoCondition(t *testing.T) {
	db := openTest(t, small(twoBlocks(t)))
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := v.(column.ExemplarReader)
	src := v.(*view).sources
	for i, s := range src {
		src[i] = cancelling{s, cancel}
	}
	if _, err := r.Exemplars(ctx, minTime, maxTime, []*labels.Matcher{equal(labels.MetricName, "m")}); !errors.Is(err, context.Canceled) {
		t.Errorf("exemplars of a reader that gave up: %v", err)
	}
	if cs := db.Conditions(); len(cs) != 0 {
		t.Errorf("conditions %v", cs)
	}
}

// cancelling is a source whose reader gives up before it gets to the exemplars.
type cancelling struct {
	source
	cancel func()
}

func (c cancelling) eachPairs(ids []uint32, f func(pairs []uint32)) {
	c.cancel()
	c.source.eachPairs(ids, f)
}

func TestTheNewestSampleCanBeWrittenAgainAfterItWasDeletedFromABlock(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := []labels.Labels{seriesName(1)}
	commit(t, db, ls, 1000, one(1))
	want := contents(t, db)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Delete(t.Context(), minTime, maxTime, equal(labels.MetricName, "m")); err != nil {
		t.Fatal(err)
	}
	commit(t, db, ls, 1000, one(1))
	wantContents(t, db, want)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, want)
}

func TestAFailedSnapshotLeavesNothingBehind(t *testing.T) {
	disk := twoBlocks(t)
	faulty := fsx.NewFaulty(disk)
	db := openTest(t, small(faulty))
	faulty.Inject(fsx.Fault{Op: fsx.OpCreate, Path: "store.json.tmp", Err: syscall.ENOSPC})
	if _, err := db.Snapshot(t.Context(), false); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("snapshot on a full disk: %v", err)
	}
	if names, err := disk.List(testDir + "/snapshots"); err != nil || len(names) > 0 {
		t.Errorf("snapshots %v (%v) are left", names, err)
	}
}

// A flush is what gives memory back: it must not need what is not there.
func TestAHeadThatFillsTheBudgetStillBecomesBlocks(t *testing.T) {
	o := small(fsx.NewCrashable())
	root := budget.NewRoot("process", 0)
	o.Budget = root.Child("store", 0)
	db := openTest(t, o)
	ls := make([]labels.Labels, 500)
	for i := range ls {
		ls[i] = seriesName(i)
	}
	for ts := range int64(20) {
		commit(t, db, ls, 1000+ts, func(i int) float64 { return math.Sin(float64(i) * float64(ts)) })
	}
	want := contents(t, db)
	root.SetLimit(root.Used())
	if err := db.Flush(t.Context()); err != nil {
		t.Fatalf("flush: %v", err)
	}
	if n := len(db.Blocks()); n != 1 || len(db.head.Slots()) != 0 {
		t.Errorf("%d blocks and %d slots in the head, want one block that holds all", n, len(db.head.Slots()))
	}
	wantContents(t, db, want)
}

// offsetOf returns where a file holds a text.
func offsetOf(t *testing.T, fsys fsx.FS, name, text string) int64 {
	t.Helper()
	b, err := fsx.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(b), text)
	if i < 0 {
		t.Fatalf("%s does not hold %q", name, text)
	}
	return int64(i)
}

// A series that finds no memory to be published is gone again: its Ref must not look as if it were there.
func TestResolveAnswersNoRefForASeriesThatFoundNoMemory(t *testing.T) {
	o := small(fsx.NewCrashable())
	root := budget.NewRoot("process", 0)
	o.Budget = root.Child("store", 0)
	db := openTest(t, o)
	failed := 0
	for i := range 200 {
		// Texts that are there already, so that the tables of what is published are what has to grow.
		ls := []labels.Labels{labels.FromStrings("a", "x", "b", seriesName(i%20).Get("i"), "c", seriesName(i/20).Get("i")), seriesName(i)}
		refs := make([]sample.Ref, 2)
		root.SetLimit(max(1, root.Used()))
		err := db.Resolve(ls, refs)
		root.SetLimit(0)
		if err == nil {
			continue
		}
		if failed++; refs[0] != 0 && !db.head.Live(refs[0]) || refs[1] != 0 && (refs[0] == 0 || !db.head.Live(refs[1])) {
			t.Fatalf("refs %#x of series that are not there: %v", refs, err)
		}
		if err := db.Resolve(ls, refs); err != nil {
			t.Fatal(err)
		}
	}
	if failed == 0 {
		t.Error("memory was never short")
	}
}

func TestTimesAtTheEndsOfTheRangeAreKept(t *testing.T) {
	o := small(fsx.NewCrashable())
	o.Retention = 0
	db := openTest(t, o)
	for i, ts := range []int64{math.MinInt64 + 60_000, math.MinInt64 + 120_001, -1, 0, math.MaxInt64 - 120_001, math.MaxInt64 - 60_000} {
		if r := commit(t, db, []labels.Labels{seriesName(i)}, ts, one(float64(i))); r.Reason != nil {
			t.Errorf("a sample at %d is answered %v", ts, r.Reason)
		}
	}
	want := contents(t, db)
	if len(want) != 6 {
		t.Errorf("contents %v, want six samples", want)
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContents(t, db, want)
	if n := len(db.head.Slots()); n != 0 {
		t.Errorf("%d slots are left in the head", n)
	}
	mustClose(t, db)
	wantContents(t, openTest(t, o), want)
}

func TestLimitsDoNotWrapAround(t *testing.T) {
	o := small(fsx.NewCrashable())
	db := openTest(t, o)
	commit(t, db, []labels.Labels{seriesName(1)}, math.MinInt64+60_005, one(1))
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.SetRetention(time.Hour, 0)
	if err := db.Maintain(t.Context()); err != nil || len(db.Blocks()) != 1 {
		t.Errorf("maintain: %v, %d blocks; want the newest sample kept", err, len(db.Blocks()))
	}
	window := time.Hour
	db.SetLate(LateWindows{Push: &window, Scrape: time.Minute})
	if lim := db.limits(); lim.MinT > 0 || lim.MinPush > 0 || lim.MinScrape > 0 {
		t.Errorf("limits %+v refuse samples of now", lim)
	}
	if r := commit(t, db, []labels.Labels{seriesName(2)}, 1000, one(1)); r.Reason != nil {
		t.Errorf("a sample of now is answered %v", r.Reason)
	}
}

// A series that comes while a checkpoint is written is in the checkpoint, though its record is above. A start from
// there knows it and never logs it again: the record must be as durable as the checkpoint, for the start from the
// checkpoint before.
func TestACheckpointIsNotThereBeforeTheRecordsOfTheSeriesInIt(t *testing.T) {
	faulty := fsx.NewFaulty(fsx.NewCrashable())
	db := openTest(t, small(faulty))
	commit(t, db, []labels.Labels{seriesName(1)}, 1000, one(1))
	made, synced := sample.LSN(0), sample.LSN(0)
	faulty.Observe(func(op fsx.Op, name string) {
		switch {
		case !strings.Contains(name, ".ckpt"):
		case op == fsx.OpCreate:
			if err := db.Resolve([]labels.Labels{seriesName(2)}, make([]sample.Ref, 1)); err != nil {
				t.Error(err)
			}
			made = db.journal.Last()
		case op == fsx.OpRename:
			synced = db.journal.Synced()
		}
	})
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	faulty.Observe(nil)
	if made == 0 || synced < made {
		t.Errorf("the log was synced up to %d when the checkpoint got its name, a series in it is record %d", synced, made)
	}
}

func TestAnOldCheckpointThatIsGoneDoesNotHoldTheLog(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	for ts := range int64(4) {
		commit(t, db, []labels.Labels{seriesName(1)}, 1000+ts, one(1))
		if len(db.checkpoints) == 2 {
			if err := disk.Remove(db.checkpointPath(db.checkpoints[0])); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Checkpoint(t.Context()); err != nil {
			t.Errorf("checkpoint: %v", err)
		}
	}
	if at := db.floor.LSN(); at != db.keepFrom() || at == 1 {
		t.Errorf("the log is kept from %d on, want %d", at, db.keepFrom())
	}
}
