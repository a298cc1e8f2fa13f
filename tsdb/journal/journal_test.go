// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	dir  = "/data/wal"
	kind = journal.FirstKind
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, o journal.Options) *journal.Journal {
	t.Helper()
	o.Dir = dir
	j, err := journal.Open(o)
	ok(t, err)
	return j
}

// small are options under which a few KiB make many segments.
func small(fsys fsx.FS) journal.Options {
	return journal.Options{FS: fsys, SegmentBytes: 64 << 10}
}

// payload is what record lsn of a run holds: recognisable, of a length of its own.
func payload(run int, lsn sample.LSN, size int) []byte {
	b := fmt.Appendf(nil, "run %d record %d ", run, lsn)
	return append(b, bytes.Repeat([]byte{byte(lsn)}, size)...)
}

func appendOne(t *testing.T, j *journal.Journal, run, size int) sample.LSN {
	t.Helper()
	want := j.Last() + 1
	p := payload(run, want, size)
	lsn, err := j.Append(kind, p[:len(p)/2], p[len(p)/2:])
	ok(t, err)
	if lsn != want {
		t.Fatalf("record %d, want %d", lsn, want)
	}
	return lsn
}

type entry struct {
	lsn  sample.LSN
	kind byte
	data string
}

func replay(t *testing.T, j *journal.Journal, from sample.LSN) ([]entry, journal.Recovery) {
	t.Helper()
	var out []entry
	rec, err := j.Replay(from, func(lsn sample.LSN, kind byte, p []byte) error {
		out = append(out, entry{lsn, kind, string(p)})
		return nil
	})
	ok(t, err)
	return out, rec
}

func TestRecordsComeBackInOrder(t *testing.T) {
	check := func(o journal.Options, sizes ...int) {
		t.Helper()
		j := open(t, o)
		for _, n := range sizes {
			appendOne(t, j, 1, n)
		}
		if got := j.Last(); got != sample.LSN(len(sizes)) {
			t.Errorf("last %d", got)
		}
		ok(t, j.Durable(t.Context(), j.Last()))
		if o.Sync == journal.Durable && j.Synced() != j.Last() {
			t.Errorf("synced %d of %d", j.Synced(), j.Last())
		}
		want := 0
		verify := func() {
			t.Helper()
			got, rec := replay(t, j, 0)
			if len(got) != len(sizes)+want || len(rec.Corrupt) != 0 || rec.LostRecords != 0 || rec.TornBytes != 0 {
				t.Fatalf("%d records, want %d; %+v", len(got), len(sizes)+want, rec)
			}
			for i, e := range got {
				run, size := 1, 3
				if i < len(sizes) {
					size = sizes[i]
				} else {
					run = i - len(sizes) + 2
				}
				if e.lsn != sample.LSN(i+1) || e.kind != kind || e.data != string(payload(run, e.lsn, size)) {
					t.Fatalf("record %d is %d, kind %d, %d bytes %.30q", i+1, e.lsn, e.kind, len(e.data), e.data)
				}
			}
		}
		verify()
		for run := 2; run < 6; run++ {
			ok(t, j.Close())
			j = open(t, o)
			verify()
			appendOne(t, j, run, 3)
			ok(t, j.Durable(t.Context(), j.Last()))
			want++
			verify()
		}
		ok(t, j.Close())
	}
	many := make([]int, 3000)
	for i := range many {
		many[i] = i % 700
	}
	for _, mode := range []journal.Mode{journal.Durable, journal.Process} {
		o := small(fsx.NewCrashable())
		o.Sync = mode
		check(o)
		o.FS = fsx.NewCrashable()
		check(o, 0)
		o.FS = fsx.NewCrashable()
		check(o, 1, 7, 8, 9, 0, 100)
		o.FS = fsx.NewCrashable()
		check(o, many...)
		o.FS = fsx.NewCrashable()
		check(o, 10, 64<<10, 200<<10, 5, 1<<20, 3)
	}
}

// trial is one run of the crash test: writers that remember what was acknowledged.
type trial struct {
	sync.Mutex
	sent  map[sample.LSN][]string // every payload an LSN was given out for, over all runs
	acked sample.LSN
	run   int
}

