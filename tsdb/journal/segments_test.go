// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func segments(t *testing.T, fsys fsx.FS) []string {
	t.Helper()
	names, err := fsys.List(dir)
	ok(t, err)
	var out []string
	for _, n := range names {
		if strings.HasSuffix(n, ".seg") {
			out = append(out, n)
		}
	}
	return out
}

func TestSegmentsGoOnlyBelowEveryFloor(t *testing.T) {
	base := fsx.NewCrashable()
	faulty := fsx.NewFaulty(base)
	j := open(t, small(faulty))
	fill := func() {
		t.Helper()
		for range 300 {
			appendOne(t, j, 1, 1000)
		}
		ok(t, j.Durable(t.Context(), j.Last()))
	}
	fill()
	before := len(segments(t, base))
	if before < 5 {
		t.Fatalf("%d segments", before)
	}
	low, high := j.NewFloor("low", 1), j.NewFloor("high", 1)
	high.Set(j.Last())
	if n := len(segments(t, base)); n != before {
		t.Errorf("%d of %d segments are left above the lower floor", n, before)
	}
	low.Set(200)
	got, rec := replay(t, j, 200)
	if len(got) != 101 || rec.LostRecords > 0 || len(rec.Corrupt) > 0 {
		t.Errorf("%d records from the floor on, %+v", len(got), rec)
	}
	low.Release()
	left := segments(t, base)
	if len(left) > 3 { // the one in use and two to be used again
		t.Errorf("segments left: %q", left)
	}
	creates, renames := faulty.Count(fsx.OpCreate), faulty.Count(fsx.OpRename)
	for range 5 {
		fill()
		high.Set(j.Last())
	}
	if faulty.Count(fsx.OpRename) == renames {
		t.Error("no segment was used again")
	}
	if n := faulty.Count(fsx.OpCreate) - creates; n > 20 {
		t.Errorf("%d files made", n)
	}
	if got := j.DiskBytes(); got > 6*64<<10 {
		t.Errorf("%d bytes on disk", got)
	}
	ok(t, j.Close())
	j = open(t, small(base))
	got, rec = replay(t, j, 1800)
	if len(got) != 1 || rec.LostRecords != 0 || len(rec.Corrupt) != 0 || got[0].data != string(payload(1, 1800, 1000)) {
		t.Errorf("after reopening: %d records, %+v", len(got), rec)
	}
	ok(t, j.Close())
}

func TestLogContinuesAboveALostOne(t *testing.T) {
	base := fsx.NewCrashable()
	o := small(base)
	o.After = 1000
	j := open(t, o)
	if j.Last() != 1000 {
		t.Fatalf("last is %d", j.Last())
	}
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 5)))
	ok(t, j.Close())
	o.After = 500
	j = open(t, o)
	appendOne(t, j, 1, 5)
	ok(t, j.Close())
	o.After = 2000
	j = open(t, o)
	appendOne(t, j, 1, 5)
	ok(t, j.Close())
	j = open(t, o)
	got, rec := replay(t, j, 1001)
	ok(t, j.Close())
	var lsns []sample.LSN
	for _, e := range got {
		lsns = append(lsns, e.lsn)
	}
	if fmt.Sprint(lsns) != "[1001 1002 2001]" || rec.LostRecords != 0 {
		t.Errorf("records %v, %+v", lsns, rec)
	}
}

func TestNewerFormatIsNotTouched(t *testing.T) {
	base := fsx.NewCrashable()
	j := open(t, small(base))
	appendOne(t, j, 1, 5)
	ok(t, j.Close())
	journal.SetVersion(t, base, path.Join(dir, segments(t, base)[0]), 2)
	faulty := fsx.NewFaulty(base)
	_, err := journal.Open(journal.Options{FS: faulty, Dir: dir})
	var version *journal.VersionError
	if !errors.As(err, &version) || version.Version != 2 {
		t.Errorf("error %v", err)
	}
	if n := faulty.Count(fsx.OpChange); n != 0 {
		t.Errorf("%d changes", n)
	}
}

