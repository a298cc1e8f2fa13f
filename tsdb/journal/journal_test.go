// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
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

// TestRecordsComeBackAgainWhileOthersAreWritten reads a damaged log twice: the second time, while records are appended,
// the same ones come, and nothing is put aside once more.
func TestRecordsComeBackAgainWhileOthersAreWritten(t *testing.T) {
	base, _ := sessions(t)
	flip(t, base, path.Join(dir, segments(t, base)[1]), 1024+40, 1)
	j := open(t, small(base))
	want, rec := replay(t, j, 2)
	if rec.LostRecords == 0 {
		t.Fatal("nothing is damaged")
	}
	for _, c := range rec.Corrupt {
		ok(t, base.Remove(c.Quarantine))
	}
	last := j.Last()
	var got []entry
	ok(t, j.Reread(2, last, func(lsn sample.LSN, kind byte, p []byte) error {
		got = append(got, entry{lsn, kind, string(p)})
		ok(t, j.Durable(t.Context(), appendOne(t, j, 3, 10)))
		return nil
	}))
	if !slices.Equal(want, got) {
		t.Errorf("records %v, want %v", got, want)
	}
	for _, c := range rec.Corrupt {
		if _, err := base.Stat(c.Quarantine); err == nil {
			t.Errorf("%s was put aside again", c.Quarantine)
		}
	}
	failure := errors.New("enough")
	if err := j.Reread(2, last, func(sample.LSN, byte, []byte) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("the error of the callback is answered with %v", err)
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

func TestRecordsAreOnDiskWhenSomebodyHasWaitedForThat(t *testing.T) {
	for _, mode := range []journal.Mode{journal.Durable, journal.Process} {
		disk := fsx.NewCrashable()
		o := small(disk)
		o.Sync = mode
		j := open(t, o)
		start := time.Now()
		for i := range 20 {
			lsn := appendOne(t, j, 1, 10)
			ok(t, j.OnDisk(t.Context(), lsn))
			if j.Synced() < lsn {
				t.Fatalf("mode %d: synced %d, want %d", mode, j.Synced(), lsn)
			}
			o.FS = disk.Crash(0, 1)
			left := open(t, o)
			if got, _ := replay(t, left, 1); len(got) != i+1 {
				t.Fatalf("mode %d: %d records survive, want %d", mode, len(got), i+1)
			}
			ok(t, left.Close())
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

func TestLargeRecordIsAdmittedBesideSmallOnes(t *testing.T) {
	stall := make(chan struct{})
	faulty := fsx.NewFaulty(fsx.NewCrashable())
	j := open(t, journal.Options{FS: faulty, MaxPending: 10_000})
	ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 1)))
	faulty.Inject(fsx.Fault{Op: fsx.OpWrite, Stall: stall})
	appendOne(t, j, 1, 1000)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := j.Admit(ctx, 20_000); err != nil {
		t.Errorf("20000 bytes beside 1000: %v", err)
	}
	lsn := appendOne(t, j, 1, 20_000)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := j.Admit(short, 20_000); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("20000 bytes beside 21000: %v", err)
	}
	close(stall)
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
