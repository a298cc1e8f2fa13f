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

// notes is a tap that writes down what it is told, and what of it was there when somebody waited.
type notes struct {
	db    *DB
	mu    sync.Mutex
	told  []string // guarded by mu
	kept  []string // guarded by mu: told before the last Await
	waits int      // guarded by mu
}

func (n *notes) Accepted(b *sample.Batch, r *sample.Result) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, ref := range b.Ref {
		ls, ok := n.db.LabelsOf(ref)
		if !ok {
			n.told = append(n.told, "a series without labels")
		}
		n.told = append(n.told, fmt.Sprintf("%s %v@%d %s", ls, b.V[i], b.T[i], r.At(i)))
	}
}

func (n *notes) Await(context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept = slices.Clone(n.told)
	n.waits++
}

// check expects what was told before the last acknowledgement.
func (n *notes) check(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.kept, want) {
		t.Errorf("kept before the acknowledgement: %q, want %q", n.kept, want)
	}
}

// write commits one sample and waits for its acknowledgement.
func (n *notes) write(t *testing.T, ls labels.Labels, ts int64, v float64) {
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
}

func TestATapIsToldOfARowBeforeItIsAcknowledged(t *testing.T) {
	n := &notes{db: openTest(t, small(fsx.NewCrashable()))}
	n.db.SetTap(n)
	ls := seriesName(0)
	n.write(t, ls, 2000, 2)
	n.write(t, ls, 1000, 1) // late
	n.write(t, ls, 2000, 3) // refused
	n.check(t, ls.String()+" 2@2000 accepted", ls.String()+" 1@1000 accepted", ls.String()+" 3@2000 conflict")
}

// What is queued during a restore is acknowledged then, and the process may be killed before it is applied.
func TestATapIsToldDuringARestore(t *testing.T) {
	disk := fsx.NewCrashable()
	db := openTest(t, small(disk))
	ls := seriesName(0)
	commit(t, db, []labels.Labels{ls}, 1000, one(1))
	s := startStepped(t, small(disk.Crash(0, 1)))
	n := &notes{db: s.DB}
	s.SetTap(n)
	if !s.next() {
		t.Fatal("there is nothing to restore")
	}
	n.write(t, ls, 2000, 2)
	n.check(t, ls.String()+" 2@2000 accepted")
	s.finish(t)
	n.write(t, ls, 3000, 3)
	n.check(t, ls.String()+" 2@2000 accepted", ls.String()+" 3@3000 accepted")
}
