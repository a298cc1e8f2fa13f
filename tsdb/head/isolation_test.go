// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Each batch writes one value to all series, so at any pin all series end with the same one: x - x == 0. Eight
// pins at different epochs are open at any time, slots are dropped meanwhile, and each pin must go on seeing what
// it saw first.
func TestEachPinSeesWholeBatchesAndAlwaysTheSame(t *testing.T) {
	const series, committers, batches, pinsOpen = 64, 4, 150, 8
	x := newBench(t, Options{Shards: 8, SlotMillis: 50})
	refs := make([]sample.Ref, series)
	for i := range refs {
		refs[i] = x.series(named(i))
	}
	var clock atomic.Int64
	var wg sync.WaitGroup
	running := atomic.Int64{}
	for c := range committers {
		running.Add(1)
		wg.Go(func() {
			defer running.Add(-1)
			rng := rand.New(rand.NewPCG(1, uint64(c)))
			for range batches {
				var b sample.Batch
				order := rng.Perm(series)
				w := x.h.Prepare(&b, allTimes)
				w.Discard()
				x.seq.Lock()
				// The time is that of the place in the order, so that no batch is late.
				tm := clock.Add(1)
				for _, i := range order {
					b.AppendFloat(refs[i], 0, tm, float64(tm), 0)
				}
				w = x.h.Prepare(&b, allTimes)
				x.lsn++
				x.h.Enqueue(w, x.lsn)
				x.seq.Unlock()
				var r sample.Result
				x.h.Apply(w, &r)
				if r.Reason != nil {
					t.Errorf("batch at %d: %v", tm, r.Reason)
				}
			}
		})
	}
	for reader := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(reader)))
			var open []*heldPin
			for running.Load() > 0 {
				open = append(open, holdPin(t, x, refs))
				for _, p := range open {
					p.check(t, refs)
				}
				if len(open) == pinsOpen/2 {
					i := rng.IntN(len(open))
					open[i].pin.Close()
					open[i] = open[len(open)-1]
					open = open[:len(open)-1]
				}
			}
			for _, p := range open {
				p.check(t, refs)
				p.pin.Close()
			}
		})
	}
	wg.Go(func() {
		for running.Load() > 0 {
			if slots := x.h.Slots(); len(slots) > 1 {
				p := x.pin()
				x.h.DropSlot(slots[0].Start, p.Epoch())
				p.Close()
			}
		}
	})
	wg.Wait()
	if st := x.h.Stats(); st.Pins != 0 || st.Samples[sample.Float] != series*committers*batches {
		t.Errorf("%d pins are open, %d samples stored", st.Pins, st.Samples[sample.Float])
	}
}

// heldPin is a pin with what it saw at first: how many samples, and their sum.
type heldPin struct {
	pin  *Pin
	n    int
	sum  float64
	last float64
}

func holdPin(t *testing.T, x *bench, refs []sample.Ref) *heldPin {
	p := &heldPin{pin: x.pin(), n: -1}
	p.check(t, refs)
	return p
}

func (p *heldPin) check(t *testing.T, refs []sample.Ref) {
	t.Helper()
	ids := make([]uint32, len(refs))
	for i, r := range refs {
		ids[i] = r.ID()
	}
	b := &column.Block{}
	b.Reset()
	if err := p.pin.ReadMany(ids, math.MinInt64, math.MaxInt64, false, b, func(int) error { b.EndSeries(); return nil }); err != nil {
		t.Error(err)
		return
	}
	for i := range ids {
		from, to := b.Rows(i)
		sum, last := 0.0, 0.0
		for _, v := range b.V[from:to] {
			sum, last = sum+v, v
		}
		if p.n < 0 {
			p.n, p.sum, p.last = to-from, sum, last
		}
		if to-from != p.n || sum-p.sum != 0 || last-p.last != 0 {
			t.Errorf("epoch %d: series %d has %d samples of sum %g up to %g, at first or in another series %d of %g up to %g",
				p.pin.Epoch(), ids[i], to-from, sum, last, p.n, p.sum, p.last)
			return
		}
	}
}

const manyVersions = 4 * pageVersions

func TestVersionRingForgetsWhatNoPinNeedsAndThenItsMemory(t *testing.T) {
	account := budget.NewRoot("head", 0)
	r := versions{arena: arena.New(arena.Options{Account: account, KeepIdle: 1})}
	link := uint64(0)
	for i := range 3 * manyVersions {
		link = r.push(version{id: uint32(i % 7), from: sample.LSN(i), to: sample.LSN(i + 1)})
	}
	if v := r.get(link, uint32((3*manyVersions-1)%7)); v == nil || v.to != 3*manyVersions {
		t.Errorf("the newest version is %+v", v)
	}
	if v := r.get(link, 100); v != nil {
		t.Errorf("a version of another series: %+v", v)
	}
	r.forget(2 * manyVersions) // a pin at this epoch needs those that end after it
	if n := r.next - r.front; n != manyVersions || r.get(1, 0) != nil || r.get(0, 0) != nil {
		t.Errorf("%d versions are left, want %d", n, manyVersions)
	}
	r.forget(math.MaxUint64)
	if r.next != r.front || len(r.pages) != 0 || account.Used() > 64<<10 {
		t.Errorf("%d versions and %d bytes are left", r.next-r.front, account.Used())
	}
}

// A pin that stays open while others come and go must not keep what those saw.
func TestVersionsOfShortPinsGoWhileALongOneStays(t *testing.T) {
	const series, rounds = 100, 400
	x := newBench(t, Options{Shards: 1})
	refs := make([]sample.Ref, series)
	for i := range refs {
		refs[i] = x.series(named(i))
	}
	commit := func(tm int64) {
		var b sample.Batch
		for _, ref := range refs {
			b.AppendFloat(ref, 0, tm, float64(tm), 0)
		}
		x.commit(&b, allTimes)
	}
	commit(0)
	held := []*heldPin{holdPin(t, x, refs)}
	for tm := range int64(rounds) {
		short := holdPin(t, x, refs)
		commit(10 * (tm + 1))
		short.check(t, refs)
		if tm%(rounds/4) == 7 {
			held = append(held, short)
			continue
		}
		short.pin.Close()
	}
	for _, p := range held {
		p.check(t, refs)
	}
	if got, most := x.h.shards[0].versions.room, 32*series; got > most {
		t.Errorf("%d pins of %d series keep room for %d versions, want %d at most", len(held), series, got, most)
	}
	held[0].pin.Close() // the oldest first, then the others out of order
	commit(10 * (rounds + 1))
	for _, i := range []int{3, 1, 4, 2} {
		held[i].check(t, refs)
		held[i].pin.Close()
	}
	commit(10 * (rounds + 2))
	if st := x.h.Stats(); st.Versions != 0 || st.Pins != 0 {
		t.Errorf("%d versions are left for %d pins", st.Versions, st.Pins)
	}
}
