// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"strings"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

func TestScrubFindsADamagedStripeBeforeAQueryDoesAndServingGoesOn(t *testing.T) {
	disk, l := everyKind(t)
	file := oneOf(t, tree(t, disk, testDir), ".blk", false)
	db := openTest(t, small(disk))
	read := int64(0)
	pass := func() {
		t.Helper()
		if err := db.scrubPass(t.Context(), func(_ context.Context, n int64) error { read += n; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if pass(); len(db.Conditions()) > 0 || read == 0 {
		t.Errorf("conditions %v after %d bytes of a sound store", db.Conditions(), read)
	}
	flip(t, disk, file, 40)
	pass()
	if c := db.Conditions(); len(c) != 1 || c[0].Code != ConditionQuarantined || !strings.Contains(c[0].Effect, file) {
		t.Errorf("conditions %v, want one that names %s", c, file)
	}
	if lost, warnings := l.missing(t, db); lost == 0 || warnings == 0 {
		t.Errorf("%d samples are missing with %d warnings", lost, warnings)
	}
	flip(t, disk, file, 40) // the disk has it again
	if pass(); len(db.Conditions()) > 0 {
		t.Errorf("conditions %v are left", db.Conditions())
	}
	l.check(t, "afterwards", db, l.clone())
}

func TestScrubKeepsToItsRateAndEndsWithTheStore(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.scrubPace(ctx, 1<<40); err == nil {
		t.Error("a wait of years ended")
	}
	if err := db.scrubPace(t.Context(), 1); err != nil {
		t.Errorf("a wait of a quarter of a millisecond: %v", err)
	}
}
