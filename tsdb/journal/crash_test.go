// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with the seed it printed")

// seedOf returns the seed of a random test and prints it.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	return seed
}

// trial is one run of the crash test: a writer that remembers what was acknowledged.
type trial struct {
	options journal.Options
	size    int // most bytes of a record
	floor   bool

	mu    sync.Mutex
	sent  map[sample.LSN][]string // every payload an LSN was given out for, over all runs
	acked sample.LSN
	run   int
}

// keep is how many records below the last acknowledged one a trial with a floor still wants.
const keep = 8

func (tr *trial) from(acked sample.LSN) sample.LSN {
	if !tr.floor {
		return 0
	}
	return max(acked, keep+1) - keep
}

func (tr *trial) open(t *testing.T, fsys fsx.FS) *journal.Journal {
	t.Helper()
	o := tr.options
	o.FS = fsys
	return open(t, o)
}

// work appends records and waits for them here and there.
func (tr *trial) work(t *testing.T, j *journal.Journal, rng *rand.Rand) {
	t.Helper()
	floor := j.NewFloor("test", tr.from(tr.acked))
	if !tr.floor {
		floor.Release()
	}
	for range 25 {
		p := payload(tr.run, j.Last()+1, rng.IntN(tr.size))
		lsn, err := j.Append(kind, p)
		ok(t, err)
		tr.mu.Lock()
		tr.sent[lsn] = append(tr.sent[lsn], string(p))
		tr.mu.Unlock()
		if rng.IntN(3) == 0 {
			ok(t, j.Durable(t.Context(), lsn))
			tr.mu.Lock()
			tr.acked = max(tr.acked, lsn)
			tr.mu.Unlock()
			if tr.floor && rng.IntN(4) == 0 {
				floor.Set(tr.from(lsn))
			}
		}
	}
}

// state is what a crash left, and what must be in it.
type state struct {
	fs    *fsx.Crashable
	acked sample.LSN
	what  string
}

// verify opens what a crash left and compares it with what was acknowledged.
func (tr *trial) verify(t *testing.T, s state) {
	t.Helper()
	from := tr.from(s.acked)
	j := tr.open(t, s.fs)
	got, rec := replay(t, j, from)
	if rec.LostRecords != 0 || len(rec.Corrupt) != 0 {
		t.Fatalf("%s: corruption found: %+v", s.what, rec)
	}
	next := max(from, 1)
	for _, e := range got {
		if e.lsn != next {
			t.Fatalf("%s: record %d, want %d", s.what, e.lsn, next)
		}
		next++
		if !slices.Contains(tr.sent[e.lsn], e.data) {
			t.Fatalf("%s: record %d was invented: %.40q", s.what, e.lsn, e.data)
		}
	}
	if next <= s.acked {
		t.Fatalf("%s: recovered up to %d, acknowledged up to %d: %+v", s.what, next-1, s.acked, rec)
	}
	if len(got) > 0 && j.Last() != next-1 {
		t.Fatalf("%s: last is %d, replayed up to %d", s.what, j.Last(), next-1)
	}
	ok(t, j.Close())
	j = tr.open(t, s.fs)
	again, rec := replay(t, j, from)
	ok(t, j.Close())
	if !slices.Equal(got, again) || rec.LostRecords != 0 || len(rec.Corrupt) != 0 {
		t.Fatalf("%s: the second recovery found %d records, the first %d: %+v", s.what, len(again), len(got), rec)
	}
}

// crashes runs fn on base and returns the states that a power cut before each change of the disk could leave.
func (tr *trial) crashes(base *fsx.Crashable, seed uint64, fn func(fsys fsx.FS)) []state {
	faulty := fsx.NewFaulty(base)
	var states []state
	faulty.Observe(func(op fsx.Op, name string) {
		if op&fsx.OpChange == 0 {
			return
		}
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for i, percent := range []int{0, 100, 50, 80, 20} {
			acked := tr.acked
			if tr.options.Sync == journal.Process && percent < 100 {
				acked = 0 // only the end of the process leaves everything
			}
			states = append(states, state{
				base.Crash(percent, seed+uint64(len(states)*10+i)), acked,
				fmt.Sprintf("run %d, before operation %d (%d on %s), %d %%", tr.run, len(states)/5, op, name, percent),
			})
		}
	})
	fn(faulty)
	return states
}

