// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// backfill commits n late rows in random order, a thousand a batch, to series whose newest sample is at n. Each
// time below n comes once.
func backfill(x *bench, refs []sample.Ref, n int) {
	x.tb.Helper()
	var b sample.Batch
	for _, ref := range refs {
		b.AppendFloat(ref, 0, int64(n), 0, 0)
	}
	x.commit(&b, allTimes)
	for at, tm := range rand.New(rand.NewPCG(5, uint64(n))).Perm(n) {
		if at%1000 == 0 {
			b.Reset()
		}
		b.AppendFloat(refs[tm%len(refs)], 0, int64(tm), float64(tm), 0)
		if at%1000 == 999 {
			if _, r := x.commit(&b, allTimes); r.Reason != nil {
				x.tb.Errorf("late rows were not accepted: %v", r.Reason)
			}
		}
	}
}

func TestLateRowsInRandomOrderMoveFewOthers(t *testing.T) {
	const n = 20_000
	account := budget.NewRoot("late", 0)
	x := newBench(t, Options{Shards: 2, SlotMillis: 10 * n, Account: account})
	refs := []sample.Ref{x.series(named(0)), x.series(named(1))}
	backfill(x, refs, n)
	for _, s := range x.h.shards {
		for _, l := range s.late {
			for i, page := range l.pages {
				if len(page.rows) == 0 || len(page.rows) > maxPage {
					t.Errorf("page %d of %d has %d rows", i, len(l.pages), len(page.rows))
				}
			}
			if most := 4 * n / 2 / maxPage; len(l.pages) > most {
				t.Errorf("%d pages for %d rows, want %d at most", len(l.pages), n/2, most)
			}
		}
	}
	p := x.pin()
	for i, ref := range refs {
		b := x.read(p, ref.ID(), math.MinInt64, math.MaxInt64)
		if len(b.T) != n/2+1 {
			t.Fatalf("series %d has %d rows, want %d", i, len(b.T), n/2+1)
		}
		for k, tm := range b.T[:n/2] {
			if tm != int64(2*k+i) || b.V[k] != float64(tm) {
				t.Fatalf("row %d of series %d is %d=%g", k, i, tm, b.V[k])
			}
		}
	}
	p.Close()
	for _, tm := range []int64{0, n / 3, n - 1} {
		if got := x.append(refs[tm%2], tm, float64(tm), 0); got != sample.Same {
			t.Errorf("the row at %d again is %s", tm, got)
		}
		if got := x.append(refs[tm%2], tm, -1, 0); got != sample.Conflict {
			t.Errorf("another value at %d is %s", tm, got)
		}
	}
	flush := x.pin()
	x.h.DropSlot(0, flush.Epoch())
	flush.Close()
	x.h.Reclaim()
	for _, s := range x.h.shards {
		if len(s.late) > 0 {
			t.Errorf("late rows are left after their slot was dropped: %v", s.late)
		}
	}
}

// Late rows of one time, each deleted before the next, stay together whatever becomes of the page.
func TestLateRowsOfOneTimeStayTogether(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	ref := x.series(named(0))
	x.append(ref, 5000, 0, 0)
	for i := range 3 * maxPage {
		if got := x.append(ref, 100, float64(i), 0); got != sample.Accepted {
			t.Fatalf("rewrite %d is %s", i, got)
		}
		x.append(ref, int64(101+i), 1, 0)
		x.seq.Lock()
		x.lsn++
		x.h.Delete([]sample.Ref{ref}, 100, 100, x.lsn)
		x.seq.Unlock()
	}
	if got := x.append(ref, 100, -1, 0); got != sample.Accepted {
		t.Errorf("the last rewrite is %s", got)
	}
	if got := x.append(ref, 100, -1, 0); got != sample.Same {
		t.Errorf("the last rewrite again is %s", got)
	}
	p := x.pin()
	defer p.Close()
	x.want(p, ref, "100=-1 "+text(x.read(p, ref.ID(), 101, math.MaxInt64)))
}

func BenchmarkLateRowsInRandomOrder(b *testing.B) {
	for b.Loop() {
		x := newBench(b, Options{SlotMillis: 1 << 40})
		refs := make([]sample.Ref, 10)
		for i := range refs {
			refs[i] = x.series(named(i))
		}
		backfill(x, refs, 200_000)
	}
}