func TestReaderFollows(t *testing.T) {
	j := open(t, small(fsx.NewCrashable()))
	for range 100 {
		appendOne(t, j, 1, 1000)
	}
	r := j.NewReader("test", 50)
	done := make(chan error)
	go func() {
		for want := sample.LSN(50); want <= 500; want++ {
			e, err := r.Next(t.Context())
			if err != nil || e.LSN != want || string(e.Payload) != string(payload(1, want, 1000)) {
				done <- fmt.Errorf("record %d, want %d: %w", e.LSN, want, err)
				return
			}
			if e.LSN > j.Synced() {
				done <- fmt.Errorf("record %d was read before it was durable", e.LSN)
				return
			}
		}
		done <- nil
	}()
	for range 400 {
		appendOne(t, j, 1, 1000)
		if j.Last()%7 == 0 {
			ok(t, j.Durable(t.Context(), j.Last()))
		}
	}
	ok(t, <-done)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	ok(t, j.Close())
	if _, err := r.Next(t.Context()); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("error %v", err)
	}
	ok(t, r.Close())
}

func TestFloorKeepsEveryRecordFromItOn(t *testing.T) {
	for floor := sample.LSN(1); floor < 200; floor += 3 {
		j := open(t, small(fsx.NewCrashable()))
		f := j.NewFloor("test", 1)
		for range 200 {
			appendOne(t, j, 1, 1000)
		}
		ok(t, j.Durable(t.Context(), 200))
		f.Set(floor)
		got, rec := replay(t, j, floor)
		if len(got) != 201-int(floor) || rec.LostRecords != 0 {
			t.Errorf("floor %d: %d records, %+v", floor, len(got), rec)
		}
		if got, rec := replay(t, j, 1); len(got)+int(rec.LostRecords) != 200 {
			t.Errorf("floor %d: %d records and %d lost", floor, len(got), rec.LostRecords)
		}
		f.Release()
		ok(t, j.Close())
	}
}

func TestReaderWaitsForWhatIsNotDurableYet(t *testing.T) {
	base := fsx.NewCrashable()
	j := open(t, small(base))
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 10)))
	appendOne(t, j, 1, 10)
	ok(t, j.Durable(t.Context(), 2))
	killed := base.Crash(0, 0) // nothing vouches for record 2
	ok(t, j.Close())
	killed.SetFree(0)
	j = open(t, small(killed))
	if !errors.Is(j.Err(), journal.ErrNoSpace) || j.Last() != 2 {
		t.Fatalf("last %d, %v", j.Last(), j.Err())
	}
	r := j.NewReader("test", 1)
	e, err := r.Next(t.Context())
	if err != nil || e.LSN != 1 {
		t.Fatalf("record %d, %v", e.LSN, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if e, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("record %d came before it was durable: %v", e.LSN, err)
	}
	killed.SetFree(-1)
	for want := sample.LSN(2); want <= 3; want++ {
		e, err = r.Next(t.Context())
		if err != nil || e.LSN != want || string(e.Payload) != string(payload(1, want, 10)) {
			t.Fatalf("record %d, %v, want %d", e.LSN, err, want)
		}
		if want == 2 {
			ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 10)))
		}
	}
	ok(t, r.Close())
	ok(t, j.Close())
}

func TestSegmentThatCannotBeMadeIsTriedAgain(t *testing.T) {
	check := func(name string, o journal.Options, fault fsx.Fault, heal func(f *fsx.Faulty)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // Each waits for a retry.
			retried(t, o, fault, heal)
		})
	}
	nothing := func(*fsx.Faulty) {}
	check("too many files", journal.Options{}, fsx.Fault{Op: fsx.OpCreate, Err: syscall.EMFILE}, nothing)
	check("no blocks", journal.Options{}, fsx.Fault{Op: fsx.OpPreallocate, Err: syscall.ENOSPC}, nothing)
	check("quota", journal.Options{}, fsx.Fault{Op: fsx.OpCreate, Err: syscall.EDQUOT}, nothing)
	check("no reservation", journal.Options{}, fsx.Fault{Op: fsx.OpWrite, Err: syscall.ENOSPC, Short: 700}, nothing)
	check("no room for the header", journal.Options{}, fsx.Fault{Op: fsx.OpWrite, After: 1, Err: syscall.ENOSPC, Short: 300}, nothing)
	check("reserve", journal.Options{MinFree: 80 << 10}, fsx.Fault{}, func(f *fsx.Faulty) { f.SetUsage(200<<10, 1<<20) })
}

