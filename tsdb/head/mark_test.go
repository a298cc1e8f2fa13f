// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestReadingFromMarksGivesWhatReadingFromTheStartGives(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	x := newBench(t, Options{Shards: 1, SlotMillis: 1 << 40})
	ref := x.series(named(0))
	var ts []int64
	var vs []float64
	pins := map[*Pin]int{} // samples seen
	defer func() {
		for p := range pins {
			p.Close()
		}
	}()
	at := int64(-5000)
	for i := range 3*maxSamples - 5 {
		at += 1 + rng.Int64N(1+rng.Int64N(20_000))
		v := float64(rng.IntN(5))
		if rng.IntN(3) == 0 {
			v = rng.NormFloat64()
		}
		ts, vs = append(ts, at), append(vs, v)
		x.append(ref, at, v, 0)
		if rng.IntN(25) == 0 {
			pins[x.pin()] = i + 1
		}
	}
	pins[x.pin()] = len(ts)
	short := 0
	for p, n := range pins {
		for range 200 {
			mint := ts[rng.IntN(len(ts))] + rng.Int64N(3) - 1
			maxt := mint + rng.Int64N(4_000_000)
			from, _ := slices.BinarySearch(ts[:n], mint)
			to, _ := slices.BinarySearch(ts[:n], maxt+1)
			b := x.read(p, ref.ID(), mint, maxt)
			if to = max(from, to); !slices.Equal(b.T, ts[from:to]) || !slices.Equal(b.V, vs[from:to]) {
				t.Fatalf("%d samples, [%d, %d]: %v %v, want %v %v", n, mint, maxt, b.T, b.V, ts[from:to], vs[from:to])
			}
			r := p.Reader(mint, math.MaxInt64, true)
			r.Load([]uint32{ref.ID()})
			for _, piece := range r.pieces {
				if piece.mark.Len() > 0 {
					short++
				}
			}
			r.Close()
		}
	}
	if short == 0 {
		t.Error("nothing was read from a mark")
	}
}
