// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestHeapIsTrimmedOnceItIsQuietAndHoldsMuch(t *testing.T) {
	const mb = 1 << 20
	start := time.Now()
	var x trimmer
	check := func(what string, at time.Duration, allocated, live, held uint64, want bool) {
		t.Helper()
		if got := x.due(heapState{start.Add(at), allocated, live, held}); got != want {
			t.Errorf("%s: %t, want %t", what, got, want)
		}
	}
	check("at first", 0, 100*mb, 10*mb, 30*mb, false)
	check("in use", 2*time.Second, 110*mb, 10*mb, 30*mb, false)
	check("with little to give back", 4*time.Second, 111*mb, 10*mb, 13*mb, false)
	check("with a small part of what lives", 6*time.Second, 111*mb, 100*mb, 110*mb, false)
	check("after a burst", 8*time.Second, 112*mb, 10*mb, 18*mb, true)
	check("soon again", 30*time.Second, 112*mb, 10*mb, 18*mb, false)
	check("a minute later", 68*time.Second, 112*mb, 10*mb, 18*mb, true)
}

func TestMemoryOfABurstGoesBackToTheSystem(t *testing.T) {
	t.Setenv("GOGC", "")
	burst := make([][]byte, 64)
	for i := range burst {
		burst[i] = make([]byte, 1<<20)
		clear(burst[i])
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	runtime.KeepAlive(burst)
	runtime.GC() // finds that the burst is dead, and keeps its memory
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	wg.Go(func() { trimHeap(ctx, 20*time.Millisecond) })
	for deadline := time.Now().Add(30 * time.Second); ; {
		runtime.ReadMemStats(&after)
		if after.HeapReleased >= before.HeapReleased+48<<20 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes were released before, %d are now", before.HeapReleased, after.HeapReleased)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestCachesAreASmallPartOfLittleMemory(t *testing.T) {
	for limit, want := range map[int64]int64{0: 0, 64 << 20: 4 << 20, 1 << 30: 64 << 20, 64 << 30: 64 << 20} {
		if got := cacheSize(limit); got != want {
			t.Errorf("with %d bytes: %d, want %d", limit, got, want)
		}
	}
}
