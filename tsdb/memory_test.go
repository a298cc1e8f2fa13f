// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

func TestUsedUpMemoryIsAConditionUntilNothingWasRefusedForAMinute(t *testing.T) {
	o := small(fsx.NewCrashable())
	o.Budget = budget.NewRoot("process", 8<<20)
	db := openTest(t, o)
	known := []labels.Labels{seriesName(0)}
	commit(t, db, known, 1, func(int) float64 { return 1 })
	refused := false
	for i := 1; i < 1_000_000 && !refused; i++ {
		_, err := tryCommit(db, []labels.Labels{seriesName(i)}, 1, func(int) float64 { return 1 })
		refused = err != nil
	}
	if !refused {
		t.Fatal("no series was refused")
	}
	has := func(want bool) {
		t.Helper()
		if got := db.conds.has(ConditionMemory); got != want {
			t.Errorf("condition %s: %t, want %t", ConditionMemory, got, want)
		}
	}
	has(true)
	db.watchDisk()
	has(true)
	if _, err := tryCommit(db, known, 2, func(int) float64 { return 2 }); err != nil {
		t.Errorf("a known series: %v", err)
	}
	now := time.Now().Add(2 * memoryRest)
	db.now = func() time.Time { return now }
	db.watchDisk()
	has(false)
}

func TestARestartTakesNoMoreMemoryThanRunningDid(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		o := small(fsx.NewCrashable())
		o.Slot = time.Hour
		o.Budget = budget.NewRoot("running", 0)
		db := openTest(t, o)
		ls := fleet(20 / raceFactor)
		fill(t, db, ls, 0, 60)
		if checkpoint {
			if err := errors.Join(db.Spill(t.Context()), db.Checkpoint(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		fill(t, db, ls, 60*15_000, 60)
		if err := db.Durable(t.Context(), db.journal.Last()); err != nil {
			t.Fatal(err)
		}
		running := o.Budget.Peak()
		o.FS = fsx.NewOverlay(o.FS)
		o.Budget = budget.NewRoot("restart", 0)
		o.NoLock = true
		again := openTest(t, o)
		if rows := again.Recovery().Samples; rows < 60*len(ls) {
			t.Fatalf("%d rows were replayed, want %d at least", rows, 60*len(ls))
		}
		// The records on their way to the head are charged too; a running store has those of requests, which are not.
		if restart := o.Budget.Peak(); restart > running+2<<20 {
			t.Errorf("checkpoint %t: a start took %d bytes, running took %d", checkpoint, restart, running)
		}
		if used, was := again.memory.Used(), db.memory.Used(); used > was+was/100+512<<10 { // regions of arenas
			t.Errorf("checkpoint %t: the head takes %d bytes after a start, it took %d before", checkpoint, used, was)
		}
		if used, at := again.memory.Used(), again.memory.Peak(); at > used+2<<20 {
			t.Errorf("checkpoint %t: the head took %d bytes during a start, %d at its end", checkpoint, at, used)
		}
	}
}
