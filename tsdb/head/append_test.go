// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// twoWays is a head whose rows of floats go the short way, and one where each goes the long way.
type twoWays struct {
	short, long *bench
	refs        []sample.Ref
}

func newTwoWays(t *testing.T, series int) *twoWays {
	o := Options{Shards: 2, SlotMillis: 1 << 22}
	x := &twoWays{short: newBench(t, o), long: newBench(t, o)}
	for i := range series {
		ls := labels.FromStrings(labels.MetricName, "m", "i", fmt.Sprint(i))
		x.refs = append(x.refs, x.short.series(ls))
		if ref := x.long.series(ls); ref != x.refs[i] {
			t.Fatalf("series %d is %d in one head and %d in the other", i, x.refs[i], ref)
		}
	}
	return x
}

// commit gives both the same rows. A column of kinds is what makes the long way.
func (x *twoWays) commit(b *sample.Batch, lim Limits) {
	x.short.commit(b, lim)
	kinds := *b
	kinds.Kind = make([]sample.Kind, b.Len())
	x.long.commit(&kinds, lim)
}

// check fails unless pins of both heads see the same, and the heads are the same to the last byte of their checkpoints.
func (x *twoWays) check(t *testing.T, short, long *Pin) {
	t.Helper()
	for _, ref := range x.refs {
		got := blockText(x.short.read(short, ref.ID(), math.MinInt64, math.MaxInt64))
		if want := blockText(x.long.read(long, ref.ID(), math.MinInt64, math.MaxInt64)); got != want {
			t.Fatalf("epoch %d: series %d is\n%swant\n%s", short.Epoch(), ref.ID(), got, want)
		}
	}
	var a, b bytes.Buffer
	for _, y := range []struct {
		h *Head
		p *Pin
		w *bytes.Buffer
	}{{x.short.h, short, &a}, {x.long.h, long, &b}} {
		if err := y.h.Snapshot(y.p.Epoch(), y.w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Fatalf("checkpoints of %d and %d bytes differ at epoch %d", a.Len(), b.Len(), short.Epoch())
	}
	if s, l := x.short.h.Stats(), x.long.h.Stats(); s.Held != l.Held || s.Samples != l.Samples || s.Reasons != l.Reasons || s.MinT != l.MinT || s.MaxT != l.MaxT {
		t.Fatalf("counted %+v, want %+v", s, l)
	}
}

// Rows in and out of order, twice in a batch, of values of all kinds, over slots and chunks, with pins and without.
func TestTheShortWayOfAnAppendComesToWhatTheLongWayDoes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const series = 150
	x := newTwoWays(t, series)
	value := func(i int) float64 {
		switch i % 4 {
		case 0:
			return float64(i)
		case 1:
			return float64(rng.IntN(1000))
		case 2:
			return math.Float64frombits(rng.Uint64())
		}
		return math.Round(rng.Float64()*1e4) / 100
	}
	var short, long *Pin
	tm := int64(1_700_000_000_000)
	for round := range 900 {
		var b sample.Batch
		tm += 15_000 + rng.Int64N(3)*rng.Int64N(40)
		for i, ref := range x.refs {
			at := tm
			switch rng.IntN(40) {
			case 0:
				continue
			case 1:
				at -= rng.Int64N(100_000) // late, or there already
			case 2:
				at += rng.Int64N(100_000)
			case 3:
				b.AppendFloat(ref, 0, at-1, value(i), 0)
			}
			b.AppendFloat(ref, 0, at, value(i), 0)
		}
		lim := allTimes
		lim.MaxT = tm + 60_000
		x.commit(&b, lim)
		switch {
		case short == nil && rng.IntN(20) == 0:
			short, long = x.short.pin(), x.long.pin()
		case short != nil && rng.IntN(10) == 0:
			x.check(t, short, long)
			short.Close()
			long.Close()
			short, long = nil, nil
		}
		if round%300 == 299 {
			p, q := x.short.pin(), x.long.pin()
			x.check(t, p, q)
			p.Close()
			q.Close()
		}
	}
	if short != nil {
		short.Close()
		long.Close()
	}
	if n := x.short.h.Stats().Chunks; n < 2*series {
		t.Errorf("%d closed chunks are too few to tell", n)
	}
}

// A ref without a generation, or with an old one, names no series, whatever its header still holds for pins.
func TestTheShortWayRefusesRefsOfSeriesThatHaveLeft(t *testing.T) {
	x := newBench(t, Options{Shards: 1})
	ref := x.series(labels.FromStrings(labels.MetricName, "m"))
	for tm := range int64(5) {
		var b sample.Batch
		b.AppendFloat(ref, 0, tm+1, 1, 0)
		x.commit(&b, allTimes)
	}
	p := x.pin()
	defer p.Close()
	x.lsn++
	x.h.Free([]sample.Ref{ref}, x.lsn)
	for _, gone := range []sample.Ref{ref, sample.MakeRef(0, ref.ID()), sample.MakeRef(ref.Generation()+1, ref.ID())} {
		var b sample.Batch
		b.AppendFloat(gone, 0, 100, 1, 0)
		w := x.h.Prepare(&b, allTimes)
		x.lsn++
		x.h.Enqueue(w, x.lsn)
		var r sample.Result
		if x.h.Apply(w, &r); r.At(0) != sample.StaleRef {
			t.Errorf("ref %#x: %v, want %v", uint64(gone), r.At(0), sample.StaleRef)
		}
	}
}

// A row that waits for its footer or its body is judged before it is appended: what comes to the same series behind it is
// compared with it all the same, near in the batch or far.
func TestRowsOfASeriesWhoseRowWaitsAreComparedWithIt(t *testing.T) {
	for _, series := range []int{1, 7, touchRun, 3 * touchRun} {
		x := newTwoWays(t, 2*series)
		rng := rand.New(rand.NewPCG(3, uint64(series)))
		conflicts := 0
		for round := range 200 {
			tm := int64(1_700_000_000_000 + 15_000*round)
			var b sample.Batch
			for again := range 4 {
				for _, ref := range x.refs {
					at := tm + int64([]int{0, 0, 1, -7}[again])
					b.AppendFloat(ref, 0, at, math.Float64frombits(rng.Uint64()), 0)
				}
			}
			var p, q *Pin
			if round%3 == 0 { // all first rows wait for footers; else those of streams whose end is full, for bodies
				p, q = x.short.pin(), x.long.pin()
			}
			x.commit(&b, allTimes)
			if p != nil {
				x.check(t, p, q)
				p.Close()
				q.Close()
			}
			conflicts += int(x.short.h.Stats().Reasons[sample.Conflict])
		}
		p, q := x.short.pin(), x.long.pin()
		x.check(t, p, q)
		p.Close()
		q.Close()
		if conflicts == 0 {
			t.Error("no row was refused")
		}
	}
}
