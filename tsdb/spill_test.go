// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// spilled writes twelve samples of each of some series, puts them aside, and writes twelve more; all in one slot.
func spilled(t *testing.T, db *DB, l *ledger) []labels.Labels {
	t.Helper()
	ls := make([]labels.Labels, 9)
	for i := range ls {
		ls[i] = seriesName(i)
	}
	for step := range int64(24) {
		if step == 12 {
			if err := db.Spill(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.commit(db, ls, 1000*step, func(i int) float64 { return float64(step) + float64(i)/10 }); err != nil {
			t.Fatal(err)
		}
	}
	return ls
}

// missing returns how many acknowledged samples a store does not give, and with how many warnings.
func (l *ledger) missing(t *testing.T, db *DB) (lost, warnings int) {
	t.Helper()
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	got := scanAll(t, v)
	for s, ps := range l.clone() {
		lost += len(ps) - len(got[s])
	}
	warnings = len(v.Warnings())
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	return lost, warnings
}

// partNames returns the files of the parts of a store.
func partNames(t *testing.T, fsys fsx.FS) (names []string) {
	t.Helper()
	all, err := fsys.List(path.Join(testDir, "tidemark", "spill"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if !strings.HasSuffix(n, block.PartSuffix) {
			t.Errorf("file %s among the parts", n)
		}
		names = append(names, path.Join(testDir, "tidemark", "spill", n))
	}
	return names
}

func TestPartsAreReadAfterARestartAndGoWithTheBlockOfTheirSlot(t *testing.T) {
	disk := fsx.NewCrashable()
	l := newLedger()
	db, err := Open(t.Context(), small(disk))
	if err != nil {
		t.Fatal(err)
	}
	spilled(t, db, l)
	if n := len(partNames(t, disk)); n != 4 {
		t.Errorf("%d parts, want one of each of 4 shards", n)
	}
	l.check(t, "with parts", db, l.clone())
	again := disk.Crash(0, 1)
	if err := db.Close(); err != nil { // with a checkpoint, which lacks what parts hold
		t.Fatal(err)
	}
	for name, d := range map[string]*fsx.Crashable{"after a stop": disk, "after a crash": again} {
		db := openTest(t, small(d))
		l.check(t, name, db, l.clone())
		if err := db.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if names := partNames(t, d); len(names) != 0 {
			t.Errorf("%s: parts %v are left after the flush", name, names)
		}
		l.check(t, name+" and a flush", db, l.clone())
	}
}

func TestADamagedPartIsQuarantinedAtTheStartAndAnswersSaySo(t *testing.T) {
	disk := fsx.NewCrashable()
	l := newLedger()
	db, err := Open(t.Context(), small(disk))
	if err != nil {
		t.Fatal(err)
	}
	spilled(t, db, l)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	bad := partNames(t, disk)[0]
	flipByte(t, disk, bad, -10) // in the trailer
	for _, start := range []string{"first", "second"} {
		db := openTest(t, small(disk))
		if !db.conds.has(ConditionQuarantined) {
			t.Errorf("%s start: conditions %v", start, db.Conditions())
		}
		if lost, warnings := l.missing(t, db); lost == 0 || lost >= 9*12 || warnings != 1 {
			t.Errorf("%s start: %d samples are missing, want those of one part; %d warnings", start, lost, warnings)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A part whose stripes cannot be read answers with what else there is, and is kept in quarantine when its slot becomes
// a block without it.
func TestDamageInAPartIsToldAndNotForgottenWhenItsSlotBecomesABlock(t *testing.T) {
	disk := fsx.NewCrashable()
	o := small(disk)
	o.BlockCache = 1
	l := newLedger()
	db := openTest(t, o)
	spilled(t, db, l)
	bad := partNames(t, disk)[0]
	flipByte(t, disk, bad, 20) // in the first stripe
	if lost, warnings := l.missing(t, db); lost == 0 || lost >= 9*12 || warnings != 1 || !db.conds.has(ConditionQuarantined) {
		t.Errorf("%d samples are missing, %d warnings, conditions %v", lost, warnings, db.Conditions())
	}
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := disk.List(path.Join(testDir, "tidemark", "quarantine"))
	if err != nil || len(names) != 1 || !strings.HasSuffix(names[0], path.Base(bad)) {
		t.Errorf("quarantine %v, %v; want %s", names, err, path.Base(bad))
	}
}

func flipByte(t *testing.T, fsys fsx.FS, name string, at int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if at < 0 {
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		at += size
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := f.SyncData(); err != nil {
		t.Fatal(err)
	}
}

// Each operation of a spill fails in turn: nothing is lost, nothing is there twice, and the next spill goes on.
func TestASpillThatFailsAtAnyOperationLeavesTheSamplesInMemory(t *testing.T) {
	for _, files := range []string{"*.part*", "spill"} {
		n := 0
		for ; failSpill(t, files, n); n++ {
		}
		t.Logf("%d operations on %s", n, files)
		if n == 0 {
			t.Errorf("no operation on %s failed", files)
		}
	}
}

// failSpill makes the n-th operation of a spill on some files fail, and reports whether there is one.
func failSpill(t *testing.T, files string, n int) (failed bool) {
	t.Helper()
	disk := fsx.NewCrashable()
	faulty := fsx.NewFaulty(disk)
	l := newLedger()
	db, err := Open(t.Context(), small(faulty))
	if err != nil {
		t.Fatal(err)
	}
	ls := []labels.Labels{seriesName(0), seriesName(1), seriesName(2)}
	write := func(from, to int64) {
		for at := from; at < to; at++ {
			if err := l.commit(db, ls, at, func(i int) float64 { return float64(at) * float64(i) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(0, 20)
	faulty.Inject(fsx.Fault{Op: fsx.OpChange | fsx.OpOpen | fsx.OpRead, Path: files, After: n, Err: syscall.EIO, Times: 1})
	failed = db.Spill(t.Context()) != nil
	faulty.Heal()
	l.check(t, "after a spill that failed", db, l.clone())
	write(20, 30)
	if err := db.Spill(t.Context()); err != nil {
		t.Errorf("operation %d on %s: the next spill: %v", n, files, err)
	}
	write(30, 40)
	l.check(t, "after the next spill", db, l.clone())
	if err := db.Durable(t.Context(), db.journal.Last()); err != nil {
		t.Fatal(err)
	}
	crashed := disk.Crash(0, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, small(crashed))
	l.check(t, "after a restart", db, l.clone())
	if held := db.Stats().Head.Held; held != 3*40 {
		t.Errorf("operation %d on %s: the head holds %d samples, want %d", n, files, held, 3*40)
	}
	return failed
}

func TestARetransmissionIsFoundInParts(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	ls := spilled(t, db, newLedger())
	r, err := tryCommit(db, ls, 3000, func(i int) float64 { return 3 + float64(i)/10 })
	if err != nil {
		t.Fatal(err)
	}
	for i := range ls {
		if r.At(i) != sample.Same {
			t.Errorf("series %d: a sample that is in a part already is %s", i, r.At(i))
		}
	}
}

func TestASeriesThatStoppedLeavesTheHeadWithItsSlotThoughPartsHeldIt(t *testing.T) {
	db := openTest(t, small(fsx.NewCrashable()))
	spilled(t, db, newLedger())
	live := []labels.Labels{seriesName(100)}
	for at := int64(24_000); at < 4*60_000; at += 5_000 {
		commit(t, db, live, at, func(int) float64 { return 1 })
		if at%60_000 == 0 {
			if err := db.Spill(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := db.Stats().Head.Series; at >= 2*60_000+30_000 && n != 1 {
			t.Fatalf("%d series are in the head at %d, want the live one", n, at)
		}
	}
}

// The second spill finds chunks that the first left open, and nothing written in between that would give its parts other
// names.
func TestSpillingTwiceWithNothingWrittenBetweenLosesNothing(t *testing.T) {
	disk := fsx.NewCrashable()
	l := newLedger()
	db, err := Open(t.Context(), small(disk))
	if err != nil {
		t.Fatal(err)
	}
	long := make([]labels.Labels, 20)
	for i := range long {
		long[i] = seriesName(i)
	}
	for step := range int64(12) {
		ls := long
		if step == 11 {
			for i := range 20 {
				ls = append(ls, seriesName(20+i))
			}
		}
		if err := l.commit(db, ls, 1000*step, func(i int) float64 { return float64(step) + float64(i)/10 }); err != nil {
			t.Fatal(err)
		}
	}
	for _, least := range []int{spillLeast, 1} {
		for _, x := range db.head.Loads() {
			if err := db.spillShard(t.Context(), x.Shard, least, 1); err != nil {
				t.Fatal(err)
			}
		}
		l.check(t, "after a spill", db, l.clone())
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l.check(t, "after a restart", openTest(t, small(disk)), l.clone())
}
