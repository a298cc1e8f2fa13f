// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// The n-th operation of a step on the files of blocks, tombstones and deletes fails, once or from there on, for all n. Whatever a
// delete, an undo, a merge or a purge answers then, the store shows the state before it or after it, the same after a
// restart, and gets on when the disk works again.
func TestNoFailingOperationLeavesADeleteOrAMergeHalfDone(t *testing.T) {
	for _, pattern := range []string{"*.blk", "*.blk.tmp", "*.del", "*.del.tmp", "deletes", "deletes.tmp", "blocks", "merging", "tidemark"} {
		for _, times := range []int{1, 0} {
			quiet := 0
			for n := 0; quiet < 2; n++ {
				where := fmt.Sprintf("%s, %d. operation, times %d", pattern, n, times)
				if faultedRun(t, where, fsx.Fault{Op: fsx.OpChange | fsx.OpRead | fsx.OpOpen, Path: pattern, After: n, Times: times, Err: syscall.EIO}) {
					quiet = 0
				} else {
					quiet++
				}
				if t.Failed() {
					return
				}
			}
		}
	}
}

// faultedRun reports whether a step failed.
func faultedRun(t *testing.T, where string, fault fsx.Fault) (failed bool) {
	t.Helper()
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	o := small(faulty)
	o.BlockCache = 1 // what is read comes from the disk
	db, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ls := []labels.Labels{seriesName(0), seriesName(1)}
	for slot := range int64(3) {
		commit(t, db, ls, slot*testSlot+1000, func(i int) float64 { return float64(slot) })
		commit(t, db, ls[:1], slot*testSlot/2+500, func(i int) float64 { return -1 })
		if err := db.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, db, ls, 3*testSlot+1000, func(int) float64 { return 9 })
	settle(t, db)
	commit(t, db, ls, 3*testSlot+2000, func(int) float64 { return 10 })
	all := contents(t, db)
	gone := without(all, seriesName(1).String(), minTime, maxTime)
	step := func(name string, before, after map[string][]point, f func() error) {
		t.Helper()
		if t.Failed() {
			return
		}
		faulty.Inject(fault)
		err := f()
		failed = failed || err != nil
		faulty.Heal()
		got := contents(t, db)
		b, a := cmp.Diff(before, got), cmp.Diff(after, got)
		if a != "" && (err == nil || b != "") {
			t.Errorf("%s: %s: %v: neither as before (-want +got):\n%snor as after:\n%s", where, name, err, b, a)
		}
		again, oerr := Open(t.Context(), small(disk.Crash(100, 1)))
		if oerr != nil {
			t.Errorf("%s: %s: %v: open after it: %v", where, name, err, oerr)
			return
		}
		if d := cmp.Diff(got, contents(t, again)); d != "" {
			t.Errorf("%s: %s: %v: a restart changed (-before +after):\n%s", where, name, err, d)
		}
		if cerr := again.Close(); cerr != nil {
			t.Errorf("%s: %s: close: %v", where, name, cerr)
		}
	}
	del := func() error { return db.Delete(t.Context(), minTime, maxTime, equal("i", "0001")) }
	step("delete", all, gone, del)
	step("merge", gone, gone, func() error { return db.Compact(t.Context()) })
	now := contents(t, db)
	if ds := db.Deletes(); len(ds) > 0 && !ds[len(ds)-1].Final {
		step("undo", now, all, func() error { return db.Undelete(t.Context(), ds[len(ds)-1].ID) })
	}
	now = contents(t, db)
	gone = without(now, seriesName(1).String(), minTime, maxTime)
	step("merge again", now, now, func() error { return db.Compact(t.Context()) })
	step("delete again", now, gone, del)
	now = contents(t, db)
	step("purge", now, now, func() error { return db.CleanTombstones(t.Context()) })
	if err := db.Close(); err != nil {
		t.Errorf("%s: close: %v", where, err)
	}
	return failed
}
