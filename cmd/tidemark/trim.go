// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The Go runtime collects garbage when there is enough of it, however long that takes, and keeps what it has freed for a
// while. After a burst, a backfill or the replay of the log, that is as much as all that lives on the heap, and nobody
// comes to fill it. Two collections of what little lives there cost some ten
// milliseconds.
const (
	trimEvery = 2 * time.Second
	trimQuiet = 1 << 20 // bytes allocated per second, above which the heap is in use
	trimLeast = 4 << 20 // bytes that are worth a collection
	trimShare = 4       // and which part of what lives they must be
	trimRest  = time.Minute
)

// heapState is what the runtime says of the Go heap, in bytes.
type heapState struct {
	at        time.Time
	allocated uint64 // ever
	live      uint64 // at the last collection
	held      uint64 // objects, dead ones included, and free memory that the operating system does not have
}

func readHeap(now time.Time) heapState {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return heapState{at: now, allocated: s[0].Value.Uint64(), live: s[1].Value.Uint64(), held: s[2].Value.Uint64() + s[3].Value.Uint64()}
}

// trimmer says when the heap should be given back.
type trimmer struct {
	last    heapState
	trimmed time.Time
}

// due reports whether little was allocated since the last call and much could be given back.
func (x *trimmer) due(now heapState) bool {
	was := x.last
	x.last = now
	quiet := float64(now.allocated-was.allocated) < trimQuiet*now.at.Sub(was.at).Seconds()
	worth := now.held > now.live+max(trimLeast, now.live/trimShare)
	if was.at.IsZero() || !quiet || !worth || now.at.Sub(x.trimmed) < trimRest {
		return false
	}
	x.trimmed = now.at
	return true
}

// trimHeap gives memory of the Go heap back when it is not used any more, until ctx ends. Whoever sets GOGC decides
// alone when garbage is collected.
func trimHeap(ctx context.Context, every time.Duration) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var x trimmer
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if x.due(readHeap(time.Now())) {
			runtime.GC() // buffers in pools outlive one collection
			debug.FreeOSMemory()
		}
	}
}
