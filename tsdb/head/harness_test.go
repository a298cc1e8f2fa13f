// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const testSlot = 10_000 // ms

// allTimes are limits that reject nothing by time.
var allTimes = Limits{MinT: math.MinInt64, MaxT: math.MaxInt64, MinPush: math.MinInt64, MinScrape: math.MinInt64}

// failer is what a testing.TB and a *rapid.T have in common.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

// bench stands in for the store: it has the sequencer.
type bench struct {
	tb  failer
	h   *Head
	seq sync.Mutex
	lsn sample.LSN

	scratch column.Block
}

func newBench(tb testing.TB, o Options) *bench {
	tb.Helper()
	if o.SlotMillis == 0 {
		o.SlotMillis = testSlot
	}
	x := &bench{tb: tb, h: New(o)}
	tb.Cleanup(func() {
		if err := x.h.Close(); err != nil {
			tb.Error(err)
		}
	})
	return x
}

// series gets or creates a series.
func (x *bench) series(ls labels.Labels) sample.Ref {
	x.tb.Helper()
	x.seq.Lock()
	defer x.seq.Unlock()
	if ref, ok := x.h.Lookup(ls); ok {
		return ref
	}
	ref, err := x.h.Reserve(ls)
	if err != nil {
		x.tb.Fatal(err)
	}
	x.lsn++
	if err := x.h.Publish(ref, x.lsn); err != nil {
		x.tb.Fatal(err)
	}
	x.h.Skip(x.lsn)
	return ref
}

// named returns the labels of the i-th test series.
func named(i int) labels.Labels {
	return labels.FromStrings(labels.MetricName, fmt.Sprintf("m%d", i%3), "i", fmt.Sprint(i))
}

func (x *bench) commit(b *sample.Batch, lim Limits) (sample.LSN, sample.Result) {
	w := x.h.Prepare(b, lim)
	x.seq.Lock()
	x.lsn++
	lsn := x.lsn
	x.h.Enqueue(w, lsn)
	x.seq.Unlock()
	var r sample.Result
	x.h.Apply(w, &r)
	return lsn, r
}

// append commits one float and returns its fate.
func (x *bench) append(ref sample.Ref, t int64, v float64, flags sample.Flag) sample.Reason {
	var b sample.Batch
	b.AppendFloat(ref, 0, t, v, flags)
	_, r := x.commit(&b, allTimes)
	return r.At(0)
}

func (x *bench) pin() *Pin {
	x.tb.Helper()
	x.seq.Lock()
	p := x.h.Pin()
	x.seq.Unlock()
	if err := x.h.WaitApplied(context.Background(), p.Epoch()); err != nil {
		x.tb.Fatal(err)
	}
	return p
}

// read returns the samples of a series at a pin.
func (x *bench) read(p *Pin, id uint32, mint, maxt int64) *column.Block {
	x.tb.Helper()
	b := &column.Block{}
	b.Reset()
	if err := p.Read(id, mint, maxt, true, b); err != nil {
		x.tb.Fatal(err)
	}
	b.EndSeries()
	return b
}

// slotSeries returns the series of which a pin sees samples in a slot, in label order.
func (x *bench) slotSeries(p *Pin, slot int64) []uint32 {
	x.tb.Helper()
	ids, err := p.Select(budget.NewTask(context.Background(), nil), nil)
	if err != nil {
		x.tb.Fatal(err)
	}
	ids = slices.DeleteFunc(ids, func(id uint32) bool { return len(x.read(p, id, slot, x.h.slotEnd(slot)).T) == 0 })
	slices.SortFunc(ids, func(a, b uint32) int { return labels.Compare(x.labelsOf(p, a), x.labelsOf(p, b)) })
	return ids
}

func (x *bench) labelsOf(p *Pin, id uint32) labels.Labels {
	var lb labels.ScratchBuilder
	pairs := p.head.dir.pairs(id, nil)
	for i := 0; i+1 < len(pairs); i += 2 {
		lb.Add(x.h.Index().Symbol(pairs[i]), x.h.Index().Symbol(pairs[i+1]))
	}
	return lb.Labels()
}

// text writes floats as t=v t=v.
func text(b *column.Block) string {
	out := ""
	for i, t := range b.T {
		if i > 0 {
			out += " "
		}
		switch b.KindAt(i) {
		case sample.Float:
			out += fmt.Sprintf("%d=%g", t, b.V[i])
		case sample.Histogram:
			out += fmt.Sprintf("%d=%s", t, b.H.Int[i])
		default:
			out += fmt.Sprintf("%d=%s", t, b.H.Float[i])
		}
	}
	return out
}

func (x *bench) want(p *Pin, ref sample.Ref, want string) {
	x.tb.Helper()
	if got := text(x.read(p, ref.ID(), math.MinInt64, math.MaxInt64)); got != want {
		x.tb.Errorf("epoch %d: series %d is\n%s\nwant\n%s", p.Epoch(), ref.ID(), got, want)
	}
}