// work appends records and waits for them here and there, until the file system fails or it is done.
func (tr *trial) work(t *testing.T, j *journal.Journal, rng *rand.Rand, floor *journal.Floor) {
	for range 25 {
		p := payload(tr.run, j.Last()+1, rng.IntN(3000))
		lsn, err := j.Append(kind, p)
		if err != nil {
			return
		}
		tr.Lock()
		tr.sent[lsn] = append(tr.sent[lsn], string(p))
		tr.Unlock()
		if rng.IntN(3) == 0 {
			if j.Durable(t.Context(), lsn) != nil {
				return
			}
			tr.Lock()
			tr.acked = max(tr.acked, lsn)
			tr.Unlock()
			if floor != nil && rng.IntN(4) == 0 && lsn > 8 {
				floor.Set(lsn - 8)
			}
		}
	}
}

// verify opens what a crash left and compares it with what was acknowledged.
func (tr *trial) verify(t *testing.T, fsys fsx.FS, from, acked sample.LSN, what string) {
	t.Helper()
	j := open(t, small(fsys))
	got, rec := replay(t, j, from)
	if rec.LostRecords != 0 || len(rec.Corrupt) != 0 {
		t.Fatalf("%s: corruption found: %+v", what, rec)
	}
	next := max(from, 1)
	for _, e := range got {
		if e.lsn != next {
			t.Fatalf("%s: record %d, want %d", what, e.lsn, next)
		}
		next++
		known := false
		for _, p := range tr.sent[e.lsn] {
			known = known || p == e.data
		}
		if !known {
			t.Fatalf("%s: record %d was invented: %.40q", what, e.lsn, e.data)
		}
	}
	if next <= acked {
		t.Fatalf("%s: recovered up to %d, acknowledged up to %d: %+v", what, next-1, acked, rec)
	}
	if j.Last() != next-1 {
		t.Fatalf("%s: last is %d, replayed up to %d", what, j.Last(), next-1)
	}
	ok(t, j.Close())
	again := open(t, small(fsys))
	got2, rec2 := replay(t, again, from)
	ok(t, again.Close())
	if len(got2) != len(got) || rec2.LostRecords != 0 || len(rec2.Corrupt) != 0 {
		t.Fatalf("%s: the second recovery found %d records, the first %d: %+v", what, len(got2), len(got), rec2)
	}
	for i := range got {
		if got[i] != got2[i] {
			t.Fatalf("%s: the second recovery differs at record %d", what, got[i].lsn)
		}
	}
}

// TestCrashAtEveryOperation cuts the power before each change of the disk that a log makes, in its first run, in
// the recovery from a first crash and in the run after it.
func TestCrashAtEveryOperation(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, withFloor := range []bool{false, true} {
		base := fsx.NewCrashable()
		tr := &trial{sent: map[sample.LSN][]string{}}
		for tr.run = range 4 {
			faulty := fsx.NewFaulty(base)
			rng := rand.New(rand.NewPCG(seed, uint64(tr.run)))
			type state struct {
				fs          *fsx.Crashable
				acked, from sample.LSN
				what        string
			}
			var states []state
			var from sample.LSN
			ops := 0
			faulty.Observe(func(op fsx.Op, name string) {
				if op&fsx.OpChange == 0 {
					return
				}
				ops++
				tr.Lock()
				defer tr.Unlock()
				for i, percent := range []int{0, 100, 50, 80, 20} {
					what := fmt.Sprintf("run %d, floor %t, before operation %d (%d on %s), %d %%", tr.run, withFloor, ops, op, name, percent)
					states = append(states, state{base.Crash(percent, seed+uint64(ops*10+i)), tr.acked, from, what})
				}
			})
			j := open(t, small(faulty))
			var floor *journal.Floor
			if withFloor {
				floor = j.NewFloor("test", max(tr.acked, 9)-8)
			}
			tr.work(t, j, rng, floor)
			ok(t, j.Close())
			if withFloor {
				from = max(tr.acked, 9) - 8
			}
			if ops < 10 {
				t.Fatalf("only %d operations", ops)
			}
			for _, s := range states {
				replayFrom := sample.LSN(0)
				if withFloor {
					replayFrom = max(s.acked, 9) - 8
				}
				tr.verify(t, s.fs, replayFrom, s.acked, s.what)
			}
			// The next run goes on from a state in the middle of this one.
			s := states[len(states)*2/3]
			base = s.fs.Crash(0, 0)
			tr.acked = s.acked
		}
	}
}