// While a slot is dropped a pin still sees its rows. One that is written again meanwhile must not be there twice.
func TestLateRowWrittenAgainDuringDropIsReadOnce(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	ref := x.series(named(0))
	x.append(ref, 5000, 0, 0)
	x.append(ref, 100, 1, 0)
	flush := x.pin()
	defer flush.Close()
	before := x.h.drops.Load()
	x.h.DropSlot(0, flush.Epoch())
	x.h.drops.Store(before) // as it is until the last shard is through
	if got := x.append(ref, 100, 2, 0); got != sample.Accepted {
		t.Fatalf("the row in a block again is %s", got)
	}
	p := x.pin()
	defer p.Close()
	x.want(p, ref, "100=1 5000=0")
}

// Times at the ends of the range have no whole slot to be in.
func TestTimesWithoutSlotAreRefused(t *testing.T) {
	check := func(tm int64, want sample.Reason) {
		t.Helper()
		x := newBench(t, Options{Shards: 1})
		ref := x.series(named(0))
		if got := x.h.Check(Row{Ref: ref, T: tm}, allTimes); got != want {
			t.Errorf("the check of time %d says %s, want %s", tm, got, want)
		}
		if got := x.append(ref, tm, 1, 0); got != want {
			t.Errorf("time %d is %s, want %s", tm, got, want)
		}
		for _, slot := range x.h.Slots() {
			if slot.Start > tm || slot.Start+testSlot <= tm {
				t.Errorf("time %d is in the slot at %d", tm, slot.Start)
			}
		}
	}
	check(math.MinInt64, sample.TooOld)
	check(math.MinInt64+testSlot, sample.Accepted)
	check(-1, sample.Accepted)
	check(-testSlot, sample.Accepted)
	check(math.MaxInt64-testSlot, sample.Accepted)
	check(math.MaxInt64, sample.TooNew)
}

// A store that goes on deleting from a series that goes on growing keeps no more of the deletes than matter.
func TestDeletedRangesAreForgottenWithTheirSamples(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	ref := x.series(named(0))
	remove := func(mint, maxt int64) {
		x.seq.Lock()
		x.lsn++
		x.h.Delete([]sample.Ref{ref}, mint, maxt, x.lsn)
		x.seq.Unlock()
	}
	tombs := func() int { return len(x.h.shards[0].tombs[0]) }
	x.append(ref, 1, 1, 0)
	for tm := range int64(100) {
		x.append(ref, 10+tm, 1, 0)
		remove(0, 5+tm)
	}
	if tombs() != 1 {
		t.Errorf("%d ranges are kept where the last one covers all", tombs())
	}
	p := x.pin()
	remove(0, 108)
	if tombs() != 2 {
		t.Errorf("%d ranges are kept, want that of the pin and the last", tombs())
	}
	x.want(p, ref, "105=1 106=1 107=1 108=1 109=1")
	p.Close()
	remove(200, 300) // nothing is there
	x.append(ref, testSlot, 2, 0)
	flush := x.pin()
	x.h.DropSlot(0, flush.Epoch())
	flush.Close()
	x.h.Reclaim()
	if tombs() != 0 {
		t.Errorf("%d ranges are kept whose samples are gone", tombs())
	}
	if got := x.append(ref, 50, 7, 0); got != sample.Accepted {
		t.Errorf("a row in a range that was deleted before is %s", got)
	}
	q := x.pin()
	defer q.Close()
	x.want(q, ref, "50=7 10000=2")
}

// What is on the Go heap for an open chunk grows after its first sample, and all of it is charged.
func TestOpenChunksAreChargedForWhatTheyGrowTo(t *testing.T) {
	account := budget.NewRoot("open", 0)
	x := newBench(t, Options{Shards: 1, Account: account})
	hist, st := x.series(named(0)), x.series(named(1))
	wide := func(n int) *histogram.Histogram {
		h := &histogram.Histogram{Count: uint64(n), Sum: 1, PositiveSpans: []histogram.Span{{Length: uint32(n)}}, PositiveBuckets: make([]int64, n)}
		h.PositiveBuckets[0] = 1
		return h
	}
	appendHist := func(tm int64, n int) {
		var b sample.Batch
		b.AppendHistogram(hist, 0, tm, wide(n), nil, 0)
		if _, r := x.commit(&b, allTimes); r.Reason != nil {
			t.Fatal(r.Reason)
		}
	}
	appendHist(1, 1)
	before := account.Used()
	appendHist(2, 10_000)
	if got := account.Used() - before; got < 16*10_000 {
		t.Errorf("%d bytes were charged when 10,000 buckets came, want the two copies of the encoder", got)
	}
	before = account.Used()
	var b sample.Batch
	for i := range int64(200) {
		b.AppendFloat(st, 1+i*i*i, i, 0, 0)
	}
	x.commit(&b, allTimes)
	if got := account.Used() - before; got < 400 {
		t.Errorf("%d bytes were charged for 200 start timestamps that change", got)
	}
}

