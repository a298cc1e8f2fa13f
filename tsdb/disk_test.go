// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// A part, a block or a checkpoint finds the disk full while the log has room: nothing more is taken until it could be
// written, whatever the disk says of its free space, and nothing is lost.
func TestADiskThatIsFullForAPartABlockOrACheckpointMakesTheStoreReadOnly(t *testing.T) {
	c := func(pattern string, tries int, write func(*DB, context.Context) error) {
		t.Helper()
		disk := fsx.NewCrashable()
		faulty := fsx.NewFaulty(disk)
		db := openTest(t, small(faulty))
		l := newLedger()
		ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2), seriesName(3)}
		var b sample.Batch
		refs := make([]sample.Ref, len(ls))
		if err := db.Resolve(ls, refs); err != nil {
			t.Fatal(err)
		}
		// So many that they have to be put aside, and the first slot is over.
		for ts := range int64(150_000) {
			if b.AppendFloat(refs[ts%4], 0, ts, float64(ts*ts)*1.1, 0); b.Len() < 5000 && ts < 149_999 {
				continue
			}
			var r sample.Result
			if _, err := db.Commit(t.Context(), &b, &r); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
		before := contents(t, db)
		faulty.Inject(fsx.Fault{Op: fsx.OpWrite, Path: pattern, Err: syscall.ENOSPC})
		for range tries {
			if err := write(db, t.Context()); !fsx.IsFull(err) {
				t.Fatalf("%s: %v, want that the disk is full", pattern, err)
			}
			db.watchDisk()
			wantCondition(t, db, ConditionReadOnly, "no space left")
			var unavailable *sample.UnavailableError
			if err := l.commit(db, ls, 160_000, one(1)); !errors.As(err, &unavailable) || unavailable.Condition != ConditionReadOnly || unavailable.RetryAfter == 0 {
				t.Errorf("%s: commit on a full disk: %v", pattern, err)
			}
		}
		wantContents(t, db, before)
		faulty.Heal()
		if err := write(db, t.Context()); err != nil {
			t.Errorf("%s: with room again: %v", pattern, err)
		}
		db.watchDisk()
		wantCondition(t, db, "")
		if err := l.commit(db, ls, 160_000, one(1)); err != nil {
			t.Errorf("%s: commit with room again: %v", pattern, err)
		}
		for _, s := range ls {
			before[s.String()] = append(before[s.String()], point{160_000, 0x3ff0000000000000})
		}
		wantContents(t, openTest(t, small(disk.Crash(0, 1))), before)
	}
	c("*.part.tmp", 2, (*DB).spillDue)
	c("*.blk.tmp", 2, (*DB).maintainDue)
	// A checkpoint is tried again when one is due.
	c("*.ckpt.tmp", 1, (*DB).maintainDue)
}
