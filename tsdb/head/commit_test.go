// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// randomBatch has rows of all kinds, in and out of order, with exemplars and metadata.
func randomBatch(rng *rand.Rand, refs []sample.Ref) *sample.Batch {
	b := &sample.Batch{}
	for range 1 + rng.IntN(60) {
		ref := refs[rng.IntN(len(refs))]
		tm, st := rng.Int64N(3*testSlot), rng.Int64N(3)
		switch rng.IntN(8) {
		case 0:
			b.AppendHistogram(ref, st, tm, modelHistograms[rng.IntN(5)].Copy(), nil, 0)
		case 1:
			b.AppendHistogram(ref, st, tm, nil, modelHistograms[rng.IntN(4)].ToFloat(nil), 0)
		default:
			b.AppendFloat(ref, st, tm, modelFloats[rng.IntN(len(modelFloats))], sample.Flag(rng.IntN(4)))
		}
	}
	for range rng.IntN(3) {
		b.Exemplars = append(b.Exemplars, sample.Exemplar{Ref: refs[rng.IntN(len(refs))], T: rng.Int64N(100), V: 1})
		b.Meta = append(b.Meta, sample.Metadata{Ref: refs[rng.IntN(len(refs))], Type: "gauge", Help: string(rune('a' + rng.IntN(26)))})
	}
	return b
}

// The log of a run with many committers is applied again, by one and by many, and must give the same results and
// the same head, bit for bit.
func TestReplayComesToTheSameResultsAndTheSameHead(t *testing.T) {
	const committers, batches = 4, 60
	x := newBench(t, Options{Shards: 4})
	var refs []sample.Ref
	var names []labels.Labels
	for i := range 20 {
		refs, names = append(refs, x.series(named(i))), append(names, named(i))
	}
	first := x.lsn
	type entry struct {
		batch  *sample.Batch
		result sample.Result
	}
	log := make([]entry, committers*batches)
	lim := Limits{MinT: 0, MaxT: 3*testSlot - 100, MinPush: 500, MinScrape: NoLate}
	var wg sync.WaitGroup
	for c := range committers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(c)))
			for range batches {
				b := randomBatch(rng, refs)
				lsn, r := x.commit(b, lim)
				log[lsn-first-1] = entry{b, r}
			}
		})
	}
	wg.Wait()
	p := x.pin()
	defer p.Close()
	want := snapshotOf(t, x.h, p)

	check := func(appliers int) {
		t.Helper()
		h := New(x.h.opts)
		defer func() { _ = h.Close() }()
		for i, ref := range refs {
			if err := h.Restore(ref, names[i]); err != nil {
				t.Fatal(err)
			}
			h.Skip(sample.LSN(i + 1))
		}
		works := make(chan int, 64)
		prepared := make([]*Work, len(log))
		var wg sync.WaitGroup
		for range appliers {
			wg.Go(func() {
				for i := range works {
					var r sample.Result
					h.Apply(prepared[i], &r)
					if diff := cmp.Diff(log[i].result, r); diff != "" {
						t.Errorf("%d appliers, batch %d: %s", appliers, i, diff)
					}
				}
			})
		}
		for i := range log {
			prepared[i] = h.Prepare(log[i].batch, lim)
			h.Enqueue(prepared[i], first+sample.LSN(i)+1)
			works <- i
		}
		close(works)
		wg.Wait()
		y := &bench{tb: t, h: h, lsn: x.lsn}
		q := y.pin()
		defer q.Close()
		if got := snapshotOf(t, h, q); !slices.Equal(got, want) {
			t.Errorf("%d appliers: the replayed head differs from the first", appliers)
		}
	}
	check(1)
	check(3)
}

