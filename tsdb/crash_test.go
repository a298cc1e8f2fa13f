// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// ledger is what a writer knows: the samples it sent and those that were acknowledged.
type ledger struct {
	mu          sync.Mutex
	sent, acked map[string]map[int64]uint64 // series -> t -> bits
}

func newLedger() *ledger {
	return &ledger{sent: map[string]map[int64]uint64{}, acked: map[string]map[int64]uint64{}}
}

func (l *ledger) note(m map[string]map[int64]uint64, ls []labels.Labels, ts int64, v func(int) float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range ls {
		if m[s.String()] == nil {
			m[s.String()] = map[int64]uint64{}
		}
		m[s.String()][ts] = math.Float64bits(v(i))
	}
}

// clone returns the acknowledged samples as of now.
func (l *ledger) clone() map[string]map[int64]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]map[int64]uint64{}
	for s, ps := range l.acked {
		out[s] = maps.Clone(ps)
	}
	return out
}

func (l *ledger) commit(db *DB, ls []labels.Labels, ts int64, v func(int) float64) error {
	l.note(l.sent, ls, ts, v)
	r, err := tryCommit(db, ls, ts, v)
	if err == nil && r.Reason == nil {
		l.note(l.acked, ls, ts, v)
	}
	return err
}

// check holds a recovered store to the ledger: acked within recovered within sent, bit for bit.
func (l *ledger) check(t *testing.T, where string, db *DB, acked map[string]map[int64]uint64) {
	t.Helper()
	got := contents(t, db)
	for s, ps := range acked {
		have := map[int64]uint64{}
		for _, p := range got[s] {
			have[p.T] = p.V
		}
		for ts, v := range ps {
			if w, ok := have[ts]; !ok || w != v {
				t.Errorf("%s: acknowledged sample %s @%d = %x is lost (have %x, %t)", where, s, ts, v, w, ok)
				return
			}
		}
	}
	for s, ps := range got {
		for _, p := range ps {
			if v, ok := l.sent[s][p.T]; !ok || v != p.V {
				t.Errorf("%s: sample %s @%d = %x was never sent", where, s, p.T, p.V)
				return
			}
		}
	}
}

// crashWorkload writes in order, late and to new series, spills, flushes, checkpoints and applies the retention.
func crashWorkload(ctx context.Context, db *DB, l *ledger) error {
	for step := range 36 {
		ts := int64(step) * 5_000
		var ls []labels.Labels
		for i := range 3 + step/6 {
			ls = append(ls, seriesName(i))
		}
		if err := l.commit(db, ls, ts, func(i int) float64 { return float64(step*100 + i) }); err != nil {
			return err
		}
		if step%5 == 4 {
			late := func(i int) float64 { return float64(-step*100 - i) }
			if err := l.commit(db, ls[:2], ts-12_500, late); err != nil {
				return err
			}
		}
		if step%12 == 11 {
			if err := db.Maintain(ctx); err != nil {
				return err
			}
		}
		if step%7 == 6 {
			if err := db.Spill(ctx); err != nil {
				return err
			}
		}
		if step == 20 {
			if err := db.Checkpoint(ctx); err != nil {
				return err
			}
		}
	}
	return db.Flush(ctx)
}

