// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// A shape makes the next value of a series from the last one.
type shape struct {
	name string
	part int // share of a fleet, percent
	next func(r *rand.Rand, v float64) float64
}

// fleet is the mix of series that the storage is measured with.
var fleet = []shape{
	{"const", 40, func(_ *rand.Rand, v float64) float64 { return v }},
	{"quiet", 15, func(r *rand.Rand, v float64) float64 { return v + float64(r.IntN(30)/29) }},
	{"bucket", 15, func(r *rand.Rand, v float64) float64 { return v + float64(r.IntN(4)/2*r.IntN(9)) }},
	{"slow", 5, func(r *rand.Rand, v float64) float64 { return v + float64(r.IntN(33)/32) }},
	{"counter", 10, func(r *rand.Rand, v float64) float64 { return v + 150 + math.Round(r.NormFloat64()*12) }},
	{"cpu", 4, func(r *rand.Rand, v float64) float64 { return math.Round((v+r.Float64()*15)*100) / 100 }},
	{"bytes", 5, func(r *rand.Rand, v float64) float64 {
		if r.IntN(10) < 4 {
			return v
		}
		return math.Abs(v + 4096*float64(r.IntN(2000)-1000))
	}},
	{"percent", 3, func(r *rand.Rand, v float64) float64 { return math.Round(r.Float64()*1e4) / 100 }},
	{"sum", 2, func(r *rand.Rand, v float64) float64 { return v + r.ExpFloat64() }},
	{"ratio", 1, func(r *rand.Rand, _ float64) float64 { return r.Float64() }},
}

// samples makes n samples of s, 15 s apart, give or take jitter ms.
func (s shape) samples(r *rand.Rand, n, jitter int) (ts []int64, vs []float64) {
	t, v := int64(1_760_000_000_000)+int64(r.IntN(15000)), float64(1000+r.IntN(100000))
	for range n {
		at := t
		if jitter > 0 {
			at += int64(r.IntN(2*jitter+1) - jitter)
		}
		ts, vs = append(ts, at), append(vs, v)
		t, v = t+15_000, s.next(r, v)
	}
	return ts, vs
}

// oneShape returns the fleet's shape of that name.
func oneShape(tb testing.TB, name string) shape {
	tb.Helper()
	for _, s := range fleet {
		if s.name == name {
			return s
		}
	}
	tb.Fatalf("no shape %q", name)
	return shape{}
}

// xorChunk encodes with Prometheus' own codec.
func xorChunk(tb testing.TB, ts []int64, vs []float64) *chunkenc.XORChunk {
	tb.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		tb.Fatal(err)
	}
	for i, t := range ts {
		app.Append(0, t, vs[i])
	}
	return c
}
