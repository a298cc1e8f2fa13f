// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

func BenchmarkAllocFree(b *testing.B) {
	for _, size := range []int{48, 256, 4096, 100_000} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			a := arena.New(arena.Options{Account: budget.NewRoot("bench", 0)})
			defer func() { _ = a.Close() }()
			r := rand.New(rand.NewPCG(1, 2))
			refs := make([]arena.Ref, max(64, min(100_000, 64<<20/size)))
			for i := range refs {
				refs[i], _ = a.Alloc(size)
			}
			b.ReportAllocs()
			for b.Loop() {
				i := r.IntN(len(refs))
				a.Free(refs[i])
				refs[i], _ = a.Alloc(size)
			}
		})
	}
}

func BenchmarkBytes(b *testing.B) {
	a := arena.New(arena.Options{})
	defer func() { _ = a.Close() }()
	var refs [1024]arena.Ref
	for i := range refs {
		refs[i], _ = a.Alloc(128)
	}
	i, sum := 0, byte(0)
	for b.Loop() {
		sum += a.Bytes(refs[i&1023])[0]
		i++
	}
	_ = sum
}

// BenchmarkGrowThroughClasses is the life of an open chunk: copied from class to class, then freed.
func BenchmarkGrowThroughClasses(b *testing.B) {
	a := arena.New(arena.Options{})
	defer func() { _ = a.Close() }()
	for b.Loop() {
		ref, _ := a.Alloc(32)
		for _, size := range []int{48, 64, 96, 128, 192, 256, 384} {
			next, _ := a.Alloc(size)
			copy(a.Bytes(next), a.Bytes(ref))
			a.Free(ref)
			ref = next
		}
		a.Free(ref)
	}
}
