// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestPinsAtDifferentEpochsSeeTheirOwnState(t *testing.T) {
	x := newBench(t, Options{})
	ref := x.series(named(0))
	p0 := x.pin()
	x.append(ref, 1, 1, 0)
	p1 := x.pin()
	x.append(ref, 20_001, 2, 0) // closes the chunk
	x.append(ref, 5, 1.5, 0)    // late
	p2 := x.pin()
	x.append(ref, 20_002, 3, 0)
	p3 := x.pin()
	x.append(ref, 20_003, 4, 0)
	for range 2 { // once more after others are closed
		x.want(p0, ref, "")
		x.want(p1, ref, "1=1")
		x.want(p2, ref, "1=1 5=1.5 20001=2")
		x.want(p3, ref, "1=1 5=1.5 20001=2 20002=3")
	}
	p1.Close()
	x.append(ref, 20_004, 5, 0)
	x.want(p0, ref, "")
	x.want(p2, ref, "1=1 5=1.5 20001=2")
	p0.Close()
	p2.Close()
	p3.Close()
	x.append(ref, 20_005, 6, 0)
	if st := x.h.Stats(); st.Versions != 0 || st.Pins != 0 {
		t.Errorf("%d versions and %d pins are left", st.Versions, st.Pins)
	}
}

func TestRowsAreJudgedAsTheStoreSays(t *testing.T) {
	x := newBench(t, Options{})
	ref := x.series(named(0))
	lim := Limits{MinT: -50, MaxT: 1000, MinPush: 20, MinScrape: NoLate}
	check := func(tm int64, v float64, flags sample.Flag, want sample.Reason) {
		t.Helper()
		row := Row{Ref: ref, T: tm, V: v, Flags: flags}
		if got := x.h.Check(row, lim); got != want {
			t.Errorf("check t=%d: %s, want %s", tm, got, want)
		}
		var b sample.Batch
		b.AppendFloat(ref, 0, tm, v, flags)
		_, r := x.commit(&b, lim)
		if r.At(0) != want {
			t.Errorf("t=%d: %s, want %s", tm, r.At(0), want)
		}
	}
	check(-51, 1, 0, sample.TooOld)
	check(1001, 1, 0, sample.TooNew)
	check(100, 1, 0, sample.Accepted)
	check(100, 1, 0, sample.Same)
	check(100, 2, 0, sample.Conflict)
	check(50, 3, sample.RejectOutOfOrder, sample.OutOfOrder)
	check(50, 3, sample.Scraped, sample.OutOfOrder)
	check(19, 3, 0, sample.TooOld)
	check(20, 3, 0, sample.Accepted)
	check(20, 3, 0, sample.Same)
	check(20, 4, 0, sample.Conflict)
	check(-51, 1, sample.Scraped, sample.TooOld)
	check(101, 1, 0, sample.Accepted)
	check(100, 1, 0, sample.Same) // in the open chunk
	lim.MinScrape = 90
	check(95, 1, sample.Scraped, sample.Accepted)
	check(89, 1, sample.Scraped, sample.TooOld)
	p := x.pin()
	defer p.Close()
	x.want(p, ref, "20=3 95=1 100=1 101=1")
}

