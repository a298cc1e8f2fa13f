// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"sync"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// BenchmarkLeave gives back what 400,000 series of two shards took, and reports how long somebody who wants one of the
// locks waited for it at most.
func BenchmarkLeave(b *testing.B) {
	const series = 400_000
	for b.Loop() {
		b.StopTimer()
		x := newBench(b, Options{Shards: 2})
		refs := make([]sample.Ref, series)
		for i := range refs {
			refs[i] = x.series(fleetLabels(i))
		}
		x.seq.Lock()
		old := x.h.Pin()
		x.lsn++
		x.h.Free(refs, x.lsn)
		x.seq.Unlock()
		stop, longest := make(chan struct{}), [2]time.Duration{}
		var waiters sync.WaitGroup
		wait := func(k int, lock, unlock func()) {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start := time.Now()
				lock()
				longest[k] = max(longest[k], time.Since(start))
				unlock()
				time.Sleep(50 * time.Microsecond)
			}
		}
		s, d := x.h.shards[0], &x.h.dir
		waiters.Go(func() { wait(0, s.mu.RLock, s.mu.RUnlock) })
		waiters.Go(func() { wait(1, d.mu.RLock, d.mu.RUnlock) })
		b.StartTimer()
		old.Close()
		b.StopTimer()
		close(stop)
		waiters.Wait()
		b.ReportMetric(float64(longest[0].Microseconds()), "shard-us")
		b.ReportMetric(float64(longest[1].Microseconds()), "directory-us")
		b.StartTimer()
	}
}
