// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

const benchSamples = 120

// series is one encoded series of a benchmark.
type series struct {
	ts     []int64
	vs     []float64
	stream []byte
	peer   *chunkenc.XORChunk
}

func benchSeries(b *testing.B, shapes []shape, jitter int) []series {
	b.Helper()
	r := rand.New(rand.NewPCG(21, 22))
	var all []series
	for _, s := range shapes {
		for range s.part {
			ts, vs := s.samples(r, benchSamples, jitter)
			all = append(all, series{ts, vs, encodeFloats(ts, vs), xorChunk(b, ts, vs)})
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// eachFleet runs f for the whole fleet with and without jitter, and for each of its shapes.
func eachFleet(b *testing.B, f func(b *testing.B, all []series)) {
	b.Helper()
	run := func(name string, shapes []shape, jitter int) {
		all := benchSeries(b, shapes, jitter)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			f(b, all)
			size := 0
			for _, s := range all {
				size += len(s.stream)
			}
			n := float64(len(all) * benchSamples)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample")
			b.ReportMetric(float64(size)/n, "B/sample")
		})
	}
	run("shape=fleet", fleet, 0)
	run("shape=fleet_jitter", fleet, 3)
	for _, s := range fleet {
		run("shape="+s.name, []shape{s}, 0)
	}
}

func BenchmarkAppendFloat(b *testing.B) {
	eachFleet(b, func(b *testing.B, all []series) {
		buf := make([]byte, 0, 4096)
		for b.Loop() {
			for _, s := range all {
				var st chunk.FloatState
				buf = buf[:0]
				for i, t := range s.ts {
					buf = chunk.AppendFloat(buf, i, &st, t, s.vs[i])
				}
			}
		}
	})
}

func BenchmarkAppendFloatPeer(b *testing.B) {
	eachFleet(b, func(b *testing.B, all []series) {
		c := chunkenc.NewXORChunk()
		mem := make([]byte, 4096)
		for b.Loop() {
			for _, s := range all {
				mem[0], mem[1] = 0, 0
				c.Reset(mem[:2])
				app, err := c.Appender()
				if err != nil {
					b.Fatal(err)
				}
				for i, t := range s.ts {
					app.Append(0, t, s.vs[i])
				}
			}
		}
	})
}

func BenchmarkDecodeFloats(b *testing.B) {
	eachFleet(b, func(b *testing.B, all []series) {
		var dst column.Block
		for b.Loop() {
			for _, s := range all {
				dst.Reset()
				if err := chunk.DecodeFloats(s.stream, benchSamples, math.MinInt64, math.MaxInt64, &dst); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkDecodeFloatsPeer(b *testing.B) {
	eachFleet(b, func(b *testing.B, all []series) {
		var it chunkenc.Iterator
		ts, vs := make([]int64, benchSamples), make([]float64, benchSamples)
		for b.Loop() {
			for _, s := range all {
				it = s.peer.Iterator(it)
				for i := 0; it.Next() != chunkenc.ValNone; i++ {
					ts[i], vs[i] = it.At()
				}
			}
		}
	})
}