func TestReplayStoresOnlyWhatNoBlockHolds(t *testing.T) {
	x := newBench(t, Options{})
	x.h.Flushed(0, 3)
	ref := x.series(named(0)) // LSN 1
	x.append(ref, 100, 1, 0)  // 2: in the block
	x.append(ref, 50, 2, 0)   // 3: late, in the block
	x.append(ref, 200, 3, 0)  // 4
	x.append(ref, 60, 4, 0)   // 5: late
	if got := x.append(ref, 200, 9, 0); got != sample.Conflict {
		t.Errorf("another value at the newest time: %s", got)
	}
	if got := x.append(ref, 150, 9, sample.RejectOutOfOrder); got != sample.OutOfOrder {
		t.Errorf("a row before the newest: %s", got)
	}
	x.append(ref, testSlot, 5, 0)
	p := x.pin()
	defer p.Close()
	x.want(p, ref, "60=4 200=3 10000=5")
}

func TestWorksBecomeVisibleInTheirOrder(t *testing.T) {
	x := newBench(t, Options{})
	a, b := x.series(named(0)), x.series(named(1))
	var first, second sample.Batch
	first.AppendFloat(a, 0, 1, 1, 0)
	second.AppendFloat(b, 0, 1, 1, 0)
	w1, w2 := x.h.Prepare(&first, allTimes), x.h.Prepare(&second, allTimes)
	x.h.Enqueue(w1, 3)
	x.h.Enqueue(w2, 4)
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.h.Apply(w2, nil)
	}()
	select {
	case <-done:
		t.Fatal("the second work was visible before the first was applied")
	case <-time.After(20 * time.Millisecond):
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := x.h.WaitApplied(ctx, 4); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for it: %v", err)
	}
	if got := x.h.Applied(); got != 2 {
		t.Errorf("applied up to %d, want 2", got)
	}
	x.h.Apply(w1, nil)
	<-done
	if got := x.h.Applied(); got != 4 {
		t.Errorf("applied up to %d, want 4", got)
	}
}

func TestCommitDoesNotAllocateOnceWarm(t *testing.T) {
	x := newBench(t, Options{SlotMillis: 1 << 40})
	var b sample.Batch
	refs := make([]sample.Ref, 500)
	for i := range refs {
		refs[i] = x.series(named(i))
	}
	tm := int64(0)
	var r sample.Result
	got := testing.AllocsPerRun(300, func() {
		tm += 1000
		b.Reset()
		for _, ref := range refs {
			b.AppendFloat(ref, 0, tm, 1, 0)
		}
		w := x.h.Prepare(&b, allTimes)
		x.lsn++
		x.h.Enqueue(w, x.lsn)
		x.h.Apply(w, &r)
	})
	// Closing 500 chunks grows tables now and then; no row may cost an allocation.
	if limit := 10.0; got > limit {
		t.Errorf("%.0f allocations for a batch of %d, want at most %.0f", got, len(refs), limit)
	}
}

func TestExemplarsAreJudgedAndKeptPerPin(t *testing.T) {
	x := newBench(t, Options{})
	ref := x.series(named(0))
	commit := func(tm int64, v float64, want int, wantErr error) {
		t.Helper()
		e := sample.Exemplar{Ref: ref, T: tm, V: v, HasT: true, Labels: labels.FromStrings("trace", "a")}
		if err := x.h.CheckExemplar(e); !errors.Is(err, wantErr) {
			t.Errorf("check at %d: %v, want %v", tm, err, wantErr)
		}
		if _, r := x.commit(&sample.Batch{Exemplars: []sample.Exemplar{e}}, allTimes); r.Exemplars != want {
			t.Errorf("at %d: %d stored, want %d", tm, r.Exemplars, want)
		}
	}
	commit(10, 1, 1, nil)
	commit(10, 1, 0, ErrSameExemplar)
	commit(9, 1, 0, ErrExemplarOrder)
	p := x.pin()
	defer p.Close()
	commit(10, 2, 1, nil)
	commit(20, 3, 1, nil)
	now := x.pin()
	defer now.Close()
	check := func(p *Pin, mint, maxt int64, want ...float64) {
		t.Helper()
		var got []float64
		for _, e := range p.Exemplars(ref.ID(), mint, maxt) {
			got = append(got, e.Value)
		}
		if !slices.Equal(got, want) {
			t.Errorf("epoch %d [%d, %d]: %v, want %v", p.Epoch(), mint, maxt, got, want)
		}
	}
	check(p, 0, 100, 1)
	check(now, 0, 100, 1, 2, 3)
	check(now, 11, 20, 3)
	long := sample.Exemplar{Ref: ref, T: 99, Labels: labels.FromStrings("trace", string(make([]byte, 124)))}
	if err := x.h.CheckExemplar(long); !errors.Is(err, ErrExemplarLabels) {
		t.Errorf("129 characters of labels: %v", err)
	}
	if err := x.h.CheckExemplar(sample.Exemplar{Ref: 99}); !errors.Is(err, ErrExemplarSeries) {
		t.Errorf("of no series: %v", err)
	}
	if exemplar.ExemplarMaxLabelSetLength != 128 {
		t.Error("the limit is not the 128 that the message names")
	}
}