func TestRecordsSurviveAKilledProcessAndThenPowerLoss(t *testing.T) {
	// The process ends between the write and the sync: the records are in the kernel's memory. The next one
	// finds them, acknowledges more, and only then the power is lost.
	base := fsx.NewCrashable()
	faulty := fsx.NewFaulty(base)
	j := open(t, small(faulty))
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 100)))
	faulty.Inject(fsx.Fault{Op: fsx.OpSync, Err: syscall.EIO})
	for range 5 {
		appendOne(t, j, 1, 100)
	}
	if err := j.Durable(t.Context(), 6); err == nil {
		t.Fatal("a failed sync was acknowledged")
	}
	_ = j.Close()

	killed := base // nothing unsynced is lost when only the process ends
	j = open(t, small(killed))
	if j.Last() != 6 {
		t.Fatalf("the new process found records up to %d", j.Last())
	}
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 100)))
	lost := killed.Crash(0, 0)
	ok(t, j.Close())
	j = open(t, small(lost))
	got, rec := replay(t, j, 0)
	if len(got) != 7 || len(rec.Corrupt) > 0 || rec.LostRecords > 0 {
		t.Errorf("%d records after the power loss, %+v", len(got), rec)
	}
	ok(t, j.Close())
}

func TestFailedSyncPoisons(t *testing.T) {
	check := func(fault fsx.Fault) {
		t.Helper()
		base := fsx.NewCrashable()
		faulty := fsx.NewFaulty(base)
		j := open(t, small(faulty))
		ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 10)))
		faulty.Inject(fault)
		lsn := appendOne(t, j, 1, 10)
		var poisoned *journal.PoisonedError
		is := func(err error) {
			t.Helper()
			if !errors.As(err, &poisoned) || !errors.Is(err, fault.Err) || errors.Is(err, journal.ErrNoSpace) {
				t.Errorf("error %v", err)
			}
		}
		is(j.Durable(t.Context(), lsn))
		faulty.Heal()
		syncs := faulty.Count(fsx.OpSync)
		is(j.Durable(t.Context(), lsn))
		is(j.DurableLazy(t.Context(), lsn))
		is(j.Admit(t.Context(), 1))
		_, err := j.Append(kind, nil)
		is(err)
		is(j.Err())
		ok(t, j.Durable(t.Context(), lsn-1))
		is(j.Close())
		if n := faulty.Count(fsx.OpSync); n != syncs {
			t.Errorf("%d syncs after the failed one", n-syncs)
		}
		for _, percent := range []int{0, 100} {
			after := base.Crash(percent, 1)
			j := open(t, small(after))
			got, _ := replay(t, j, 0)
			if len(got) < 1 || got[0].data != string(payload(1, 1, 10)) {
				t.Errorf("the acknowledged record is gone: %v", got)
			}
			ok(t, j.Close())
		}
	}
	check(fsx.Fault{Op: fsx.OpSync, Err: syscall.EIO})
	check(fsx.Fault{Op: fsx.OpSync, Err: syscall.ENOSPC})
	check(fsx.Fault{Op: fsx.OpSync, Times: 1, Err: syscall.EIO})
	check(fsx.Fault{Op: fsx.OpWrite, Err: syscall.EIO})
	check(fsx.Fault{Op: fsx.OpWrite, Err: syscall.EIO, Short: 20})
}

func TestFullDiskRefusesAndRecoversInPlace(t *testing.T) {
	base := fsx.NewCrashable()
	j := open(t, small(base))
	lsn := sample.LSN(0)
	for range 10 {
		lsn = appendOne(t, j, 1, 1000)
	}
	ok(t, j.Durable(t.Context(), lsn))
	base.SetFree(10)
	acked := lsn
	var err error
	for err == nil {
		ok(t, j.Admit(t.Context(), 1000))
		acked = lsn
		lsn = appendOne(t, j, 1, 1000)
		err = j.Durable(t.Context(), lsn)
	}
	if lsn < 50 {
		t.Errorf("full at record %d: the first segment was not used", lsn)
	}
	is := func(err error) {
		t.Helper()
		var full *journal.FullError
		if !errors.Is(err, journal.ErrNoSpace) || !errors.As(err, &full) || !fsx.IsFull(err) {
			t.Errorf("error %v", err)
		}
	}
	is(err)
	is(j.Err())
	is(j.Admit(t.Context(), 1))
	_, err = j.Append(kind, []byte("refused"))
	is(err)
	// What was acknowledged is safe even if the server is stopped now, and one that starts on the full disk
	// holds on to the rest.
	crashed := base.Crash(0, 0)
	crashed.SetFree(10)
	k := open(t, small(crashed))
	got, _ := replay(t, k, 0)
	if sample.LSN(len(got)) < acked {
		t.Errorf("%d records recovered, %d acknowledged", len(got), acked)
	}
	_ = k.Close()

	base.SetFree(1 << 20)
	deadline := time.Now().Add(10 * time.Second)
	for j.Err() != nil && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	ok(t, j.Durable(t.Context(), lsn))
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 1000)))
	ok(t, j.Close())
	j = open(t, small(base))
	got, rec := replay(t, j, 0)
	if sample.LSN(len(got)) != lsn+1 || rec.LostRecords != 0 || len(rec.Corrupt) != 0 {
		t.Errorf("%d records, want %d: %+v", len(got), lsn+1, rec)
	}
	for _, e := range got {
		if e.data != string(payload(1, e.lsn, 1000)) {
			t.Errorf("record %d differs", e.lsn)
		}
	}
	ok(t, j.Close())
}

