// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// blocks stands in for the block files: what was flushed, by label text and time.
type blocks struct {
	mu   sync.Mutex
	rows map[string]map[int64]float64
}

func (f *blocks) take(t *testing.T, x *bench, p *Pin, slot int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range x.slotSeries(p, slot) {
		name := x.labelsOf(p, id).String()
		b := &column.Block{}
		b.Reset()
		if err := p.Read(id, slot, x.h.slotEnd(slot), false, b); err != nil {
			t.Error(err)
		}
		if f.rows[name] == nil {
			f.rows[name] = map[int64]float64{}
		}
		for i, tm := range b.T {
			if have, ok := f.rows[name][tm]; ok {
				t.Errorf("%s at %d was flushed twice, %g and %g", name, tm, have, b.V[i])
			}
			f.rows[name][tm] = b.V[i]
		}
	}
}

// Committers write, late and in order, while slots are flushed, idle series leave and come again with the same
// labels, and pins come and go. At the end every accepted sample must be in a block or in the head, once.
func TestNoAcceptedSampleIsLostUnderChurn(t *testing.T) {
	const committers, batches, names, stepsPerRound = 4, 1000, 24, 30
	x := newBench(t, Options{Shards: 4, SlotMillis: 40})
	flushed := &blocks{rows: map[string]map[int64]float64{}}
	accepted := make([]map[string]map[int64]float64, committers)
	var running, left, rounds, steps atomic.Int64
	var wg sync.WaitGroup
	for c := range committers {
		running.Add(1)
		accepted[c] = map[string]map[int64]float64{}
		wg.Go(func() {
			defer running.Add(-1)
			rng := rand.New(rand.NewPCG(11, uint64(c)))
			refs := map[int]sample.Ref{}
			for step := range batches {
				for int64(step)/stepsPerRound > rounds.Load()+1 { // or the slots pile up
					runtime.Gosched()
				}
				steps.Add(1)
				var b sample.Batch
				var who []int
				for range 8 {
					// Each committer has its own series, of which it leaves most alone for two rounds of churn in six.
					i := c + committers*rng.IntN(1+names*int(rounds.Load()/3%3)/2)
					if _, ok := refs[i]; !ok {
						refs[i] = x.series(named(i))
					}
					tm := int64(step*2) - int64(rng.IntN(3))*int64(rng.IntN(30))
					b.AppendFloat(refs[i], 0, tm, float64(rng.Uint32()), 0)
					who = append(who, i)
				}
				_, r := x.commit(&b, allTimes)
				for k, i := range who {
					if r.At(k) == sample.StaleRef {
						delete(refs, i)
						left.Add(1)
					}
					if r.At(k) == sample.Accepted {
						name := named(i).String()
						if accepted[c][name] == nil {
							accepted[c][name] = map[int64]float64{}
						}
						if _, ok := accepted[c][name][b.T[k]]; !ok { // a block's value stays
							accepted[c][name][b.T[k]] = b.V[k]
						}
					}
				}
			}
		})
	}
	wg.Go(func() {
		for running.Load() > 0 {
			if steps.Load() >= committers*stepsPerRound*rounds.Load() {
				churn(t, x, flushed)
				rounds.Add(1)
			}
			runtime.Gosched()
		}
	})
	wg.Go(func() {
		for running.Load() > 0 {
			p := x.pin()
			ids, err := p.Select(budget.NewTask(context.Background(), nil), []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "m1")})
			if err != nil {
				t.Error(err)
			}
			b := &column.Block{}
			b.Reset()
			if err := p.ReadMany(ids, math.MinInt64, math.MaxInt64, false, b, nil); err != nil {
				t.Error(err)
			}
			p.Close()
		}
	})
	wg.Wait()
	p := x.pin()
	defer p.Close()
	for _, slot := range x.h.Slots() {
		flushed.takeRest(t, x, p, slot.Start)
	}
	for _, of := range accepted {
		for name, rows := range of {
			for tm, v := range rows {
				if got, ok := flushed.rows[name][tm]; !ok || got != v {
					t.Errorf("%s at %d: %g was accepted, %g (%t) is stored", name, tm, v, got, ok)
				}
			}
		}
	}
	if left.Load() == 0 {
		t.Error("no series left while it was written to: the test tests nothing")
	}
}

// takeRest is take for what is in the head at the end, where a late sample may repeat the time of one in a block.
func (f *blocks) takeRest(t *testing.T, x *bench, p *Pin, slot int64) {
	rest := &blocks{rows: map[string]map[int64]float64{}}
	rest.take(t, x, p, slot)
	for name, rows := range rest.rows {
		if f.rows[name] == nil {
			f.rows[name] = map[int64]float64{}
		}
		for tm, v := range rows {
			if _, ok := f.rows[name][tm]; !ok {
				f.rows[name][tm] = v
			}
		}
	}
}

// churn flushes all slots but the last and lets idle series go.
func churn(t *testing.T, x *bench, flushed *blocks) {
	for slots := x.h.Slots(); len(slots) > 1; slots = slots[1:] {
		p := x.pin()
		flushed.takeRest(t, x, p, slots[0].Start)
		x.h.DropSlot(slots[0].Start, p.Epoch())
		p.Close()
	}
	refs := x.h.Idle(math.MaxInt64)
	x.seq.Lock()
	defer x.seq.Unlock()
	refs, err := x.h.StillIdle(context.Background(), refs)
	if err != nil {
		t.Error(err)
	}
	if len(refs) > 0 {
		x.lsn++
		x.h.Free(refs, x.lsn)
	}
}