// retried runs a journal into a fault and expects it to go on once the fault is healed.
func retried(t *testing.T, o journal.Options, fault fsx.Fault, heal func(f *fsx.Faulty)) {
	t.Helper()
	faulty := fsx.NewFaulty(fsx.NewCrashable())
	o.FS, o.SegmentBytes = faulty, 64<<10
	j := open(t, o)
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 60_000)))
	faulty.Inject(fault)
	faulty.SetUsage(100<<10, 1<<20)
	lsn := appendOne(t, j, 1, 60_000)
	if err := j.Durable(t.Context(), lsn); !errors.Is(err, journal.ErrNoSpace) {
		t.Errorf("error %v", err)
	}
	faulty.Heal()
	heal(faulty)
	for start := time.Now(); j.Err() != nil && time.Since(start) < 5*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	ok(t, j.Durable(t.Context(), lsn))
	got, rec := replay(t, j, 0)
	if len(got) != 2 || got[1].data != string(payload(1, 2, 60_000)) || rec.LostRecords != 0 || len(rec.Corrupt) != 0 {
		t.Errorf("%d records, %+v", len(got), rec)
	}
	ok(t, j.Close())
}

func TestLittleRoomIsUsedInSmallSegments(t *testing.T) {
	check := func(name string, limit func(f *fsx.Faulty, base *fsx.Crashable)) {
		t.Run(name, func(t *testing.T) {
			base := fsx.NewCrashable()
			faulty := fsx.NewFaulty(base)
			j := open(t, journal.Options{FS: faulty, FirstSegmentBytes: 64 << 10, SegmentBytes: 1 << 20, MinFree: 100 << 10})
			for range 20 { // 64 and 256 KiB are full, then there is one of 1 MiB.
				ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 60_000)))
			}
			limit(faulty, base)
			for range 10 {
				ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 60_000)))
			}
			got, rec := replay(t, j, 0)
			if len(got) != 30 || rec.LostRecords != 0 || len(rec.Corrupt) != 0 {
				t.Errorf("%d records, %+v", len(got), rec)
			}
			ok(t, j.Close())
		})
	}
	check("disk almost full", func(_ *fsx.Faulty, base *fsx.Crashable) { base.SetFree(700 << 10) })
	check("almost down to the reserve", func(f *fsx.Faulty, _ *fsx.Crashable) { f.SetUsage(400<<10, 1<<30) })
}

func TestFreedSegmentsLetAFullLogGoOnAtOnce(t *testing.T) {
	base := fsx.NewCrashable()
	j := open(t, small(base))
	floor := j.NewFloor("test", 1)
	for range 10 {
		ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 40_000)))
	}
	base.SetFree(0)
	lsn := appendOne(t, j, 1, 40_000)
	if err := j.Durable(t.Context(), lsn); !errors.Is(err, journal.ErrNoSpace) {
		t.Fatalf("error %v", err)
	}
	start := time.Now()
	floor.Set(lsn)
	for j.Err() != nil && time.Since(start) < 5*time.Second {
		time.Sleep(time.Millisecond)
	}
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("took %v", took)
	}
	ok(t, j.Durable(t.Context(), lsn))
	ok(t, j.Close())
}

func TestStatsCount(t *testing.T) {
	j := open(t, small(fsx.NewCrashable()))
	for range 100 {
		appendOne(t, j, 1, 1000)
	}
	if s := j.Stats(); s.PendingBytes < 100_000 && s.Bytes < 100_000 {
		t.Errorf("%+v", s)
	}
	ok(t, j.Durable(t.Context(), 100))
	s := j.Stats()
	if s.Records != 100 || s.Bytes < 100_000 || s.Syncs < 2 || s.Segments != 2 || s.DiskBytes != 2*64<<10 || s.PendingBytes != 0 {
		t.Errorf("%+v", s)
	}
	all, half := j.BytesSince(0), j.BytesSince(50)
	if all < 100_000 || all > 120_000 || half < all/3 || half > all*2/3 || j.BytesSince(100) != 0 {
		t.Errorf("bytes since: %d, %d, %d", all, half, j.BytesSince(100))
	}
	ok(t, j.Close())
}