// mergeWorkload makes blocks of thirteen slots, with late samples, and merges what is due after every fourth.
func mergeWorkload(ctx context.Context, db *DB, l *ledger) error {
	for slot := range int64(14) {
		ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2 + int(slot))}[:2+slot%2]
		for ts := slot * testSlot; ts < (slot+1)*testSlot; ts += 20_000 {
			if err := l.commit(db, ls, ts, func(i int) float64 { return float64(ts + int64(i)) }); err != nil {
				return err
			}
		}
		if slot > 2 {
			late := func(i int) float64 { return float64(-slot*100) - float64(i) }
			if err := l.commit(db, ls, (slot-2)*testSlot+slot, late); err != nil {
				return err
			}
		}
		if err := db.Flush(ctx); err != nil {
			return err
		}
		if slot%4 == 3 || slot == 13 {
			if err := db.Compact(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// The disk is cut off before every operation that changes it, in three ways; each state must recover to all that
// was acknowledged by then and nothing that was not sent, and recover again to the same.
func TestEveryCrashPointRecoversWhatWasAcknowledged(t *testing.T) {
	everyCrashPoint(t, crashWorkload)
}

func TestEveryCrashPointOfMergesRecoversWhatWasAcknowledged(t *testing.T) {
	everyCrashPoint(t, mergeWorkload)
}

func TestEveryCrashPointOfMergesIntoClassesRecoversWhatWasAcknowledged(t *testing.T) {
	everyCrashPoint(t, func(ctx context.Context, db *DB, l *ledger) error {
		if err := db.SetRetentionPolicies(keepTwo()[:1]); err != nil {
			return err
		}
		return mergeWorkload(ctx, db, l)
	})
}

func everyCrashPoint(t *testing.T, workload func(context.Context, *DB, *ledger) error) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	l := newLedger()
	type state struct {
		name  string
		disk  *fsx.Crashable
		acked map[string]map[int64]uint64
	}
	var mu sync.Mutex
	var states []state
	n := uint64(0)
	db, err := Open(t.Context(), small(faulty))
	if err != nil {
		t.Fatal(err)
	}
	faulty.Observe(func(op fsx.Op, name string) {
		if op&fsx.OpChange == 0 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		acked := l.clone()
		for _, percent := range []int{0, 100, 50} {
			states = append(states, state{
				fmt.Sprintf("op %d (%v %s), %d%% of what was not synced, seed %d", n, op, path.Base(name), percent, seed+n),
				disk.Crash(percent, seed+n), acked,
			})
		}
	})
	if err := workload(t.Context(), db, l); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations, %d states", n, len(states))
	for _, s := range states {
		checkRecovery(t, s.name, s.disk, l, s.acked)
		if t.Failed() {
			return
		}
	}
}

func checkRecovery(t *testing.T, where string, disk *fsx.Crashable, l *ledger, acked map[string]map[int64]uint64) {
	t.Helper()
	db, err := Open(context.Background(), small(disk))
	if err != nil {
		t.Errorf("%s: open: %v", where, err)
		return
	}
	if c := db.Conditions(); len(c) > 0 {
		t.Errorf("%s: conditions after a crash: %v", where, c)
	}
	l.check(t, where, db, acked)
	first := contents(t, db)
	again := disk.Crash(0, 1) // a second crash, right after the recovery
	if err := db.Close(); err != nil {
		t.Errorf("%s: close: %v", where, err)
	}
	for name, d := range map[string]*fsx.Crashable{"after a clean stop": disk, "after a second crash": again} {
		db, err := Open(context.Background(), small(d))
		if err != nil {
			t.Errorf("%s, %s: open: %v", where, name, err)
			return
		}
		wantContents(t, db, first)
		if err := db.Close(); err != nil {
			t.Errorf("%s, %s: close: %v", where, name, err)
		}
	}
}

func TestFailedSyncStopsWritesKeepsQueriesAndLosesNothingAcknowledged(t *testing.T) {
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	l := newLedger()
	db, err := Open(t.Context(), small(faulty))
	if err != nil {
		t.Fatal(err)
	}
	ls := []labels.Labels{seriesName(1), seriesName(2)}
	value := func(int) float64 { return 7 }
	if err := l.commit(db, ls, 1000, value); err != nil {
		t.Fatal(err)
	}
	faulty.Inject(fsx.Fault{Op: fsx.OpSync, Err: syscall.EIO, Times: 1})
	var unavailable *sample.UnavailableError
	if err := l.commit(db, ls, 2000, value); !errors.As(err, &unavailable) || unavailable.Condition != ConditionFailedSync {
		t.Errorf("commit over a failing sync: %v, want the condition %s", err, ConditionFailedSync)
	}
	if err := l.commit(db, ls, 3000, value); !errors.As(err, &unavailable) {
		t.Errorf("commit after a failed sync: %v, want it refused", err)
	}
	if cs := db.Conditions(); len(cs) != 1 || cs[0].Code != ConditionFailedSync {
		t.Errorf("conditions %v, want %s alone", cs, ConditionFailedSync)
	}
	l.check(t, "before the restart", db, l.clone())
	_ = db.Close()
	db = openTest(t, small(disk))
	l.check(t, "after the restart", db, l.clone())
	if err := l.commit(db, ls, 4000, value); err != nil {
		t.Errorf("commit after the restart: %v", err)
	}
}

func TestFullDiskMakesTheStoreReadOnlyUntilThereIsRoom(t *testing.T) {
	disk := fsx.NewCrashable()
	l := newLedger()
	o := small(disk)
	db, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ls := make([]labels.Labels, 50)
	for i := range ls {
		ls[i] = seriesName(i)
	}
	value := func(i int) float64 { return float64(i) * 1.1 }
	if err := l.commit(db, ls, 0, value); err != nil {
		t.Fatal(err)
	}
	disk.SetFree(200 << 10)
	full := int64(0)
	for ts := int64(1); ts < 5000; ts++ {
		if err := l.commit(db, ls, ts, value); err != nil {
			var unavailable *sample.UnavailableError
			if !errors.As(err, &unavailable) || unavailable.Condition != ConditionReadOnly || unavailable.RetryAfter == 0 {
				t.Fatalf("commit on a full disk: %v, want condition %s with advice when to retry", err, ConditionReadOnly)
			}
			full = ts
			break
		}
	}
	if full == 0 {
		t.Fatal("the disk never became full")
	}
	l.check(t, "while full", db, l.clone())
	disk.SetFree(-1)
	db.watchDisk()
	for range 30 {
		if err = l.commit(db, ls, full+1, value); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond) // the log looks for room once a second
		db.watchDisk()
	}
	if err != nil {
		t.Fatalf("commit after there was room again: %v", err)
	}
	if cs := db.Conditions(); len(cs) != 0 {
		t.Errorf("conditions %v are left", cs)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l.check(t, "after a restart", openTest(t, o), l.clone())
}