// TestCrashAtEveryOperation cuts the power before each change of the disk that a log makes: in its first run, in
// the recovery from a crash, and in the run after it.
func TestCrashAtEveryOperation(t *testing.T) {
	check := func(name string, runs int, tr *trial) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			seed := seedOf(t)
			tr.sent = map[sample.LSN][]string{}
			base := fsx.NewCrashable()
			for tr.run = range runs {
				rng := rand.New(rand.NewPCG(seed, uint64(tr.run)))
				states := tr.crashes(base, seed, func(fsys fsx.FS) {
					j := tr.open(t, fsys)
					tr.work(t, j, rng)
					ok(t, j.Close())
				})
				if len(states) < 50 {
					t.Fatalf("only %d states", len(states))
				}
				for _, s := range states {
					tr.verify(t, state{s.fs.Crash(100, 0), s.acked, s.what})
				}
				// The next run goes on from a state in the middle of this one.
				s := states[len(states)*2/3]
				base, tr.acked = s.fs, s.acked
			}
		})
	}
	check("plain", 4, &trial{options: small(nil), size: 3000})
	check("floor", 4, &trial{options: small(nil), size: 3000, floor: true})
	check("large", 2, &trial{options: journal.Options{SegmentBytes: 1 << 20}, size: 150_000})
	check("process", 3, &trial{options: journal.Options{SegmentBytes: 64 << 10, Sync: journal.Process}, size: 3000})
}

// TestRepeatedTailComesIntoOneSegment starts on a log whose last batch, acknowledged and not vouched for, is
// larger than the segments are to be from now on.
func TestRepeatedTailComesIntoOneSegment(t *testing.T) {
	base := fsx.NewCrashable()
	tr := &trial{options: small(nil), sent: map[sample.LSN][]string{}}
	j := open(t, journal.Options{FS: base, SegmentBytes: 1 << 20})
	for range 20 {
		p := payload(0, j.Last()+1, 20_000)
		lsn, err := j.Append(kind, p)
		ok(t, err)
		tr.sent[lsn] = []string{string(p)}
	}
	ok(t, j.Durable(t.Context(), 20))
	tr.acked = 20
	cut := base.Crash(0, 0)
	ok(t, j.Close())
	states := tr.crashes(cut, 1, func(fsys fsx.FS) { ok(t, tr.open(t, fsys).Close()) })
	if len(states) < 20 {
		t.Fatalf("only %d states", len(states))
	}
	for _, s := range states {
		tr.verify(t, s)
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

func TestNothingIsSyncedAfterAFailure(t *testing.T) {
	// A batch that spans segments, or writes, fails halfway: what came before in the same batch must not be
	// acknowledged by a later sync.
	check := func(o journal.Options, size int, fault fsx.Fault) {
		t.Helper()
		faulty := fsx.NewFaulty(fsx.NewCrashable())
		o.FS = faulty
		j := open(t, o)
		ok(t, j.Durable(t.Context(), appendOne(t, j, 1, 10)))
		faulty.Inject(fault)
		syncs := faulty.Count(fsx.OpSync)
		for range 10 {
			appendOne(t, j, 1, size)
		}
		if err := j.Durable(t.Context(), 2); err == nil {
			t.Error("acknowledged")
		}
		want := 0
		if fault.Op == fsx.OpSync {
			want = 1
		}
		if n := faulty.Count(fsx.OpSync) - syncs; n != want || j.Synced() != 1 {
			t.Errorf("%d syncs, want %d; synced up to %d", n, want, j.Synced())
		}
		_ = j.Close()
	}
	check(small(nil), 20_000, fsx.Fault{Op: fsx.OpSync, Times: 1, Err: syscall.EIO})
	check(small(nil), 20_000, fsx.Fault{Op: fsx.OpSync, Times: 1, Err: syscall.ENOSPC})
	check(journal.Options{SegmentBytes: 4 << 20, FirstSegmentBytes: 4 << 20}, 100_000, fsx.Fault{Op: fsx.OpWrite, After: 1, Times: 1, Err: syscall.EIO})
}