func TestOldestExemplarsGoFirst(t *testing.T) {
	x := newBench(t, Options{Shards: 4})
	var refs []sample.Ref
	for i := range 12 {
		refs = append(refs, x.series(named(i)))
	}
	const each = maxExemplars / 8 // 12 eighths in all, so that a third must go
	for k := range each {
		b := &sample.Batch{}
		for _, ref := range refs {
			b.Exemplars = append(b.Exemplars, sample.Exemplar{Ref: ref, T: int64(k), V: float64(k)})
		}
		x.commit(b, allTimes)
	}
	p := x.pin()
	defer p.Close()
	total := 0
	for _, ref := range refs {
		es := p.Exemplars(ref.ID(), 0, math.MaxInt64)
		total += len(es)
		if n := len(es); n == 0 || es[n-1].Ts != each-1 || es[0].Ts != int64(each-n) {
			t.Errorf("series %d kept %d exemplars, not the newest", ref.ID(), n)
		}
	}
	if total != maxExemplars {
		t.Errorf("%d exemplars are kept, want %d", total, maxExemplars)
	}
}

func TestMetadataIsNewestFirstAndOncePerPin(t *testing.T) {
	x := newBench(t, Options{})
	a, b := x.series(named(0)), x.series(named(3)) // both of family m0, in different shards
	commit := func(ref sample.Ref, help string) {
		x.commit(&sample.Batch{Meta: []sample.Metadata{{Ref: ref, Type: "counter", Help: help}}}, allTimes)
	}
	commit(a, "one")
	commit(b, "one")
	p := x.pin()
	defer p.Close()
	commit(b, "two")
	commit(b, "two")
	for _, help := range []string{"three", "four", "five"} {
		commit(b, help)
	}
	now := x.pin()
	defer now.Close()
	check := func(p *Pin, metric string, helps ...string) {
		t.Helper()
		want := map[string][]metadata.Metadata{}
		for _, h := range helps {
			want["m0"] = append(want["m0"], metadata.Metadata{Type: "counter", Help: h})
		}
		if diff := cmp.Diff(want, p.Metadata(metric)); diff != "" {
			t.Errorf("epoch %d: %s", p.Epoch(), diff)
		}
	}
	check(now, "", "five", "four", "three", "two", "one")
	check(now, "m0", "five", "four", "three", "two", "one")
	check(now, "m1")
	check(p, "", "one")
}

func TestMetadataIsOfTheFamilyOfItsSeries(t *testing.T) {
	x := newBench(t, Options{})
	for _, name := range []string{"h_bucket", "h_sum", "h_count"} {
		ref := x.series(labels.FromStrings(labels.MetricName, name))
		x.commit(&sample.Batch{Meta: []sample.Metadata{{Ref: ref, Type: "histogram", Help: "help"}}}, allTimes)
	}
	p := x.pin()
	defer p.Close()
	want := map[string][]metadata.Metadata{"h": {{Type: "histogram", Help: "help"}}}
	for _, metric := range []string{"", "h"} {
		if diff := cmp.Diff(want, p.Metadata(metric)); diff != "" {
			t.Error(diff)
		}
	}
}
