// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestReplacingTheFirstOfAHeapKeepsTheOrderOfSinking(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 20000 {
		reverse := r.IntN(2) == 1
		var h heap
		h.reverse = reverse
		for id := range 1 + r.IntN(12) {
			h.of = append(h.of, ranked{float64(r.IntN(6)), uint32(id)})
			h.raise()
		}
		e := ranked{float64(r.IntN(8)) - 1, 99}
		want := heap{slices.Clone(h.of), reverse}
		want.of[0] = e
		want.sink()
		replace := replaceLeast
		if reverse {
			replace = replaceGreatest
		}
		before := slices.Clone(h.of)
		if first := replace(h.of, e); first != want.of[0].v || !slices.Equal(h.of, want.of) {
			t.Fatalf("seed %d: %v in place of the first of %v, greatest first %v: %v and %v, want %v", seed, e, before, reverse, h.of, first, want.of)
		}
	}
}
