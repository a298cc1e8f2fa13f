// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// benchRows is two hours at 15 s.
const benchRows = 480

// benchSource yields n series of counters without building them all beforehand.
func benchSource(n int) block.Source {
	return block.Source{Series: func(yield func(block.Series, error) bool) {
		var b column.Block
		x := uint64(1)
		for i := range n {
			b.Reset()
			v := float64(i)
			for k := range benchRows {
				x = x*6364136223846793005 + 1442695040888963407
				v += float64(x>>60) * float64(i%3)
				b.AppendFloat(1_760_000_000_000+int64(k)*15_000, 0, v)
			}
			ls := labels.FromStrings("__name__", "http_requests_total", "cluster", "eu-west-1",
				"instance", fmt.Sprintf("host-%05d.example:9100", i/100), "job", "node", "path", fmt.Sprintf("/api/%02d", i%100))
			if !yield(block.Series{Labels: ls, Rows: &b, To: benchRows}, nil) {
				return
			}
		}
	}}
}

func benchBlock(b *testing.B, n int) (fsx.FS, string, block.Meta) {
	b.Helper()
	fs, dir := fsx.OS(), b.TempDir()
	m, err := block.Write(fs, dir, testMeta(), benchSource(n))
	if err != nil {
		b.Fatal(err)
	}
	return fs, block.Path(dir, m.ULID), m
}

func BenchmarkWrite(b *testing.B) {
	const n = 10_000
	for range benchSource(n).Series { // the source alone, to be taken off
	}
	dir := b.TempDir()
	b.ReportAllocs()
	var info fsx.Info
	for b.Loop() {
		m := testMeta()
		m.ULID = ""
		m, err := block.Write(fsx.OS(), dir, m, benchSource(n))
		if err != nil {
			b.Fatal(err)
		}
		name := block.Path(dir, m.ULID)
		if info, err = fsx.OS().Stat(name); err != nil {
			b.Fatal(err)
		}
		if err := fsx.OS().Remove(name); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n*benchRows), "ns/sample")
	b.ReportMetric(float64(info.Size)/float64(n*benchRows), "B/sample")
}

func BenchmarkRead(b *testing.B) {
	const n = 10_000
	fs, name, _ := benchBlock(b, n)
	for _, size := range []int64{0, 64 << 20} {
		blk, err := block.Open(fs, name, block.NewCache(size, nil), block.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("cache=%d", size), func(b *testing.B) {
			var dst column.Block
			b.ReportAllocs()
			for b.Loop() {
				dst.Reset()
				for id := range uint32(100) {
					if err := blk.Read(b.Context(), id*97, math.MinInt64, math.MaxInt64, false, &dst); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100*benchRows), "ns/sample")
		})
		if err := blk.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	fs, name, _ := benchBlock(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		blk, err := block.Open(fs, name, nil, block.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(blk.Index().Bytes())/100_000, "index-B/series")
		if err := blk.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
