// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

const benchRows = 480

// benchShapes runs f for the series of a host and for 20 of each shape.
func benchShapes(b *testing.B, f func(b *testing.B, all [][]float64)) {
	b.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	b.Run("shape=host", func(b *testing.B) { f(b, host(r, benchRows)) })
	for _, s := range slices.Concat(hostShapes, oddShapes) {
		var all [][]float64
		for range 20 {
			all = append(all, s.column(r, benchRows))
		}
		b.Run("shape="+s.name, func(b *testing.B) { f(b, all) })
	}
}

// clock keeps the least time of each column, of all rounds: what it takes when nothing else has the processor.
type clock []time.Duration

func (c clock) time(column int, f func()) {
	start := time.Now()
	f()
	if d := time.Since(start); c[column] == 0 || d < c[column] {
		c[column] = d
	}
}

// perSample returns the nanoseconds that a sample takes.
func (c clock) perSample() float64 {
	var sum time.Duration
	for _, d := range c {
		sum += d
	}
	return float64(sum.Nanoseconds()) / float64(len(c)*benchRows)
}

func BenchmarkEncode(b *testing.B) {
	benchShapes(b, func(b *testing.B, all [][]float64) {
		var e encoding.Encoder
		var dst []byte
		least := make(clock, len(all))
		size := 0
		for b.Loop() {
			size = 0
			for i, v := range all {
				least.time(i, func() { dst = e.AppendValues(dst[:0], v, nil) })
				size += len(dst)
			}
		}
		b.ReportMetric(least.perSample(), "ns/sample")
		b.ReportMetric(float64(size)/float64(len(all)*benchRows), "B/sample")
	})
}

// BenchmarkDecode reads the same columns in turns as they are chosen to be encoded, by the XOR code, 20 of their rows, and
// by the iterator of Prometheus' chunks of 120 samples.
func BenchmarkDecode(b *testing.B) {
	benchShapes(b, func(b *testing.B, all [][]float64) {
		var e encoding.Encoder
		var pages, xors [][]byte
		var chunks [][]*chunkenc.XORChunk
		for _, v := range all {
			pages = append(pages, e.AppendValues(nil, v, nil))
			xors = append(xors, encoding.AppendXOR(nil, v))
			chunks = append(chunks, chunksOf(b, v))
		}
		chosen, xor, part, peer := make(clock, len(all)), make(clock, len(all)), make(clock, len(all)), make(clock, len(all))
		dst := make([]float64, 0, benchRows)
		decode := func(src []byte, from, to int) func() {
			return func() {
				if _, err := encoding.DecodeValues(dst, src, benchRows, from, to, nil); err != nil {
					b.Fatal(err)
				}
			}
		}
		var it chunkenc.Iterator
		for b.Loop() {
			for i := range all {
				chosen.time(i, decode(pages[i], 0, benchRows))
			}
			for i := range all {
				xor.time(i, decode(xors[i], 0, benchRows))
			}
			for i := range all {
				part.time(i, decode(pages[i], 100, 120))
			}
			for i := range all {
				peer.time(i, func() {
					at := 0
					for _, c := range chunks[i] {
						it = c.Iterator(it)
						for ; it.Next() != chunkenc.ValNone; at++ {
							_, dst[:benchRows][at] = it.At()
						}
					}
				})
			}
		}
		b.ReportMetric(chosen.perSample(), "ns/sample")
		b.ReportMetric(xor.perSample(), "ns/sample(xor)")
		b.ReportMetric(part.perSample()*benchRows/20, "ns/sample(part)")
		b.ReportMetric(peer.perSample(), "ns/sample(peer)")
		b.ReportMetric(peer.perSample()/chosen.perSample(), "times-faster")
	})
}

func chunksOf(b *testing.B, v []float64) (chunks []*chunkenc.XORChunk) {
	b.Helper()
	for at := 0; at < len(v); at += 120 {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			b.Fatal(err)
		}
		for i, f := range v[at:min(at+120, len(v))] {
			app.Append(0, int64(at+i)*15000, f)
		}
		chunks = append(chunks, c)
	}
	return chunks
}