// A late row among many closed chunks is compared with a few of them, also after some have gone.
func TestClosedChunksAreFoundInFewSteps(t *testing.T) {
	const slots, perSlot = 12, 100 // chunks
	x := newBench(t, Options{Shards: 1, SlotMillis: perSlot * maxSamples})
	ref := x.series(named(0))
	var b sample.Batch
	for tm := range int64(slots*perSlot*maxSamples + 1) {
		b.AppendFloat(ref, 0, 2*tm, 1, 0) // each slot has half as many
	}
	x.commit(&b, allTimes)
	s := x.h.shards[0]
	check := func(dropped ...int64) {
		t.Helper()
		most := 0
		for link := s.footers.at(0).closed; link != 0; link = s.chunkAt(link).older {
			c, steps := s.chunkAt(link), 0
			if got := s.closedAtLocked(s.footers.at(0), c.mint); got != c {
				t.Fatalf("the chunk from %d to %d is not found", c.mint, c.maxt)
			}
			for at := s.footers.at(0).closed; at != link; steps++ {
				if y := s.chunkAt(at); y.jump != 0 && s.chunkAt(y.jump).maxt >= c.maxt {
					at = y.jump
				} else {
					at = y.older
				}
			}
			most = max(most, steps)
		}
		if n := s.counts.Chunks; most > 60 || n != (2*slots-len(dropped))*perSlot/2 {
			t.Errorf("%d steps to one of %d chunks", most, n)
		}
		for _, slot := range dropped {
			if s.closedAtLocked(s.footers.at(0), slot+2) != nil {
				t.Errorf("a chunk of the slot at %d is found", slot)
			}
		}
	}
	check()
	var dropped []int64
	for _, i := range []int64{0, 7, 1, 23, 12} {
		p := x.pin()
		dropped = append(dropped, i*perSlot*maxSamples)
		x.h.DropSlot(dropped[len(dropped)-1], p.Epoch())
		p.Close()
		check(dropped...)
	}
}

// A drop that finds no memory to keep the rows that came after its block tries again with the next one.
func TestDropWithoutMemoryKeepsRowsOnceAndLeaksNothing(t *testing.T) {
	account := budget.NewRoot("drop", 0)
	x := newBench(t, Options{Shards: 1, Account: account})
	ref := x.series(named(0))
	h := modelHistograms[0]
	add := func(tm int64) {
		var b sample.Batch
		b.AppendHistogram(ref, 0, tm, h.Copy(), nil, 0)
		if _, r := x.commit(&b, allTimes); r.Reason != nil {
			t.Fatal(r.Reason)
		}
	}
	add(1)
	p := x.pin()
	defer p.Close()
	for _, tm := range []int64{2, 3, testSlot} {
		add(tm)
	}
	before, one := account.Used(), histBytes(h, nil)
	account.SetLimit(before + one)
	x.h.DropSlot(0, p.Epoch())
	if got := account.Used(); got != before {
		t.Errorf("%d bytes are charged after a drop that had no memory, %d before it", got, before)
	}
	for i := range int64(2) { // first there is room for one row, then for another one
		account.SetLimit(before + (1+i)*one + 4*lateRowBytes)
		x.h.DropSlot(0, p.Epoch())
	}
	account.SetLimit(0)
	x.h.DropSlot(0, p.Epoch())
	if slots := x.h.Slots(); len(slots) != 2 || slots[0].InOrder != 0 || slots[0].Late != 2 {
		t.Errorf("slots %+v, want two late rows in the first", slots)
	}
	q := x.pin()
	defer q.Close()
	if b := x.read(q, ref.ID(), 0, testSlot); !slices.Equal(b.T, []int64{2, 3, testSlot}) {
		t.Errorf("samples at %v are left", b.T)
	}
}