func TestValuesComeBackBitForBit(t *testing.T) {
	x := newBench(t, Options{})
	ref := x.series(named(0))
	var b sample.Batch
	for i, v := range modelFloats {
		b.AppendFloat(ref, int64(i%3), int64(10*i), v, 0)
		b.AppendFloat(ref, 0, int64(10*i-5), v, 0) // late but for the first
	}
	for i, h := range modelHistograms[:4] {
		b.AppendHistogram(ref, 7, int64(1000+10*i), h.Copy(), nil, 0)
		b.AppendHistogram(ref, 7, int64(900+10*i), nil, h.ToFloat(nil), 0)
	}
	if _, r := x.commit(&b, allTimes); r.Reason != nil {
		t.Fatalf("reasons %v", r.Reason)
	}
	p := x.pin()
	defer p.Close()
	got := x.read(p, ref.ID(), math.MinInt64, math.MaxInt64)
	if len(got.T) != b.Len() {
		t.Fatalf("%d samples came back, %d were stored", len(got.T), b.Len())
	}
	for i, tm := range got.T {
		k := slices.Index(b.T, tm)
		want := valueText(b.V[k], b.H[k], b.FH[k])
		var h *histogram.Histogram
		var fh *histogram.FloatHistogram
		if got.KindAt(i) != sample.Float {
			h, fh = got.H.Int[i], got.H.Float[i]
		}
		if have := valueText(got.V[i], h, fh); have != want || got.STAt(i) != b.STAt(k) {
			t.Errorf("t=%d: %s from %d, want %s from %d", tm, have, got.STAt(i), want, b.STAt(k))
		}
	}
	// A range cuts exactly, with start timestamps and without.
	for _, st := range []bool{false, true} {
		part := &column.Block{}
		part.Reset()
		if err := p.Read(ref.ID(), 15, 905, st, part); err != nil {
			t.Fatal(err)
		}
		if n := len(part.T); part.T[0] != 15 || part.T[n-1] != 900 || n != 15 {
			t.Errorf("[15, 905] with st=%t: %v", st, part.T)
		}
	}
}

func TestFloatStaleMarkerBecomesThatOfItsSeries(t *testing.T) {
	x := newBench(t, Options{})
	check := func(i int, h *histogram.Histogram, fh *histogram.FloatHistogram, want sample.Kind) {
		t.Helper()
		ref := x.series(named(i))
		var b sample.Batch
		if h == nil && fh == nil {
			b.AppendFloat(ref, 0, 1, 1, 0)
		} else {
			b.AppendHistogram(ref, 0, 1, h, fh, 0)
		}
		b.AppendFloat(ref, 0, 2, math.Float64frombits(value.StaleNaN), sample.RejectOutOfOrder)
		b.AppendFloat(ref, 0, 2, math.Float64frombits(value.StaleNaN), sample.RejectOutOfOrder)
		_, r := x.commit(&b, allTimes)
		if r.At(0) != sample.Accepted || r.At(1) != sample.Accepted || r.At(2) != sample.Same {
			t.Fatalf("reasons %v", r.Reason)
		}
		p := x.pin()
		defer p.Close()
		got := x.read(p, ref.ID(), 2, 2)
		if len(got.T) != 1 || got.KindAt(0) != want || got.Shape[0]&column.HasStale == 0 {
			t.Errorf("kind %d shape %b, want a stale marker of kind %d", got.KindAt(0), got.Shape[0], want)
		}
	}
	check(0, nil, nil, sample.Float)
	check(1, modelHistograms[0], nil, sample.Histogram)
	check(2, nil, modelHistograms[0].ToFloat(nil), sample.FloatHistogram)
}

// A sample that comes between the choice of the series that go and their going must keep its series; one that
// comes after is told that its Ref is stale, and finds the next generation by the labels.
func TestNoSampleIsLostToSeriesThatLeave(t *testing.T) {
	x := newBench(t, Options{})
	busy, idle := x.series(named(0)), x.series(named(1))
	x.append(busy, 1, 1, 0)
	x.append(idle, 1, 1, 0)
	p := x.pin()
	x.h.DropSlot(0, p.Epoch())
	p.Close()
	refs := x.h.Idle(100)
	if len(refs) != 2 {
		t.Fatalf("idle are %v, want both", refs)
	}
	x.append(busy, 2, 2, 0)
	x.seq.Lock()
	refs, err := x.h.StillIdle(t.Context(), refs)
	if err != nil || len(refs) != 1 || refs[0] != idle {
		t.Fatalf("still idle are %v (%v), want %v", refs, err, idle)
	}
	x.lsn++
	x.h.Free(refs, x.lsn)
	x.seq.Unlock()
	if got := x.append(busy, 3, 3, 0); got != sample.Accepted {
		t.Errorf("the busy series: %s", got)
	}
	if got := x.append(idle, 3, 3, 0); got != sample.StaleRef || x.h.Live(idle) {
		t.Errorf("the idle series: %s, live %t", got, x.h.Live(idle))
	}
	if got := x.append(sample.MakeRef(1, 1<<30), 3, 3, 0); got != sample.StaleRef {
		t.Errorf("a series that never was: %s", got)
	}
	x.h.Reclaim()
	again := x.series(named(1))
	if again.ID() != idle.ID() || again.Generation() != idle.Generation()+1 {
		t.Errorf("the id was given again as %#x after %#x", uint64(again), uint64(idle))
	}
	if got := x.append(idle, 4, 4, 0); got != sample.StaleRef {
		t.Errorf("the old Ref of an id in use: %s", got)
	}
	if got := x.append(again, 4, 4, 0); got != sample.Accepted {
		t.Errorf("the new Ref: %s", got)
	}
}

