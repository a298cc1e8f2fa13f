// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestCellsDivideTimeWithoutGaps(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	check := func(slot int64, depth uint8, at int64) {
		t.Helper()
		g := grid{slot, depth}
		k, last := g.cell(at)
		if last < at || k.part >= 1<<depth || k.depth != depth {
			t.Fatalf("slot %d depth %d: time %d is in %+v, which ends at %d", slot, depth, at, k, last)
		}
		if same, end := g.cell(last); same != k || end != last {
			t.Fatalf("slot %d depth %d: time %d is in %+v until %d, where it is %+v until %d", slot, depth, at, k, last, same, end)
		}
		if last == math.MaxInt64 {
			return
		}
		next, end := g.cell(last + 1)
		if next == k || end <= last || next.slot < k.slot || next.slot == k.slot && next.part <= k.part {
			t.Fatalf("slot %d depth %d: behind %+v comes %+v", slot, depth, k, next)
		}
	}
	for range 20_000 {
		slot := 1 + r.Int64N(maxSlot>>r.IntN(37))
		at := int64(r.Uint64()) >> r.IntN(60)
		check(slot, uint8(r.IntN(maxDepth+1)), at)
	}
	for _, at := range []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64} {
		for depth := range uint8(maxDepth + 1) {
			check(7_200_000, depth, at)
			check(maxSlot, depth, at)
			check(1, depth, at)
		}
	}
}

func TestSlotsAreHalvedForSeriesWithManyRows(t *testing.T) {
	g := grid{slot: 7_200_000}
	check := func(what string, want uint8, rows int, step func(i int) int64) {
		t.Helper()
		var times []int64
		for i, at := 0, int64(0); i < rows; i++ {
			times = append(times, at)
			at += step(i)
		}
		if g.depth = g.depthFor(times); g.depth != want {
			t.Errorf("%s: depth %d, want %d", what, g.depth, want)
		}
		for rest := times; len(rest) > 0; {
			_, n := g.run(rest)
			if n > maxPageRows {
				t.Fatalf("%s: page of %d rows", what, n)
			}
			rest = rest[n:]
		}
	}
	every := func(ms int64) func(int) int64 { return func(int) int64 { return ms } }
	check("15 s", 0, 480, every(15_000))
	check("15 s for days", 0, 48_000, every(15_000))
	check("as many as a page may have", 0, pageRows, every(1000))
	check("one more", 1, pageRows+1, every(1000))
	check("1 s", 2, 7200, every(1000))
	check("a burst", 2, 7200, every(1))
	check("a burst in each slot", 0, 24, func(i int) int64 { return 1 + int64(i%2)*7_200_000 })
	g.slot = 365 * 86_400_000
	check("a burst that is too long for a page", 18, maxPageRows+1, every(1))
}
