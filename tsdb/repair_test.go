// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// tree returns the contents of all files below a directory, by path.
func tree(t *testing.T, fsys fsx.FS, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		name := path.Join(dir, n)
		info, err := fsys.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Dir {
			maps.Copy(out, tree(t, fsys, name))
			continue
		}
		data, err := fsx.ReadFile(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(data)
	}
	return out
}

// everyKind makes a store with files of every kind: blocks, one of them with tombstones, parts, two checkpoints, a log
// behind them. It was killed.
func everyKind(t *testing.T) (*fsx.Crashable, *ledger) {
	t.Helper()
	disk := fsx.NewCrashable()
	l := newLedger()
	db, err := Open(t.Context(), small(disk))
	if err != nil {
		t.Fatal(err)
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ls := make([]labels.Labels, 12)
	for i := range ls {
		ls[i] = seriesName(i)
	}
	write := func(from, to int64) {
		t.Helper()
		for ts := from; ts < to; ts += 3000 {
			ok(l.commit(db, ls, ts, func(i int) float64 { return float64(ts)/7 + float64(i) }))
		}
	}
	write(0, 2*testSlot)
	ok(db.Flush(t.Context()))
	ok(db.Delete(t.Context(), testSlot, testSlot+6000, labels.MustNewMatcher(labels.MatchEqual, "i", "0003")))
	l.forget(ls[3].String(), testSlot, testSlot+6000)
	write(2*testSlot, 2*testSlot+30_000)
	ok(db.Checkpoint(t.Context()))
	ok(db.Spill(t.Context()))
	write(2*testSlot+30_000, 2*testSlot+45_000)
	ok(db.Checkpoint(t.Context()))
	write(2*testSlot+45_000, 2*testSlot+57_000)
	crashed := disk.Crash(100, 1)
	ok(db.Close())
	return crashed, l
}

// forget takes samples that were deleted out of what was acknowledged.
func (l *ledger) forget(series string, mint, maxt int64) {
	for _, m := range []map[string]map[int64]uint64{l.acked, l.sent} {
		maps.DeleteFunc(m[series], func(ts int64, _ uint64) bool { return ts >= mint && ts <= maxt })
	}
}

// oneOf returns the first or the last file of a store that ends so.
func oneOf(t *testing.T, files map[string]string, suffix string, last bool) string {
	t.Helper()
	var found []string
	for _, n := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(n, suffix) && !strings.Contains(n, "quarantine") {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		t.Fatalf("no file ends in %s", suffix)
	}
	if last {
		return found[len(found)-1]
	}
	return found[0]
}

func flip(t *testing.T, fsys fsx.FS, name string, off int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.SyncData(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsNothingInASoundStoreAndChangesNothing(t *testing.T) {
	disk, _ := everyKind(t)
	before := tree(t, disk, testDir)
	report, err := Verify(t.Context(), VerifyOptions{Dir: testDir, FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) > 0 || report.Files < 8 || report.Bytes == 0 {
		t.Errorf("findings %+v, %d files, %d bytes", report.Findings, report.Files, report.Bytes)
	}
	if !maps.Equal(before, tree(t, disk, testDir)) {
		t.Error("files have changed")
	}
	o, err := Open(t.Context(), small(disk))
	if err != nil {
		t.Fatal(err)
	}
	if report, err = Verify(t.Context(), VerifyOptions{Dir: testDir, FS: disk}); err != nil || len(report.Findings) > 0 {
		t.Errorf("beside a running server: %v, findings %+v", err, report)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}

// Damage of each kind is found and named, and repaired: then nothing is found, the store opens, has all but what was
// damaged, and the damaged bytes are in quarantine. A rehearsal says the same and changes nothing.
func TestRepairKeepsAllThatCanBeRead(t *testing.T) {
	sound, l := everyKind(t)
	files := tree(t, sound, testDir)
	c := func(name, kind, suffix string, last bool, off func(size int64) int64, most int) {
		t.Helper()
		disk := sound.Crash(100, 1)
		file := oneOf(t, files, suffix, last)
		flip(t, disk, file, off(int64(len(files[file]))))
		damagedFile, err := fsx.ReadFile(disk, file)
		if err != nil {
			t.Fatal(err)
		}
		report, err := Verify(t.Context(), VerifyOptions{Dir: testDir, FS: disk})
		if err != nil || len(report.Findings) == 0 || report.Findings[0].Kind != kind || !strings.HasSuffix(file, report.Findings[0].File) && kind != kindLog {
			t.Errorf("%s: error %v, found %+v", name, err, report)
			return
		}
		before := tree(t, disk, testDir)
		dry, err := Repair(t.Context(), RepairOptions{Dir: testDir, FS: disk, DryRun: true})
		if err != nil {
			t.Errorf("%s: dry run: %v", name, err)
			return
		}
		if !maps.Equal(before, tree(t, disk, testDir)) {
			t.Errorf("%s: the dry run changed files", name)
		}
		done, err := Repair(t.Context(), RepairOptions{Dir: testDir, FS: disk})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if len(done.Did) == 0 || len(done.Did) != len(dry.Did) || len(done.After.Findings) > 0 {
			t.Errorf("%s: did %q, in the dry run %q; left %+v", name, done.Did, dry.Did, done.After.Findings)
		}
		if kind != kindLog && !slices.Contains(slices.Collect(maps.Values(tree(t, disk, path.Join(testDir, "tidemark", "quarantine")))), string(damagedFile)) {
			t.Errorf("%s: the damaged file is not in quarantine", name)
		}
		db, err := Open(t.Context(), small(disk))
		if err != nil {
			t.Errorf("%s: open: %v", name, err)
			return
		}
		l.never(t, name, db)
		if lost, _ := l.missing(t, db); lost > most || most > 0 && lost == 0 {
			t.Errorf("%s: %d samples are lost, want 1 to %d", name, lost, most)
		}
		if err := db.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
	at := func(n int64) func(int64) int64 { return func(int64) int64 { return n } }
	end := func(n int64) func(int64) int64 { return func(size int64) int64 { return size - n } }
	slot := 12 * 20
	c("stripe of a block", kindBlock, ".blk", false, at(40), slot)
	c("frame of a block", kindBlock, ".blk", false, end(3), slot)
	c("stripe of a part", kindPart, ".part", false, at(40), slot)
	c("frame of a part", kindPart, ".part", false, end(3), slot)
	c("newest checkpoint", kindCheckpoint, ".ckpt", true, at(60), 0)
	c("older checkpoint", kindCheckpoint, ".ckpt", false, at(60), 0)
	c("tombstones", kindTombstones, ".del", false, at(12), 0)
	c("list of deletes", kindDeletes, "/deletes", false, at(12), 0)
	log := []byte(files[oneOf(t, files, ".seg", true)])
	for len(log) > 0 && log[len(log)-1] == 0 {
		log = log[:len(log)-1]
	}
	c("log behind the checkpoints", kindLog, ".seg", true, at(int64(len(log))-500), 36)
}

func TestDamageOfTheLogThatACheckpointCoversIsNoted(t *testing.T) {
	disk, l := everyKind(t)
	flip(t, disk, oneOf(t, tree(t, disk, testDir), "0000000001.seg", false), 1100)
	report, err := Verify(t.Context(), VerifyOptions{Dir: testDir, FS: disk})
	if err != nil || len(report.Findings) > 0 || len(report.Notes) == 0 || !strings.Contains(report.Notes[0], "nothing is missing") {
		t.Errorf("error %v, report %+v", err, report)
	}
	l.check(t, "with the damage", openTest(t, small(disk)), l.clone())
}

// never checks that a store has no sample that differs from what was sent.
func (l *ledger) never(t *testing.T, where string, db *DB) {
	t.Helper()
	v, err := db.View(minTime, maxTime)
	if err != nil {
		t.Fatal(err)
	}
	l.partly(t, where, v)
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// partly does so with a view.
func (l *ledger) partly(t *testing.T, where string, v column.View) {
	t.Helper()
	for s, ps := range scanAll(t, v) {
		for _, p := range ps {
			if w, ok := l.sent[s][p.T]; ok && w != p.V {
				t.Errorf("%s: sample %s @%d = %x, sent was %x", where, s, p.T, p.V, w)
			}
		}
	}
}
