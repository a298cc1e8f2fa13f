// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

func TestColumnsComeBackBitForBit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var e encoding.Encoder
	for n := range 300 {
		v, x, ts := make([]float64, n), make([]int64, n), make([]int64, n)
		last := int64(r.Uint64() >> 20)
		for i := range n {
			v[i] = math.Float64frombits(r.Uint64())
			x[i] = int64(r.Uint64())
			last += 1 + int64(r.Uint64N(9))
			ts[i] = last
		}
		from := r.IntN(n + 1)
		to := from + r.IntN(n-from+1)
		got, err := encoding.DecodeValues(nil, e.AppendValues(nil, v, nil), n, from, to, nil)
		if err != nil || !slices.EqualFunc(got, v[from:to], func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
			t.Fatalf("values: %v %v", got, err)
		}
		ints, err := encoding.DecodeInts(nil, e.AppendInts(nil, x), n, from, to)
		if err != nil || !slices.Equal(ints, x[from:to]) {
			t.Fatalf("ints: %v %v", ints, err)
		}
		times, err := encoding.ParseTimes(e.AppendTimes(nil, ts))
		if err != nil || times.Len() != n || !slices.Equal(times.AppendTo(nil, from, to), ts[from:to]) {
			t.Fatalf("times: %v", err)
		}
		for _, q := range ts {
			want, _ := slices.BinarySearch(ts, q)
			if got := times.Search(q); got != want {
				t.Fatalf("search %d: %d, want %d", q, got, want)
			}
		}
	}
}
