// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// flushedStore returns a disk with a block of the first slot whose rows the log still has, because no checkpoint could be
// written since, and samples behind it.
func flushedStore(t *testing.T) (*DB, *fsx.Crashable) {
	t.Helper()
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	db := openTest(t, small(faulty))
	ls := []labels.Labels{seriesName(1), seriesName(2)}
	commit(t, db, ls, 1000, one(1))
	faulty.Inject(fsx.Fault{Op: fsx.OpCreate, Path: "*.ckpt.tmp", Err: syscall.ENOSPC})
	if err := db.Flush(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("flush without room for a checkpoint: %v", err)
	}
	faulty.Heal()
	if n := len(db.Blocks()); n != 1 {
		t.Fatalf("%d blocks", n)
	}
	return db, disk
}

// A block that is deleted for want of space stays deleted: its rows do not come back out of the log.
func TestRowsOfDeletedBlocksDoNotComeBackAfterACrash(t *testing.T) {
	wants := func(what string, db *DB, blocks int) {
		t.Helper()
		if n := len(db.Blocks()); n != blocks {
			t.Errorf("%s: %d blocks, want %d", what, n, blocks)
		}
	}
	full := func(disk *fsx.Crashable) Options {
		o := small(disk)
		o.MinFree, o.DeleteOldest = testMinFree, true
		return o
	}
	db, disk := flushedStore(t)
	want := contents(t, db)
	disk.SetFree(testMinFree / 2)
	db.SetMinFree(testMinFree)
	db.SetDeleteOldest(true)
	db.watchDisk()
	wants("behind the checkpoint", db, 1)
	disk.SetFree(-1)
	db.watchDisk()
	image := disk.Crash(0, 1)
	image.SetFree(testMinFree / 2)
	s := startStepped(t, full(image))
	s.watchDisk()
	wants("during a restore", s.DB, 1)
	wantContents(t, openTest(t, small(image.Crash(0, 1))), want)
	s.finish(t)
	image.SetFree(-1)
	s.watchDisk()
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	image.SetFree(testMinFree / 2)
	s.watchDisk()
	wants("before the checkpoint", s.DB, 0)
	wantContents(t, openTest(t, small(image.Crash(0, 1))), map[string][]point{})
}

// A commit that is under way when a store that is being restored is closed gives back what it was charged, and Close the
// rest: nothing twice.
func TestACommitDuringACloseGivesItsChargeBackOnce(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	commit(t, db, []labels.Labels{seriesName(0)}, 1000, one(1))
	o := small(disk.Crash(0, 1))
	o.Budget = budget.NewRoot("process", 0)
	entered, free := make(chan struct{}, 100), make(chan struct{})
	o.restoreStep = func(sample.LSN) { entered <- struct{}{}; <-free }
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	commit(t, s, []labels.Labels{seriesName(1)}, 2000, one(2)) // is queued
	if err := s.users.enter(); err != nil {
		t.Fatal(err)
	}
	charged, err := s.chargeQueue(1000)
	if err != nil || charged != 1000 {
		t.Fatalf("%d bytes, %v", charged, err)
	}
	s.stop()
	close(free)
	mustClose(t, s)
	s.restoring.account.Release(charged) // as a commit does that could not be logged
	if used := s.restoring.account.Used(); used < 0 {
		t.Errorf("%d bytes were given back twice", -used)
	}
	s.users.leave()
	if used := s.restoring.account.Used(); used != 0 {
		t.Errorf("%d bytes are left", used)
	}
	if used := o.Budget.Used(); used != 0 {
		t.Errorf("%d bytes of the store are left", used)
	}
}

// Who asks a store that could not be restored is told its state, not the words of the disk alone.
func TestAStoreThatCouldNotBeRestoredIsUnavailable(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	commit(t, db, []labels.Labels{seriesName(0)}, 1000, one(1))
	if err := db.Whole(); err != nil {
		t.Errorf("a whole store: %v", err)
	}
	image := disk.Crash(0, 1)
	s := startStepped(t, small(image))
	if err := s.Whole(); !isRestoring(err) {
		t.Errorf("during a restore: %v", err)
	}
	failing := fsx.NewFaulty(image.Crash(0, 1), fsx.Fault{Op: fsx.OpOpen, Path: "*.seg", After: segmentOpens(t, image) - 1, Err: syscall.EMFILE})
	failed, err := Start(t.Context(), small(failing))
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, failed)
	<-failed.Restored()
	for what, err := range map[string]error{"await": failed.Await(t.Context(), minTime, maxTime), "whole": failed.Whole(), "maintain": failed.Maintain(t.Context())} {
		e, ok := errors.AsType[*sample.UnavailableError](err)
		if !ok || e.Condition != ConditionRestoring || e.RetryAfter != 0 || !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s: %v, want that it is unavailable, and why", what, err)
		}
	}
	if cs := failed.Conditions(); len(cs) != 1 || cs[0].Code != ConditionRestoring || !strings.Contains(cs[0].Effect, "could not be applied") {
		t.Errorf("conditions %v", cs)
	}
}
