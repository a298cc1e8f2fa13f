// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
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
