// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

func scrubNow(t *testing.T, db *DB) {
	t.Helper()
	if err := db.scrubPass(t.Context(), func(context.Context, int64) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// wantCondition checks that a condition holds alone and says all of the texts; without texts, that none holds.
func wantCondition(t *testing.T, db *DB, code string, texts ...string) {
	t.Helper()
	cs := db.Conditions()
	if len(texts) == 0 && len(cs) == 0 {
		return
	}
	if len(cs) != 1 || cs[0].Code != code {
		t.Errorf("conditions %v, want %s with %q", cs, code, texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(cs[0].Effect, text) {
			t.Errorf("effect %q does not tell %q", cs[0].Effect, text)
		}
	}
}

// warningsOf returns the warnings of reading everything of a time.
func warningsOf(t *testing.T, db *DB, mint, maxt int64) []string {
	t.Helper()
	v, err := db.View(mint, maxt)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	scanAll(t, v)
	var out []string
	for _, w := range v.Warnings() {
		out = append(out, w.Error())
	}
	return out
}

// Damage of a block or a part that is in use is found by the scrub before a query meets it; answers over its time say so,
// with the time; serving goes on; and when the disk has it again the condition ends without a scrub.
func TestScrubFindsDamagedSamplesAndTheConditionEndsWithTheDamage(t *testing.T) {
	for suffix, times := range map[string][2]string{
		".blk":  {"1970-01-01T00:00:00Z", "1970-01-01T00:00:57Z"},
		".part": {"1970-01-01T00:02:00Z", "1970-01-01T00:02:27Z"},
	} {
		disk, l := everyKind(t)
		file := oneOf(t, tree(t, disk, testDir), suffix, false)
		db := openTest(t, small(disk))
		if suffix == ".blk" {
			file = db.blocks.all()[0].Name() // the oldest; names of one millisecond are in no order
		}
		scrubNow(t, db)
		wantCondition(t, db, "")
		if s := db.ScrubStats(); s.Bytes == 0 || s.Passes != 1 || s.Damages != 0 || s.LastPass.IsZero() {
			t.Errorf("of a sound store: %+v", s)
		}
		flip(t, disk, file, 40)
		scrubNow(t, db)
		wantCondition(t, db, ConditionQuarantined, path.Base(file), times[0], times[1])
		if s := db.ScrubStats(); s.Passes != 2 || s.Damages != 1 {
			t.Errorf("of one damaged stripe: %+v", s)
		}
		db.recheck()
		wantCondition(t, db, ConditionQuarantined, path.Base(file))
		if lost, warnings := l.missing(t, db); lost == 0 || warnings == 0 {
			t.Errorf("%s: %d samples are missing with %d warnings", suffix, lost, warnings)
		}
		ws := warningsOf(t, db, minTime, maxTime)
		if len(ws) != 1 || !strings.Contains(ws[0], times[0]) || !strings.Contains(ws[0], times[1]) {
			t.Errorf("%s: warnings %q, want one that says from when to when", suffix, ws)
		}
		if ws := warningsOf(t, db, testSlot, 2*testSlot-1); len(ws) > 0 {
			t.Errorf("%s: warnings %q over another time", suffix, ws)
		}
		commit(t, db, []labels.Labels{seriesName(0)}, 3*testSlot, one(1))
		l.note(l.sent, []labels.Labels{seriesName(0)}, 3*testSlot, one(1))
		flip(t, disk, file, 40) // the disk has it again
		db.recheck()
		wantCondition(t, db, "")
		l.check(t, "afterwards", db, l.clone())
	}
}

// A query meets the damage first. The condition that it raises ends the same way.
func TestDamageThatAQueryMeetsIsAConditionUntilItCanBeRead(t *testing.T) {
	disk, l := everyKind(t)
	file := oneOf(t, tree(t, disk, testDir), ".blk", false)
	db := openTest(t, small(disk))
	flip(t, disk, file, 40)
	if lost, _ := l.missing(t, db); lost == 0 {
		t.Fatal("nothing is missing")
	}
	wantCondition(t, db, ConditionQuarantined, path.Base(file))
	flip(t, disk, file, 40)
	db.recheck()
	wantCondition(t, db, "")
}

// The disk does not give a sector, without saying which; a scrub that reads all of the file ends the condition.
func TestASectorThatTheDiskDoesNotGiveIsAConditionUntilAScrubReadsIt(t *testing.T) {
	disk, l := everyKind(t)
	faulty := fsx.NewFaulty(disk)
	db := openTest(t, small(faulty))
	faulty.Inject(fsx.Fault{Op: fsx.OpRead, Path: "*.blk", Err: syscall.EIO})
	if lost, warnings := l.missing(t, db); lost == 0 || warnings == 0 {
		t.Fatalf("%d samples are missing with %d warnings", lost, warnings)
	}
	wantCondition(t, db, ConditionQuarantined, ".blk")
	scrubNow(t, db)
	wantCondition(t, db, ConditionQuarantined, ".blk")
	faulty.Heal()
	db.recheck()
	wantCondition(t, db, ConditionQuarantined, ".blk")
	scrubNow(t, db)
	wantCondition(t, db, "")
	l.check(t, "afterwards", db, l.clone())
}

// What is in memory too is written anew before it is needed: nothing is missing then, also after a power cut.
func TestScrubMendsWhatIsInMemoryToo(t *testing.T) {
	c := func(suffix string, last bool, off int64) {
		t.Helper()
		disk, l := everyKind(t)
		db := openTest(t, small(disk))
		for ts := int64(180_000); ts < 190_000; ts += 1000 {
			if err := l.commit(db, []labels.Labels{seriesName(0), seriesName(1)}, ts, one(float64(ts))); err != nil {
				t.Fatal(err)
			}
		}
		file := oneOf(t, tree(t, disk, testDir), suffix, last)
		if off < 0 { // of the end of the log
			data := strings.TrimRight(tree(t, disk, testDir)[file], "\x00")
			off += int64(len(data))
		}
		before := contents(t, db)
		flip(t, disk, file, off)
		scrubNow(t, db)
		wantCondition(t, db, "")
		if s := db.ScrubStats(); s.Damages != 1 {
			t.Errorf("%s: %d damages were found, want 1", suffix, s.Damages)
		}
		after := disk.Crash(0, 1)
		report, err := Verify(t.Context(), VerifyOptions{Dir: testDir, FS: after})
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("%s: %v, still damaged: %+v", suffix, err, report)
		}
		again := openTest(t, small(after))
		wantCondition(t, again, "")
		wantContents(t, again, before)
		l.check(t, suffix, again, l.clone())
	}
	c(".ckpt", true, 60)
	c(".ckpt", false, 60)
	c(".del", false, 12)
	c("/deletes", false, 12)
	c(".seg", true, -300)
}

func TestAFileThatLeavesTheQuarantineEndsItsConditionAndItsWarnings(t *testing.T) {
	disk := twoBlocks(t)
	db := openTest(t, small(disk))
	name := db.blocks.all()[0].Name()
	mustClose(t, db)
	damage(t, disk, name, offsetOf(t, disk, name, "__name__"))
	db = openTest(t, small(disk))
	wantCondition(t, db, ConditionQuarantined, "1970-01-01T00:00:01Z")
	if ws := warningsOf(t, db, 0, 59_999); len(ws) != 1 || !strings.Contains(ws[0], "1970-01-01T00:00:01Z") {
		t.Errorf("warnings %q, want one that says from when", ws)
	}
	db.recheck()
	wantCondition(t, db, ConditionQuarantined, "1970-01-01T00:00:01Z")
	quarantine := path.Join(testDir, "tidemark", "quarantine")
	names, err := disk.List(quarantine)
	if err != nil || len(names) != 1 {
		t.Fatalf("quarantine holds %v (%v)", names, err)
	}
	if err := disk.Remove(path.Join(quarantine, names[0])); err != nil {
		t.Fatal(err)
	}
	db.recheck()
	wantCondition(t, db, "")
	if ws := warningsOf(t, db, 0, 59_999); len(ws) > 0 {
		t.Errorf("warnings %q go on after the loss was accepted", ws)
	}
}

// A damaged part is moved to quarantine when its slot becomes a block; answers go on to warn, without a restart.
func TestAnswersWarnOfADamagedPartAlsoWhenItsSlotHasBecomeABlock(t *testing.T) {
	disk, l := everyKind(t)
	file := oneOf(t, tree(t, disk, testDir), ".part", false)
	db := openTest(t, small(disk))
	flip(t, disk, file, 40)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(db.parts.all(), func(p *storedPart) bool { return p.Name() == file }) {
		t.Fatal("the part is in use still")
	}
	for range 2 {
		wantCondition(t, db, ConditionQuarantined, path.Base(file))
		if lost, warnings := l.missing(t, db); lost == 0 || warnings == 0 {
			t.Errorf("%d samples are missing with %d warnings", lost, warnings)
		}
		db.recheck()
	}
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
	commit(t, db, []labels.Labels{seriesName(0)}, 0, one(1))
	if err := db.scrubPass(ctx, db.scrubPace); err == nil {
		t.Error("a pass did not end with its context")
	}
}
