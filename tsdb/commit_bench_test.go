// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// BenchmarkCommit is the storage alone: batches of 2,000 floats to 100,000 known series, ours and Prometheus' with its
// server's options. Both write their logs; neither waits for the disk.
func BenchmarkCommit(b *testing.B) {
	ls := fleet(250)
	b.Run("tidemark", func(b *testing.B) {
		db := openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1})
		refs := make([]sample.Ref, len(ls))
		if err := db.Resolve(ls, refs); err != nil {
			b.Fatal(err)
		}
		var batch sample.Batch
		var r sample.Result
		benchCommit(b, len(refs), func(from, to, step int) error {
			batch.Reset()
			for i, ref := range refs[from:to] {
				batch.AppendFloat(ref, 0, int64(step)*15_000, movingValue(from+i, step), 0)
			}
			_, err := db.Commit(b.Context(), &batch, &r)
			return err
		})
	})
	b.Run("prometheus", func(b *testing.B) {
		db := openPrometheus(b)
		refs := make([]storage.SeriesRef, len(ls))
		benchCommit(b, len(refs), func(from, to, step int) error {
			app := db.Appender(b.Context())
			for i := from; i < to; i++ {
				var err error
				if refs[i], err = app.Append(refs[i], ls[i], int64(step)*15_000, movingValue(i, step)); err != nil {
					return err
				}
			}
			return app.Commit()
		})
	})
}

// benchCommit commits to all series in turns, once beforehand.
func benchCommit(b *testing.B, series int, commit func(from, to, step int) error) {
	b.Helper()
	const size = 2000
	from, step := 0, 0
	next := func() {
		if err := commit(from, from+size, step); err != nil {
			b.Fatal(err)
		}
		if from += size; from == series {
			from, step = 0, step+1
		}
	}
	for step == 0 {
		next()
	}
	b.ReportAllocs()
	before := processTime(b)
	for b.Loop() {
		next()
	}
	samples := float64(b.N) * size
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/samples, "ns/sample")
	b.ReportMetric(float64((processTime(b)-before).Nanoseconds())/samples, "CPU-ns/sample")
}

// movingValue is a third constants, a third counters and a third seconds with two decimals.
func movingValue(series, step int) float64 {
	noise := float64((uint64(series)*0x9e3779b97f4a7c15+uint64(step)*0xbf58476d1ce4e5b9)>>40) / (1 << 24)
	switch series % 3 {
	case 0:
		return float64(series % 7)
	case 1:
		return math.Floor((float64(step) + noise) * 1000)
	}
	return math.Round((float64(step)+noise)*1500) / 100
}

// openPrometheus opens Prometheus' storage, the log compressed as its server does by default.
func openPrometheus(tb testing.TB) *promtsdb.DB {
	tb.Helper()
	o := promtsdb.DefaultOptions()
	o.WALCompression = compression.Snappy
	db, err := promtsdb.Open(tb.TempDir(), nil, nil, o, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// processTime is the CPU time of this process so far: on a machine that does other things, too, the clock says little.
func processTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fillPrometheus writes one sample to each of ls.
func fillPrometheus(tb testing.TB, db *promtsdb.DB, ls []labels.Labels, at int64) {
	tb.Helper()
	for from := 0; from < len(ls); from += 10_000 {
		app := db.Appender(context.Background())
		for _, l := range ls[from:min(from+10_000, len(ls))] {
			if _, err := app.Append(0, l, at, 1); err != nil {
				tb.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			tb.Fatal(err)
		}
	}
}
