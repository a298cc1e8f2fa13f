// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// fourBlocks is a store that deletes the oldest of its blocks when the disk is full. It has four, and samples in its head.
type fourBlocks struct {
	*DB

	t    *testing.T
	logs lockedBuffer
}

// lockedBuffer takes the log of a store.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const testMinFree = 1 << 20

func newFourBlocks(t *testing.T, fsys fsx.FS) *fourBlocks {
	t.Helper()
	f := &fourBlocks{t: t}
	o := small(fsys)
	o.MinFree, o.DeleteOldest = testMinFree, true
	o.Logger = slog.New(slog.NewTextHandler(&f.logs, nil))
	f.DB = openTest(t, o)
	ls := scattered(2000)
	for i := range int64(5) {
		fillAt(t, f.DB, ls, i*f.meta.SlotMillis)
		if i < 4 {
			if err := f.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.check(4, "")
	return f
}

// later lets time pass.
func (f *fourBlocks) later(d time.Duration) {
	f.full.mu.Lock()
	defer f.full.mu.Unlock()
	f.full.last = f.full.last.Add(-d)
	for i := range f.full.awaited {
		f.full.awaited[i].at = f.full.awaited[i].at.Add(-d)
	}
}

// check looks which blocks are left, the newest ones, that their samples and the head's are, and those of the others are
// not, and which conditions hold.
func (f *fourBlocks) check(blocks int, conditions string) {
	f.t.Helper()
	if n := len(f.Blocks()); n != blocks {
		f.t.Fatalf("%d blocks are left, want %d", n, blocks)
	}
	for i := range int64(5) {
		from := i * f.meta.SlotMillis
		v := viewOf(f.t, f.DB)
		set, err := v.Series(f.t.Context(), nil, column.Hint{})
		if err != nil {
			f.t.Fatal(err)
		}
		var b column.Block
		if _, err = v.Scan(f.t.Context(), set, []uint32{0}, column.Need{MinT: from, MaxT: from + f.meta.SlotMillis - 1}, &b); err != nil {
			f.t.Fatal(err)
		}
		if got, want := len(b.T) > 0, int(i) >= 4-blocks; got != want {
			f.t.Errorf("samples of slot %d are there: %v", i, got)
		}
		if err := v.Close(); err != nil {
			f.t.Fatal(err)
		}
	}
	var codes []string
	for _, c := range f.Conditions() {
		codes = append(codes, c.Code)
	}
	if got := strings.Join(codes, " "); got != conditions {
		f.t.Errorf("conditions %q, want %q", got, conditions)
	}
}

func TestAFullDiskDeletesTheOldestBlocksWhereItMay(t *testing.T) {
	disk := fsx.NewCrashable()
	f := newFourBlocks(t, disk)
	size := f.blocks.all()[0].Size()
	f.SetDeleteOldest(false)
	disk.SetFree(testMinFree - size/2)
	f.watchDisk()
	f.check(4, ConditionReadOnly)
	f.SetDeleteOldest(true)
	f.watchDisk()
	f.check(3, ConditionFullDisk)
	if logs := f.logs.String(); strings.Count(logs, "the oldest block is deleted") != 1 {
		t.Errorf("the log does not say it once:\n%s", logs)
	}
	fillAt(t, f.DB, scattered(2000), 4*f.meta.SlotMillis+1000) // it takes writes
	disk.SetFree(testMinFree - size - size/2)
	f.watchDisk()
	f.check(1, ConditionFullDisk)
	if c := f.Conditions()[0]; !strings.Contains(c.Effect, "3 oldest blocks") {
		t.Errorf("condition %+v", c)
	}
	f.later(fullDiskRest - time.Minute)
	f.watchDisk()
	f.check(1, ConditionFullDisk)
	f.later(2 * time.Minute)
	f.watchDisk()
	f.check(1, "")
	disk.SetFree(testMinFree / 2)
	f.watchDisk()
	f.check(1, ConditionReadOnly) // the checkpoint before the newest one has not the block's rows
	disk.SetFree(2 * testMinFree)
	f.watchDisk()
	if err := f.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.SetFree(testMinFree / 2)
	f.watchDisk()
	f.check(0, ConditionFullDisk+" "+ConditionReadOnly) // the head alone is left, and stays
	if n := f.Stats().FullDeletions; n != 4 {
		t.Errorf("%d deletions are counted", n)
	}
}

// Where the space of a deleted block is not free at once, because of a query or of the file system, no second one goes
// in its place.
func TestAFullDiskWaitsForTheSpaceOfDeletedBlocks(t *testing.T) {
	faulty := fsx.NewFaulty(fsx.NewCrashable())
	f := newFourBlocks(t, faulty)
	all := f.blocks.all()
	first := uint64(all[0].Size())
	free := testMinFree - first/2
	faulty.SetUsage(free, 1<<30)
	if !all[0].Acquire() {
		t.Fatal("closed")
	}
	for range 3 {
		f.watchDisk()
		f.check(3, ConditionFullDisk)
	}
	f.later(2 * freeingTakes)
	f.watchDisk()
	f.check(3, ConditionFullDisk) // it is still read
	all[0].Release()
	f.watchDisk()
	f.check(2, ConditionFullDisk) // the file system does not give the space back
	f.watchDisk()
	f.check(2, ConditionFullDisk)
	faulty.SetUsage(free+uint64(all[1].Size()), 1<<30)
	f.watchDisk()
	f.check(2, ConditionFullDisk)
	faulty.SetUsage(testMinFree/4, 1<<30)
	f.maintain.Lock()
	f.watchDisk()
	f.maintain.Unlock()
	f.check(2, ConditionFullDisk+" "+ConditionReadOnly) // nothing may be deleted now, and too little is left to wait
	faulty.SetUsage(testMinFree/2, 1<<30)
	f.maintain.Lock()
	f.watchDisk()
	f.maintain.Unlock()
	f.check(2, ConditionFullDisk)
}