func TestWritersShareSyncs(t *testing.T) {
	faulty := fsx.NewFaulty(fsx.NewCrashable(), fsx.Fault{Op: fsx.OpSync, Delay: 2 * time.Millisecond})
	j := open(t, journal.Options{FS: faulty})
	var wg sync.WaitGroup
	const writers, each = 16, 40
	for range writers {
		wg.Go(func() {
			for range each {
				lsn, err := j.Append(kind, []byte("record"))
				if err == nil {
					err = j.Durable(t.Context(), lsn)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := faulty.Count(fsx.OpSync); n > writers*each/4 {
		t.Errorf("%d syncs for %d records", n, writers*each)
	}
	ok(t, j.Close())
}

func TestLazyWaitsCoalesce(t *testing.T) {
	faulty := fsx.NewFaulty(fsx.NewCrashable())
	j := open(t, journal.Options{FS: faulty})
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 1)))
	syncs := faulty.Count(fsx.OpSync)
	var wg sync.WaitGroup
	start := time.Now()
	for range 8 {
		wg.Go(func() {
			for time.Since(start) < time.Second {
				lsn, err := j.Append(kind, []byte("scrape"))
				if err == nil {
					err = j.DurableLazy(t.Context(), lsn)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	limit := int(time.Since(start)/(100*time.Millisecond)) + 1
	if n := faulty.Count(fsx.OpSync) - syncs; n > limit || n < 3 {
		t.Errorf("%d syncs in a second, at most %d expected", n, limit)
	}
	ok(t, j.Close())
}

func TestUnwantedRecordsReachTheDiskWithinASecondOrSo(t *testing.T) {
	for _, mode := range []journal.Mode{journal.Durable, journal.Process} {
		o := small(fsx.NewCrashable())
		o.Sync = mode
		j := open(t, o)
		lsn := appendOne(t, j, 1, 10)
		start := time.Now()
		for j.Synced() < lsn && time.Since(start) < 5*time.Second {
			time.Sleep(20 * time.Millisecond)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("mode %d: took %v", mode, took)
		}
		ok(t, j.Close())
	}
}

func TestAdmitHoldsWritersBackWhileTheDiskStalls(t *testing.T) {
	stall := make(chan struct{})
	faulty := fsx.NewFaulty(fsx.NewCrashable())
	j := open(t, journal.Options{FS: faulty, MaxPending: 10_000})
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 1)))
	faulty.Inject(fsx.Fault{Op: fsx.OpWrite, Stall: stall})
	var lsn sample.LSN
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err = j.Admit(ctx, 1000); err == nil {
			lsn = appendOne(t, j, 1, 1000)
		}
		cancel()
	}
	if !errors.Is(err, context.DeadlineExceeded) || n > 12 {
		t.Errorf("%d records of 1000 bytes admitted into 10000: %v", n, err)
	}
	close(stall)
	ok(t, j.Admit(t.Context(), 1000))
	ok(t, j.Durable(t.Context(), lsn))
	ok(t, j.Close())
}

func TestWaitEndsWithItsContext(t *testing.T) {
	stall := make(chan struct{})
	faulty := fsx.NewFaulty(fsx.NewCrashable())
	j := open(t, journal.Options{FS: faulty})
	faulty.Inject(fsx.Fault{Op: fsx.OpSync, Stall: stall})
	ctx, cancel := context.WithCancel(t.Context())
	lsn := appendOne(t, j, 1, 1)
	done := make(chan error)
	go func() { done <- j.Durable(ctx, lsn) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(stall)
	ok(t, j.Durable(t.Context(), lsn)) // the commit itself was not cancelled
	if err := j.Durable(t.Context(), lsn+1); err == nil {
		t.Error("waited for a record that does not exist")
	}
	ok(t, j.Close())
	ok(t, j.Durable(t.Context(), lsn))
	if _, err := j.Append(kind, nil); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

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
