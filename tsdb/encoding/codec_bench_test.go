// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

const benchRows = 480

// benchShapes runs f for a host and for each shape; f does its work once for every column.
func benchShapes(b *testing.B, f func(b *testing.B, all [][]float64)) {
	b.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	run := func(name string, all [][]float64) {
		b.Run("shape="+name, func(b *testing.B) {
			b.ReportAllocs()
			f(b, all)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(all)*benchRows), "ns/sample")
		})
	}
	run("host", host(r, benchRows))
	for _, s := range slices.Concat(hostShapes, oddShapes) {
		var all [][]float64
		for range 20 {
			all = append(all, s.column(r, benchRows))
		}
		run(s.name, all)
	}
}

func BenchmarkEncode(b *testing.B) {
	benchShapes(b, func(b *testing.B, all [][]float64) {
		e := encoding.Encoder{Cold: true}
		var dst []byte
		size := 0
		for b.Loop() {
			size = 0
			for _, v := range all {
				dst = e.AppendValues(dst[:0], v, nil)
				size += len(dst)
			}
		}
		b.ReportMetric(float64(size)/float64(len(all)*benchRows), "B/sample")
	})
}

// BenchmarkDecode reads the same columns as they are chosen to be encoded, by the XOR code, and by the iterator of
// Prometheus' chunks of 120 samples.
func BenchmarkDecode(b *testing.B) {
	for _, way := range []string{"chosen", "xor", "peer"} {
		b.Run(way, func(b *testing.B) {
			benchShapes(b, func(b *testing.B, all [][]float64) {
				if way == "peer" {
					decodePeer(b, all)
					return
				}
				var e encoding.Encoder
				var pages [][]byte
				for _, v := range all {
					if way == "xor" {
						pages = append(pages, encoding.AppendXOR(nil, v))
					} else {
						pages = append(pages, e.AppendValues(nil, v, nil))
					}
				}
				var dst []float64
				for b.Loop() {
					for _, p := range pages {
						var err error
						if dst, err = encoding.DecodeValues(dst[:0], p, benchRows, 0, benchRows, nil); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		})
	}
}

func decodePeer(b *testing.B, all [][]float64) {
	b.Helper()
	var chunks []*chunkenc.XORChunk
	for _, v := range all {
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
	}
	var it chunkenc.Iterator
	dst := make([]float64, 120)
	for b.Loop() {
		for _, c := range chunks {
			it = c.Iterator(it)
			for i := 0; it.Next() != chunkenc.ValNone; i++ {
				_, dst[i] = it.At()
			}
		}
	}
}

// BenchmarkDecodePart reads 20 of the rows, as a query of some minutes does.
func BenchmarkDecodePart(b *testing.B) {
	benchShapes(b, func(b *testing.B, all [][]float64) {
		var e encoding.Encoder
		var pages [][]byte
		for _, v := range all {
			pages = append(pages, e.AppendValues(nil, v, nil))
		}
		var dst []float64
		for b.Loop() {
			for _, p := range pages {
				var err error
				if dst, err = encoding.DecodeValues(dst[:0], p, benchRows, 100, 120, nil); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
