// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// BenchmarkSpill puts an hour of 40,000 series aside: 240 samples each, in six parts of each shard. It reports what that
// takes per sample (spill-ns), what the head holds per series before and after, what the parts take on disk, and what it
// takes per sample to scan the hour, and the last five minutes, out of memory and out of parts whose stripes are cached.
func BenchmarkSpill(b *testing.B) {
	const steps, rounds = 240, 6
	ls := fleet(100)
	samples := float64(len(ls) * steps)
	db := openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process, BlockCache: 1 << 30})
	memory := openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process})
	memory.maintain.Lock() // nothing is put aside
	defer memory.maintain.Unlock()
	for b.Loop() {
		took := time.Duration(0)
		for round := range rounds {
			start := int64(round * steps / rounds * 15_000)
			db.maintain.Lock()
			fillFleet(b, db, ls, start, steps/rounds)
			db.maintain.Unlock()
			fillFleet(b, memory, ls, start, steps/rounds)
			began := time.Now()
			if err := db.Spill(b.Context()); err != nil {
				b.Fatal(err)
			}
			took += time.Since(began)
		}
		b.ReportMetric(float64(took.Nanoseconds())/samples, "spill-ns/sample")
		b.ReportMetric(float64(memory.Stats().Head.Bytes)/float64(len(ls)), "memory-B/series")
		b.ReportMetric(float64(db.Stats().Head.Bytes)/float64(len(ls)), "spilled-B/series")
		b.ReportMetric(float64(db.Stats().PartBytes)/samples, "parts-B/sample")
		for name, x := range map[string]*DB{"memory": memory, "parts": db} {
			for span, mint := range map[string]int64{"hour": 0, "5m": (steps - 20) * 15_000} {
				scanFrom(b, x, mint) // fills the cache
				began := time.Now()
				n := scanFrom(b, x, mint)
				b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(n), name+"-"+span+"-ns/sample")
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}

// scanFrom scans all series from a time on and returns how many samples they have.
func scanFrom(b *testing.B, db *DB, mint int64) (n int) {
	b.Helper()
	v, err := db.View(mint, maxTime)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	set, err := v.Series(context.Background(), nil, column.Hint{})
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	var dst column.Block
	for len(ids) > 0 {
		done, err := v.Scan(context.Background(), set, ids, column.Need{}, &dst)
		if err != nil {
			b.Fatal(err)
		}
		n, ids = n+len(dst.T), ids[done:]
	}
	return n
}
