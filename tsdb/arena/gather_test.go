// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena

import (
	"math/rand/v2"
	"testing"
)

// scattered returns an arena of which many spans have a few free blocks.
func scattered(tb testing.TB, blocks int, seed uint64) *Arena {
	tb.Helper()
	a := New(Options{})
	tb.Cleanup(func() { _ = a.Close() })
	refs := make([]Ref, blocks)
	for i := range refs {
		ref, err := a.Alloc(48)
		if err != nil {
			tb.Fatal(err)
		}
		refs[i] = ref
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	per := int(blocksPerSpan(a.spans[refs[0]/spanUnits].class))
	for from := 0; from < len(refs); from += per {
		keep := rng.IntN(101)
		for _, ref := range refs[from:min(from+per, len(refs))] {
			if rng.IntN(100) >= keep {
				a.Free(ref)
			}
		}
	}
	return a
}

func TestSiftPutsTheFullestSpansInFront(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	a := scattered(t, 200_000, seed)
	if a.Sift() == 0 {
		t.Fatal("nothing is to be given back")
	}
	for class := range a.partial {
		last := -1
		for at := a.partial[class]; at != 0; at = a.spans[at].next {
			s := &a.spans[at]
			if last >= 0 && int(s.live) > last {
				t.Fatalf("class %d: a span of %d blocks behind one of %d", class, s.live, last)
			}
			last = int(s.live)
		}
	}
}

func BenchmarkSift(b *testing.B) {
	a := scattered(b, 10_000_000, 1)
	for b.Loop() {
		a.Sift()
	}
}
