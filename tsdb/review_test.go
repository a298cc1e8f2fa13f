// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"math"
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
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	set, err := v.Series(t.Context(), nil, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
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