func TestSeriesWithoutSamplesLeaveAtTheSecondLook(t *testing.T) {
	x := newBench(t, Options{})
	x.series(named(0))
	if refs := x.h.Idle(math.MaxInt64); len(refs) != 0 {
		t.Errorf("%v are idle though just made", refs)
	}
	if refs := x.h.Idle(math.MaxInt64); len(refs) != 1 {
		t.Errorf("%v are idle, want the one series", refs)
	}
}

// Pods come and go: a series that says that it has ended leaves as soon as its samples are in a block, one that is only
// silent waits, since its next sample may be late.
func TestSeriesThatEndedLeaveBeforeThoseThatAreSilent(t *testing.T) {
	x := newBench(t, Options{})
	stale := math.Float64frombits(value.StaleNaN)
	ended, silent, histograms := x.series(named(0)), x.series(named(1)), x.series(named(2))
	x.append(ended, 1, 1, 0)
	x.append(ended, 2, stale, 0)
	x.append(silent, 2, 2, 0)
	var b sample.Batch
	b.AppendHistogram(histograms, 0, 1, modelHistograms[0].Copy(), nil, 0)
	x.commit(&b, allTimes)
	x.append(histograms, 2, stale, 0)
	if refs := x.h.Idle(2); len(refs) != 0 {
		t.Errorf("%v are idle and hold samples", refs)
	}
	p := x.pin()
	x.h.DropSlot(0, p.Epoch())
	p.Close()
	got := x.h.Idle(2)
	slices.Sort(got)
	want := []sample.Ref{ended, histograms}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("idle are %v, want %v", got, want)
	}
}

func TestFullBudgetRefusesSeriesThenSamplesAndLosesNothing(t *testing.T) {
	account := budget.NewRoot("head", 3<<20)
	x := newBench(t, Options{Account: account, Shards: 2})
	var refs []sample.Ref
	var refused error
	for i := 0; refused == nil; i++ {
		if i > 1<<20 {
			t.Fatal("a million series fit into 3 MiB")
		}
		ref, err := x.h.Reserve(named(i))
		if err != nil {
			refused = err
			break
		}
		x.lsn++
		refused = x.h.Publish(ref, x.lsn)
		x.h.Skip(x.lsn)
		if refused == nil {
			refs = append(refs, ref)
		}
	}
	if _, ok := errors.AsType[*budget.ExceededError](refused); !ok {
		t.Fatalf("refused with %v", refused)
	}
	account.SetLimit(account.Used() + 64<<10)
	stored := make([]int, len(refs))
	full := false
	for tm := int64(1); tm < 200 && !full; tm++ {
		var b sample.Batch
		for _, ref := range refs {
			b.AppendFloat(ref, 0, tm, float64(tm)*math.Pi, 0)
		}
		_, r := x.commit(&b, allTimes)
		for i := range refs {
			switch r.At(i) {
			case sample.Accepted:
				stored[i]++
			case sample.OverLimit:
				full = true
			default:
				t.Fatalf("row %d: %s", i, r.At(i))
			}
		}
	}
	if !full {
		t.Fatal("the budget was never full")
	}
	p := x.pin()
	for i, ref := range refs {
		if n := len(x.read(p, ref.ID(), 0, math.MaxInt64).T); n != stored[i] {
			t.Fatalf("series %d has %d samples, %d were accepted", i, n, stored[i])
		}
	}
	p.Close()
	if _, ok := x.h.Lookup(named(0)); !ok {
		t.Error("a known series is not found any more")
	}
	account.SetLimit(0)
	if got := x.append(refs[0], 1000, 1, 0); got != sample.Accepted {
		t.Errorf("after the budget was raised: %s", got)
	}
}

