// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	store "github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

const (
	benchSeries = 400
	benchHours  = 12
	benchStep   = 15_000
)

// benchPeer is a closed Prometheus directory: counters and gauges of hosts, six blocks and what is left in the log.
func benchPeer(b *testing.B) (dir string, samples int) {
	b.Helper()
	dir = b.TempDir()
	o := tsdb.DefaultOptions()
	o.RetentionDuration = 0
	db, err := tsdb.Open(dir, nil, nil, o, nil)
	if err != nil {
		b.Fatal(err)
	}
	db.DisableCompactions()
	rng := rand.New(rand.NewPCG(1, 1))
	ls, values := make([]labels.Labels, benchSeries), make([]float64, benchSeries)
	for i := range ls {
		ls[i] = labels.FromStrings("__name__", fmt.Sprintf("bench_metric_%d", i%40), "instance", fmt.Sprintf("host-%d:9100", i/40), "job", "node")
	}
	refs := make([]storage.SeriesRef, benchSeries)
	for t := int64(epoch); t < epoch+benchHours*hour; t += benchStep {
		app := db.AppenderV2(b.Context())
		for i := range ls {
			switch i % 4 {
			case 0:
				values[i] += float64(rng.IntN(1000))
			case 1:
				values[i] = math.Round(rng.NormFloat64()*100) / 100
			case 2:
				values[i] += float64(rng.IntN(3) - 1)
			}
			if refs[i], err = app.Append(refs[i], ls[i], 0, t, values[i], nil, nil, storage.AOptions{}); err != nil {
				b.Fatal(err)
			}
			samples++
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Compact(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	return dir, samples
}

func benchStore(b *testing.B, dir string, inPlace bool) *store.DB {
	b.Helper()
	db, err := store.Open(b.Context(), store.Options{Dir: dir, Foreign: Directory{}, ForeignInPlace: inPlace})
	if err != nil {
		b.Fatal(err)
	}
	return db
}

func closeBench(b *testing.B, db *store.DB) {
	b.Helper()
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkConversion is the first start on a Prometheus directory and the conversion of all of it.
func BenchmarkConversion(b *testing.B) {
	dir, samples := benchPeer(b)
	var start, convert time.Duration
	var last store.ForeignStats
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		to := filepath.Join(b.TempDir(), fmt.Sprint(i))
		if err := copyTree(b.Context(), dir, to); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		from := time.Now()
		db := benchStore(b, to, false)
		start += time.Since(from)
		for db.Stats().Foreign.Blocks > 0 {
			time.Sleep(time.Millisecond)
		}
		convert += time.Since(from)
		last = db.Stats().Foreign
		b.StopTimer()
		closeBench(b, db)
		b.StartTimer()
	}
	n := float64(b.N) * float64(samples)
	b.ReportMetric(float64(start.Nanoseconds())/n, "ns/sample-start")
	b.ReportMetric(float64(convert.Nanoseconds())/n, "ns/sample")
	b.ReportMetric(float64(last.Read)/float64(samples), "B/sample-before")
	b.ReportMetric(float64(last.Made)/float64(samples), "B/sample-after")
}

// BenchmarkExport is a store of 1.2 million samples written as Prometheus blocks.
func BenchmarkExport(b *testing.B) {
	dir, samples := benchPeer(b)
	db := benchStore(b, dir, true)
	defer closeBench(b, db)
	b.ReportAllocs()
	for b.Loop() {
		blocks, err := Export(b.Context(), db, b.TempDir(), ExportOptions{MinT: epoch, MaxT: epoch + benchHours*hour})
		if err != nil || len(blocks) != 7 {
			b.Fatal(len(blocks), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(samples), "ns/sample")
}

// BenchmarkReadAll reads every sample: through Prometheus' storage, from its blocks in place, and converted.
func BenchmarkReadAll(b *testing.B) {
	dir, samples := benchPeer(b)
	report := func(b *testing.B) {
		b.Helper()
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(samples), "ns/sample")
	}
	b.Run("prometheus", func(b *testing.B) {
		ro, err := tsdb.OpenDBReadOnly(dir, b.TempDir(), nil)
		if err != nil {
			b.Fatal(err)
		}
		q, err := ro.Querier(math.MinInt64, math.MaxInt64)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if n := iterate(b, q); n != samples {
				b.Fatalf("%d samples of %d", n, samples)
			}
		}
		report(b)
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
		if err := ro.Close(); err != nil {
			b.Fatal(err)
		}
	})
	for _, inPlace := range []bool{true, false} {
		b.Run(fmt.Sprintf("inplace=%t", inPlace), func(b *testing.B) {
			db := benchStore(b, dir, inPlace)
			defer closeBench(b, db)
			for !inPlace && db.Stats().Foreign.Blocks > 0 {
				time.Sleep(time.Millisecond)
			}
			for b.Loop() {
				if n := scanAll(b, db); n != samples {
					b.Fatalf("%d samples of %d", n, samples)
				}
			}
			report(b)
		})
	}
}

func iterate(b *testing.B, q storage.Querier) (n int) {
	b.Helper()
	set := q.Select(b.Context(), false, nil, everything)
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for it.Next() != chunkenc.ValNone {
			n++
		}
	}
	if err := set.Err(); err != nil {
		b.Fatal(err)
	}
	return n
}

func scanAll(b *testing.B, db *store.DB) (n int) {
	b.Helper()
	v, err := db.View(math.MinInt64, math.MaxInt64)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	set, err := v.Series(b.Context(), nil, column.Hint{})
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	var rows column.Block
	for len(ids) > 0 {
		k, err := v.Scan(b.Context(), set, ids, column.Need{}, &rows)
		if err != nil {
			b.Fatal(err)
		}
		ids = ids[k:]
		n += len(rows.T)
	}
	return n
}
