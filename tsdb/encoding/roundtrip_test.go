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

func newRand(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := rand.Uint64()
	tb.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func sameBits(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }

// checkValues encodes v and reads it back, whole and in parts.
func checkValues(t *testing.T, e *encoding.Encoder, r *rand.Rand, v []float64, refs [][]float64) []byte {
	t.Helper()
	src := e.AppendValues([]byte("x"), v, refs)[1:]
	ref := func(k int) ([]float64, error) { return refs[k], nil }
	n := len(v)
	for try := range 4 {
		from, to := 0, n
		if try > 0 {
			from = r.IntN(n + 1)
			to = from + r.IntN(n-from+1)
		}
		got, err := encoding.DecodeValues([]float64{42}, src, n, from, to, ref)
		if err != nil {
			t.Fatalf("[%d,%d) of %d: %v\n%v\n% x", from, to, n, err, v, src)
		}
		if got[0] != 42 || !slices.EqualFunc(got[1:], v[from:to], sameBits) {
			t.Fatalf("[%d,%d) of %d: got\n%v\nwant\n%v\n% x", from, to, n, got[1:], v[from:to], src)
		}
	}
	return src
}

func TestValuesComeBackBitForBit(t *testing.T) {
	r := newRand(t)
	for _, cold := range []bool{false, true} {
		e := encoding.Encoder{Cold: cold}
		for _, s := range append(slices.Clone(hostShapes), oddShapes...) {
			var refs [][]float64
			for n := range 200 {
				if n > 20 {
					n = 1 + r.IntN(1000)
				}
				v := s.column(r, n)
				checkValues(t, &e, r, v, nil)
				refs = refs[:0]
				for range 2 {
					o := s.column(r, n)
					sum := make([]float64, n)
					for i := range sum {
						sum[i] = o[i] + v[i]
					}
					refs = append(refs, o, sum)
				}
				checkValues(t, &e, r, v, refs)
				checkValues(t, &e, r, refs[1], append(refs, v))
			}
		}
	}
}

func TestIntegersComeBack(t *testing.T) {
	r := newRand(t)
	var e encoding.Encoder
	for n := range 3000 {
		n = min(n, 1+r.IntN(1000))
		x := make([]int64, n)
		shift, step, seldom := r.IntN(65), int64(r.Uint64()>>r.IntN(65)), 1+r.IntN(20)
		last := int64(r.Uint64() >> r.IntN(65))
		for i := range x {
			if r.IntN(seldom) == 0 {
				last += int64(r.Uint64()>>shift) * step
			}
			x[i] = last
		}
		src := e.AppendInts(nil, x)
		from := r.IntN(n + 1)
		to := from + r.IntN(n-from+1)
		got, err := encoding.DecodeInts([]int64{42}, src, n, from, to)
		if err != nil || got[0] != 42 || !slices.Equal(got[1:], x[from:to]) {
			t.Fatalf("[%d,%d) of %d: %v, got\n%v\nwant\n%v\n% x", from, to, n, err, got, x[from:to], src)
		}
	}
}

func TestTimesComeBack(t *testing.T) {
	r := newRand(t)
	var e encoding.Encoder
	for n := range 500 {
		ts := make([]int64, n)
		last := int64(r.Uint64() >> 20)
		for i := range n {
			last += 1 + int64(r.Uint64N(9))
			ts[i] = last
		}
		from := r.IntN(n + 1)
		to := from + r.IntN(n-from+1)
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