func TestCloseGivesBackAllThatWasCharged(t *testing.T) {
	account := budget.NewRoot("head", 0)
	h := New(Options{Account: account, SlotMillis: testSlot})
	x := &bench{tb: t, h: h}
	for i := range 50 {
		ref := x.series(named(i))
		var b sample.Batch
		for k := range 10 {
			b.AppendFloat(ref, 1, int64(1000*k), float64(k), 0)
			b.AppendFloat(ref, 1, int64(1000*k-500), float64(k), 0)
			b.AppendHistogram(ref, 0, int64(1000*k+1), modelHistograms[0].Copy(), nil, 0)
		}
		b.Exemplars = []sample.Exemplar{{Ref: ref, T: 1, V: 1, Labels: labels.FromStrings("trace", "x")}}
		b.Meta = []sample.Metadata{{Ref: ref, Type: "counter", Help: "help"}}
		x.commit(&b, allTimes)
	}
	if account.Used() == 0 {
		t.Fatal("nothing was charged")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if n := account.Used(); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
}

// A series that was logged but could not be published for lack of memory is in the log, and so are the next users
// of its id and of its labels.
func TestRestoreReplacesSeriesThatWereNeverPublished(t *testing.T) {
	x := newBench(t, Options{})
	restore := func(ref sample.Ref, i int) {
		t.Helper()
		if err := x.h.Restore(ref, named(i)); err != nil {
			t.Error(err)
		}
		x.lsn++
		x.h.Skip(x.lsn)
		if got, ok := x.h.Lookup(named(i)); !ok || got != ref {
			t.Errorf("%s is %#x (%t), want %#x", named(i), uint64(got), ok, uint64(ref))
		}
	}
	restore(sample.MakeRef(1, 5), 0)
	restore(sample.MakeRef(2, 5), 1) // the id again
	restore(sample.MakeRef(1, 7), 1) // the labels again
	restore(sample.MakeRef(1, 7), 1) // from a checkpoint
	if _, ok := x.h.Lookup(named(0)); ok || x.h.Stats().Series != 1 {
		t.Errorf("%d series are left, want the last", x.h.Stats().Series)
	}
	if err := x.h.Restore(sample.MakeRef(1, 5), named(9)); err != nil || x.h.Live(sample.MakeRef(1, 5)) {
		t.Errorf("an old generation of an id: %v, live %t", err, x.h.Live(sample.MakeRef(1, 5)))
	}
	if ref := x.series(named(3)); ref.Generation() == 0 || ref.ID() == 7 {
		t.Errorf("a new series got %#x", uint64(ref))
	}
}

func TestHistogramsAreStoredUpToTheirLimitAndNoLarger(t *testing.T) {
	x := newBench(t, Options{})
	of := func(buckets int) *histogram.Histogram {
		h := &histogram.Histogram{Schema: 8, Sum: 1, PositiveSpans: []histogram.Span{{Length: uint32(buckets)}}}
		for i := range buckets {
			h.PositiveBuckets = append(h.PositiveBuckets, int64(1-i%2*2)*(1<<40))
			if i%2 == 0 {
				h.Count += 1 << 40
			}
		}
		return h
	}
	check := func(i, buckets int, want sample.Reason) {
		t.Helper()
		ref := x.series(named(i))
		for tm := range int64(3) { // the second closes the chunk of the first
			var b sample.Batch
			b.AppendHistogram(ref, 0, tm, of(buckets), nil, 0)
			if _, r := x.commit(&b, allTimes); r.At(0) != want {
				t.Fatalf("%d buckets at %d: %s, want %s", buckets, tm, r.At(0), want)
			}
		}
		p := x.pin()
		defer p.Close()
		if n := len(x.read(p, ref.ID(), 0, 9).T); n != 3 && want == sample.Accepted {
			t.Errorf("%d buckets: %d samples came back", buckets, n)
		}
	}
	check(0, 32_000, sample.Accepted)
	check(1, 33_000, sample.Invalid)
}
