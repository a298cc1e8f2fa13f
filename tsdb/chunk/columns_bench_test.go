// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// serviceLatencies makes n histograms, a scrape every 15 s, of a service with so many requests a second: a log-normal
// latency whose median drifts, with a slow tail, in buckets of a schema.
func serviceLatencies(schema int32, perSecond float64, n int) []row {
	r := rand.New(rand.NewPCG(uint64(schema), uint64(perSecond)))
	counts := map[int]int64{}
	var count uint64
	sum, median := 0.0, math.Log(0.02)
	rows := make([]row, n)
	for i := range rows {
		median += r.NormFloat64() * 0.01
		load := perSecond * 15 * (1 + 0.3*math.Sin(float64(i)/100))
		for range int(load + math.Sqrt(load)*r.NormFloat64()) {
			x := math.Exp(median + r.NormFloat64()*0.5)
			if r.IntN(50) == 0 {
				x *= 10
			}
			counts[int(math.Ceil(math.Log2(x)*math.Exp2(float64(schema))))]++
			count++
			sum += x
		}
		h := fromCounts(counts)
		h.Schema, h.ZeroThreshold, h.Count, h.Sum = schema, 0x1p-128, count, sum
		rows[i] = row{t: int64(i) * 15_000, h: h}
	}
	return rows
}

// peerChunks is what Prometheus' head makes of the rows: chunks of about 1 KiB.
func peerChunks(b *testing.B, rows []row) (chunks []*chunkenc.HistogramChunk, size int) {
	var c *chunkenc.HistogramChunk
	var app chunkenc.Appender
	for _, x := range rows {
		if c == nil || c.NumSamples() >= 10 && len(c.Bytes()) > 1024 {
			c = chunkenc.NewHistogramChunk()
			chunks = append(chunks, c)
			var err error
			if app, err = c.Appender(); err != nil {
				b.Fatal(err)
			}
		}
		next, recoded, a, err := app.AppendHistogram(nil, 0, x.t, x.h.Copy(), false)
		if err != nil {
			b.Fatal(err)
		}
		app = a
		if next == nil {
			continue
		}
		c = next.(*chunkenc.HistogramChunk)
		if recoded {
			chunks = chunks[:len(chunks)-1]
		}
		chunks = append(chunks, c)
	}
	for _, c := range chunks {
		size += len(c.Bytes())
	}
	return chunks, size
}

// BenchmarkHistogramSize is what a histogram takes in a page of columns (times apart), in a stream, and in Prometheus'
// chunks, and how long it takes to read all as float histograms, from columns and from those: the least of all rounds.
func BenchmarkHistogramSize(b *testing.B) {
	for _, schema := range []int32{0, 3, 5} {
		for _, rate := range []float64{0.2, 5, 200} {
			for _, n := range []int{240, 480} {
				rows := serviceLatencies(schema, rate, n)
				b.Run(fmt.Sprintf("schema=%d/requests=%g/rows=%d", schema, rate, n), func(b *testing.B) { benchmarkColumns(b, rows) })
			}
		}
	}
}

func benchmarkColumns(b *testing.B, rows []row) {
	src := blockOf(rows)
	var enc chunk.ColumnEncoder
	page, _ := enc.Append(nil, &encoding.Encoder{}, src, 0, len(rows))
	cold, _ := enc.Append(nil, &encoding.Encoder{Cold: true}, src, 0, len(rows))
	t := timesOf(rows)
	var dst column.Block
	peer, peerSize := peerChunks(b, rows)
	var it chunkenc.Iterator
	var fh histogram.FloatHistogram
	ours, theirs := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for b.Loop() {
		start := time.Now()
		dst.Reset()
		dst.Want(column.Need{Float: true})
		if err := chunk.DecodeColumns(page, len(rows), 0, t, &dst); err != nil {
			b.Fatal(err)
		}
		half := time.Now()
		for _, c := range peer {
			for it = c.Iterator(it); it.Next() != chunkenc.ValNone; {
				it.AtFloatHistogram(&fh)
			}
		}
		ours, theirs = min(ours, half.Sub(start)), min(theirs, time.Since(half))
	}
	per := func(x int) float64 { return float64(x) / float64(len(rows)) }
	b.ReportMetric(per(int(ours.Nanoseconds())), "ns/columns")
	b.ReportMetric(per(int(theirs.Nanoseconds())), "ns/prometheus")
	b.ReportMetric(per(len(page)), "B/columns")
	b.ReportMetric(per(len(cold)), "B/cold")
	b.ReportMetric(per(len(encodeHistograms(rows))), "B/stream")
	b.ReportMetric(per(peerSize), "B/prometheus")
	h := rows[len(rows)-1].h
	b.ReportMetric(float64(len(h.PositiveBuckets)), "buckets")
}
