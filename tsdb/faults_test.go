// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// stride is how many points of a grid one is tried of: all in the long run, as `make test-long` is.
func stride(short int) int {
	if os.Getenv("TIDEMARK_TEST") == "long" {
		return 1
	}
	return short
}

// cut is a state that a power cut could have left of a disk.
type cut struct {
	name string
	disk *fsx.Crashable
}

// cuts runs f on a disk and returns the states that a cut before each of its operations could leave, each point in three
// ways.
func cuts(disk *fsx.Crashable, seed uint64, f func(fsx.FS)) []cut {
	faulty := fsx.NewFaulty(disk)
	var mu sync.Mutex
	var out []cut
	n := uint64(0)
	faulty.Observe(func(op fsx.Op, name string) {
		if op&fsx.OpChange == 0 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		for _, percent := range []int{0, 100, 50} {
			out = append(out, cut{fmt.Sprintf("op %d (%v %s), %d%%, seed %d", n, op, path.Base(name), percent, seed+n), disk.Crash(percent, seed+n)})
		}
	})
	f(faulty)
	return out
}

// The power fails at every operation of a start that recovers from a power cut, and the start after that recovers all.
func TestEveryCrashPointOfARecoveryRecoversWhatWasAcknowledged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	disk := fsx.NewCrashable()
	l := newLedger()
	db, err := Open(t.Context(), small(disk))
	if err != nil {
		t.Fatal(err)
	}
	type first struct {
		cut
		acked map[string]map[int64]uint64
	}
	var firsts []first
	faulty := fsx.NewFaulty(disk)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(t.Context(), small(faulty)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	faulty.Observe(func(op fsx.Op, name string) {
		mu.Lock()
		defer mu.Unlock()
		if n++; op&fsx.OpChange != 0 && n%stride(13) == 0 {
			firsts = append(firsts, first{cut{fmt.Sprintf("first cut at %d (%v %s)", n, op, path.Base(name)), disk.Crash(50, seed+uint64(n))}, l.clone()})
		}
	})
	if err := crashWorkload(t.Context(), db, l); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	states := 0
	for _, x := range firsts {
		for _, again := range cuts(x.disk, seed, func(fsys fsx.FS) {
			db, err := Open(context.Background(), small(fsys))
			if err != nil {
				t.Fatalf("%s: %v", x.name, err)
			}
			if err := db.Close(); err != nil {
				t.Errorf("%s: close: %v", x.name, err)
			}
		}) {
			states++
			where := x.name + ", second " + again.name
			db, err := Open(context.Background(), small(again.disk))
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			l.check(t, where, db, x.acked)
			if err := db.Close(); err != nil {
				t.Errorf("%s: close: %v", where, err)
			}
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d first cuts, %d second ones", len(firsts), states)
	if states < 20 {
		t.Errorf("%d states are too few to mean anything", states)
	}
}

// The power fails at every operation of a repair, and the repair after that keeps as much as one that was let to its end.
func TestEveryCrashPointOfARepairLosesNothingMore(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	disk, l := everyKind(t)
	files := tree(t, disk, testDir)
	for _, suffix := range []string{".blk", ".part"} {
		flip(t, disk, oneOf(t, files, suffix, false), 40)
	}
	repaired := func(where string, d *fsx.Crashable) (lost int) {
		t.Helper()
		done, err := Repair(context.Background(), RepairOptions{Dir: testDir, FS: d})
		if err != nil || len(done.After.Findings) > 0 {
			t.Fatalf("%s: %v, left %+v", where, err, done)
		}
		db, err := Open(context.Background(), small(d))
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		l.never(t, where, db)
		lost, _ = l.missing(t, db)
		if err := db.Close(); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		return lost
	}
	want := repaired("at once", disk.Crash(100, 1))
	states := cuts(disk, seed, func(fsys fsx.FS) {
		if _, err := Repair(context.Background(), RepairOptions{Dir: testDir, FS: fsys}); err != nil {
			t.Fatal(err)
		}
	})
	for _, x := range states {
		if lost := repaired(x.name, x.disk); lost != want {
			t.Errorf("%s: %d samples are lost, want %d", x.name, lost, want)
			return
		}
	}
	if len(states) < 20 {
		t.Errorf("%d states are too few to mean anything", len(states))
	}
}

// faultWorkload is a small one of everything: commits, late ones, a spill, a checkpoint, flushes, a delete, a merge.
func faultWorkload(ctx context.Context, db *DB, l *ledger) error {
	ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2)}
	for slot := range int64(3) {
		for ts := slot * testSlot; ts < (slot+1)*testSlot; ts += 12_000 {
			if err := l.commit(db, ls, ts, func(i int) float64 { return float64(ts)/3 + float64(i) }); err != nil {
				return err
			}
		}
		for _, step := range []func(context.Context) error{db.Spill, db.Checkpoint, db.Flush, db.Compact} {
			if err := step(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// The n-th operation of each kind fails, for every n; once, or from then on. The store says so or does without; when the
// disk is well again a restart has all that was acknowledged, and nothing that was not sent. Files that the disk did not
// give when they were read may be in quarantine: then answers say so.
func TestAnyFailedOperationLosesNothingAcknowledged(t *testing.T) {
	// run returns how many operations of the kinds there were.
	run := func(name string, ops fsx.Op, faults ...fsx.Fault) int {
		disk := fsx.NewCrashable()
		faulty := fsx.NewFaulty(disk, faults...)
		l := newLedger()
		db, err := Open(context.Background(), small(faulty))
		if err == nil {
			// With a fault it may fail or not; what was acknowledged is in the ledger.
			if err := faultWorkload(context.Background(), db, l); err != nil && len(faults) == 0 {
				t.Fatal(err)
			}
			if v, err := db.View(minTime, maxTime); err == nil {
				l.partly(t, name, v)
				_ = v.Close()
			}
			_ = db.Close()
		}
		count := faulty.Count(ops)
		db, err = Open(context.Background(), small(disk))
		if err != nil {
			t.Errorf("%s: the disk is well again: %v", name, err)
			return count
		}
		if ops == fsx.OpRead {
			// What the disk did not give is in quarantine, and answers say so.
			l.never(t, name, db)
			if lost, warnings := l.missing(t, db); lost > 0 && warnings == 0 {
				t.Errorf("%s: %d samples are missing and nobody is told", name, lost)
			}
		} else {
			l.check(t, name, db, l.clone())
		}
		if err := db.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
		return count
	}
	for _, x := range []struct {
		ops  fsx.Op
		errs []error
	}{
		{fsx.OpCreate | fsx.OpOpen, []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE}},
		{fsx.OpWrite | fsx.OpPreallocate, []error{syscall.EIO, syscall.ENOSPC}},
		{fsx.OpSync | fsx.OpSyncDir, []error{syscall.EIO, syscall.ENOSPC}},
		{fsx.OpRename | fsx.OpRemove | fsx.OpMkdir, []error{syscall.EIO, syscall.ENOSPC}},
		{fsx.OpRead, []error{syscall.EIO}},
	} {
		n := run("without faults", x.ops)
		t.Logf("%d operations of kinds %d", n, x.ops)
		for k := range 2 * n * len(x.errs) {
			f := fsx.Fault{Op: x.ops, After: k % n, Err: x.errs[k/n/2], Times: k / n % 2, Short: 100 * (k % 3)}
			if run(fmt.Sprintf("operation %d of %d of kinds %d, %d times: %v, %d bytes done", f.After, n, x.ops, f.Times, f.Err, f.Short), x.ops, f); t.Failed() {
				return
			}
		}
	}
}

// Any byte of any file is flipped. The store does not open, or it gives nothing that is not what was written; what is
// missing is told by a warning or a condition.
func TestAnyFlippedByteIsToldOrDoesNotMatter(t *testing.T) {
	seed := rand.IntN(1 << 20)
	t.Logf("seed %d", seed)
	disk, l := everyKind(t)
	files := tree(t, disk, testDir)
	want, tried := 0, 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := strings.TrimRight(files[name], "\x00")
		step := stride(max(1, len(data)/150))
		for off := seed % step; off < len(data); off += step {
			tried++
			where := fmt.Sprintf("%s, byte %d of %d", name, off, len(data))
			d := disk.Crash(100, 1)
			flip(t, d, name, int64(off))
			db, err := Open(context.Background(), small(d))
			if err != nil {
				continue
			}
			l.never(t, where, db)
			lost, warnings := l.missing(t, db)
			// The end of the log is where it was torn: a flipped byte there is told from that by nothing.
			if lost > want && warnings == 0 && len(db.Conditions()) == 0 && !strings.HasSuffix(name, ".seg") {
				t.Errorf("%s: %d samples are missing and nobody is told", where, lost)
			}
			if err := db.Close(); err != nil {
				t.Errorf("%s: close: %v", where, err)
			}
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d files, %d flips", len(files), tried)
}
