// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// busyCheckpoint writes a checkpoint, and calls step with the number of the frame before each of them.
func busyCheckpoint(ctx context.Context, db *DB, step func(frame int) error) error {
	frame := 0
	var failed error
	set := func(f func()) {
		db.maintain.Lock()
		defer db.maintain.Unlock()
		db.opts.checkpointStep = f
	}
	set(func() {
		if err := step(frame); err != nil {
			failed = err
		}
		frame++
	})
	defer set(nil)
	if err := db.Checkpoint(ctx); err != nil {
		return err
	}
	return failed
}

// checkpointWorkload writes checkpoints of more series than are looked at at a time, and while it does so samples in
// order and late, and new series with the ids of others that have left.
func checkpointWorkload(ctx context.Context, db *DB, l *ledger) error {
	var all []labels.Labels
	for i := range 560 {
		all = append(all, seriesName(i))
	}
	clock := int64(0)
	round := 0
	write := func(frame int) error {
		if clock += 700; frame%3 == 2 {
			return nil
		}
		i := (frame + round) % 5
		ls := []labels.Labels{all[i], all[520+i], all[len(all)-1-i], seriesName(1000*round + frame%11)}
		if err := l.commit(db, ls, clock, func(i int) float64 { return float64(clock) + float64(i) }); err != nil {
			return err
		}
		if frame%4 != 1 {
			return nil
		}
		return l.commit(db, ls[:3], clock-1_500-int64(frame), func(i int) float64 { return -float64(clock) - float64(i) })
	}
	for round = 1; round <= 3; round++ {
		clock += testSlot
		first := clock
		if err := l.commit(db, all, first, func(i int) float64 { return float64(i) }); err != nil {
			return err
		}
		if err := write(0); err != nil {
			return err
		}
		if err := busyCheckpoint(ctx, db, write); err != nil {
			return err
		}
		if err := write(1); err != nil {
			return err
		}
		if round != 2 {
			continue
		}
		clock += 4 * testSlot // the series of the first two rounds leave
		if err := l.commit(db, all[:3], clock, func(i int) float64 { return float64(i) }); err != nil {
			return err
		}
		if err := db.Maintain(ctx); err != nil {
			return err
		}
		if live := db.head.Stats().Series; live > 100 {
			return fmt.Errorf("%d series are in the head still", live)
		}
	}
	return nil
}

func TestEveryCrashPointOfCheckpointsUnderLoadRecoversWhatWasAcknowledged(t *testing.T) {
	everyCrashPoint(t, checkpointWorkload)
}

// Rows and deletes are judged once, whatever of them the checkpoint has: a restart from it comes to what was there.
func TestARestartFromACheckpointWrittenUnderLoadComesToTheSame(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	var ls []labels.Labels
	for i := range 600 {
		ls = append(ls, seriesName(i))
	}
	commit(t, db, ls, 1_000, func(i int) float64 { return float64(i) })
	ends := append(ls[:2:2], ls[598:]...)
	ts := int64(2_000)
	err := busyCheckpoint(t.Context(), db, func(int) error {
		ts += 10
		commit(t, db, ends, ts, func(i int) float64 { return float64(ts) })
		commit(t, db, ends, ts-15, func(i int) float64 { return -float64(ts) })
		var r sample.Result
		r, err := tryCommit(db, ends, ts-15, func(int) float64 { return 0 }) // conflicts with that
		if err == nil && (len(r.Reason) != 4 || r.Reason[0] != sample.Conflict) {
			err = fmt.Errorf("a row that contradicts a late one: %v", r.Reason)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Delete(t.Context(), 2_020, 2_035, labels.MustNewMatcher(labels.MatchEqual, "i", "0001")); err != nil {
		t.Fatal(err)
	}
	commit(t, db, ends, 2_025, func(int) float64 { return 3 })
	want := contents(t, db)
	again := openTest(t, small(disk.Crash(100, 1)))
	if again.Recovery().Checkpoint == 0 {
		t.Error("it did not start from a checkpoint")
	}
	wantContents(t, again, want)
	if refused := again.head.Stats().Reasons; refused[sample.Same] > 0 {
		t.Errorf("%d rows were applied a second time", refused[sample.Same])
	}
}
