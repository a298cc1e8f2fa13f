// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// notes is a tap that writes down what it is told.
type notes struct {
	db    *DB
	had   sample.LSN // Told
	mu    sync.Mutex
	told  []string   // guarded by mu
	last  sample.LSN // guarded by mu
	kept  sample.LSN // guarded by mu: last at the last Keep
	wants bool
	wrong error // guarded by mu
}

// tapped returns options with n as the tap.
func (n *notes) tapped(o Options) Options {
	n.wants = true
	o.Tap = func(db *DB) (Tap, error) {
		n.db = db
		return n, nil
	}
	return o
}

func (n *notes) Wants() bool      { return n.wants }
func (n *notes) Told() sample.LSN { return n.had }
func (n *notes) Close() error     { return nil }

func (n *notes) Accepted(lsn sample.LSN, b *sample.Batch, r *sample.Result) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if lsn <= n.last {
		n.wrong = fmt.Errorf("told of record %d after %d", lsn, n.last)
	}
	n.last = lsn
	for i, ref := range b.Ref {
		ls, ok := n.db.LabelsOf(ref)
		if !ok {
			n.told = append(n.told, "a series without labels")
		}
		n.told = append(n.told, fmt.Sprintf("%s %v@%d %s", ls, b.V[i], b.T[i], r.At(i)))
	}
}

func (n *notes) Keep(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept = n.last
	return nil
}

// check expects what was told.
func (n *notes) check(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.told, want) {
		t.Errorf("told %q, want %q", n.told, want)
	}
	if n.wrong != nil {
		t.Error(n.wrong)
	}
}

// write commits one sample and waits for its acknowledgement.
func (n *notes) write(t *testing.T, ls labels.Labels, ts int64, v float64) sample.LSN {
	t.Helper()
	refs := make([]sample.Ref, 1)
	if err := n.db.Resolve([]labels.Labels{ls}, refs); err != nil {
		t.Fatal(err)
	}
	var b sample.Batch
	var r sample.Result
	b.AppendFloat(refs[0], 0, ts, v, 0)
	lsn, err := n.db.Commit(t.Context(), &b, &r)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.db.Durable(t.Context(), lsn); err != nil {
		t.Fatal(err)
	}
	return lsn
}

func TestATapIsToldWhatBecameOfEachRow(t *testing.T) {
	n := &notes{}
	openTest(t, n.tapped(small(fsx.NewCrashable())))
	ls := seriesName(0)
	n.write(t, ls, 2000, 2)
	n.write(t, ls, 1000, 1) // late
	n.write(t, ls, 2000, 3) // refused
	n.check(t, ls.String()+" 2@2000 accepted", ls.String()+" 1@1000 accepted", ls.String()+" 3@2000 conflict")
}

// What comes during a restore is told when it is applied: only then is it known what is accepted, and it comes after what
// was in the log.
func TestATapIsToldAgainAfterACrash(t *testing.T) {
	disk := fsx.NewCrashable()
	n := &notes{}
	openTest(t, n.tapped(small(disk)))
	ls := seriesName(0)
	had := n.write(t, ls, 1000, 1)
	n.write(t, ls, 2000, 2)
	n.write(t, ls, 2000, 7) // refused, then as before
	for name, had := range map[string]sample.LSN{"of all": 0, "of what it has not": had} {
		t.Run(name, func(t *testing.T) {
			again := &notes{had: had}
			s := startStepped(t, again.tapped(small(disk.Crash(0, 1))))
			if !s.next() {
				t.Fatal("there is nothing to restore")
			}
			again.write(t, ls, 3000, 3)
			again.write(t, ls, 3000, 9)
			again.check(t)
			s.finish(t)
			want := []string{" 1@1000 accepted", " 2@2000 accepted", " 7@2000 conflict", " 3@3000 accepted", " 9@3000 conflict"}
			if had > 0 {
				want = want[1:]
			}
			for i := range want {
				want[i] = ls.String() + want[i]
			}
			again.check(t, want...)
			again.write(t, ls, 4000, 4)
			again.check(t, append(want, ls.String()+" 4@4000 accepted")...)
		})
	}
}

func TestATapIsToldInTheOrderOfTheLog(t *testing.T) {
	n := &notes{}
	db := openTest(t, n.tapped(small(fsx.NewCrashable())))
	const writers, commits = 8, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range commits {
				commit(t, db, []labels.Labels{seriesName(w % 2)}, int64(1000*i+w), one(float64(w)))
			}
		})
	}
	wg.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wrong != nil || len(n.told) != writers*commits {
		t.Errorf("told of %d rows (%v), want %d in order", len(n.told), n.wrong, writers*commits)
	}
}

// What a checkpoint holds is not told again: the tap must have it for good before the checkpoint is there.
func TestACheckpointWaitsUntilTheTapHasWhatItHolds(t *testing.T) {
	n := &notes{}
	db := openTest(t, n.tapped(small(fsx.NewCrashable())))
	lsn := n.write(t, seriesName(0), 1000, 1)
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.kept != lsn {
		t.Errorf("the tap was asked to keep what it has up to record %d, want %d", n.kept, lsn)
	}
}
