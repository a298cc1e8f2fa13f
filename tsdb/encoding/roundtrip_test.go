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
		for _, s := range slices.Concat(hostShapes, oddShapes) {
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

// What a column becomes does not depend on what its Encoder saw before.
func TestColumnsDoNotDependOnOthers(t *testing.T) {
	r := newRand(t)
	var used encoding.Encoder
	for range 300 {
		all := slices.Concat(hostShapes, oddShapes)
		v := all[r.IntN(len(all))].column(r, 1+r.IntN(400))
		var fresh encoding.Encoder
		if want, got := fresh.AppendValues(nil, v, nil), used.AppendValues(nil, v, nil); !slices.Equal(got, want) {
			t.Fatalf("got\n% x\nwant\n% x", got, want)
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

// timeShapes make ascending times.
var timeShapes = map[string]func(r *rand.Rand) func() int64{
	"exact": func(*rand.Rand) func() int64 {
		return ticks(15000, func() int64 { return 0 }, func() bool { return false })
	},
	"gaps": func(r *rand.Rand) func() int64 {
		return ticks(15000, func() int64 { return 0 }, func() bool { return r.IntN(30) == 0 })
	},
	"jitter": func(r *rand.Rand) func() int64 {
		return ticks(15000, func() int64 { return int64(r.IntN(7)) - 3 }, func() bool { return false })
	},
	"jitter and gaps": func(r *rand.Rand) func() int64 {
		return ticks(5000, func() int64 { return int64(r.ExpFloat64() * 5) }, func() bool { return r.IntN(50) == 0 })
	},
	"drift": func(r *rand.Rand) func() int64 {
		at := float64(r.IntN(1e9))
		return func() int64 { at += 10000.3; return int64(at) }
	},
	"dense": func(r *rand.Rand) func() int64 {
		at := int64(r.Uint64() >> 20)
		return func() int64 { at += 1 + int64(r.IntN(9)); return at }
	},
	"wild": func(r *rand.Rand) func() int64 {
		at := int64(math.MinInt64)
		return func() int64 { at += 1 + int64(r.Uint64()>>(10+r.IntN(50))); return at }
	},
	"far apart": func(*rand.Rand) func() int64 {
		at := int64(math.MinInt64)
		return func() int64 { at += math.MaxInt64 / 600; return at }
	},
}

func ticks(step int64, beside func() int64, missed func() bool) func() int64 {
	at := int64(1_760_000_000_123)
	return func() int64 {
		for at += step; missed(); {
			at += step
		}
		return at + beside()
	}
}

func TestTimesComeBack(t *testing.T) {
	r := newRand(t)
	var e encoding.Encoder
	for name, make := range timeShapes {
		for n := range 1000 {
			next := make(r)
			var ts []int64
			for range n {
				ts = append(ts, next())
			}
			src := e.AppendTimes([]byte("x"), ts)[1:]
			times, err := encoding.ParseTimes(src)
			if err != nil || times.Len() != n {
				t.Fatalf("%s: %d rows, want %d: %v", name, times.Len(), n, err)
			}
			from := r.IntN(n + 1)
			to := from + r.IntN(n-from+1)
			if got := times.AppendTo([]int64{42}, from, to); got[0] != 42 || !slices.Equal(got[1:], ts[from:to]) {
				t.Fatalf("%s: got\n%d\nwant\n%d\n% x", name, got, ts[from:to], src)
			}
			if n > 0 && (times.First() != ts[0] || times.Last() != ts[n-1]) {
				t.Fatalf("%s: from %d to %d, want %d to %d", name, times.First(), times.Last(), ts[0], ts[n-1])
			}
			checkSearch(t, &times, ts)
		}
	}
}

func checkSearch(t *testing.T, times *encoding.Times, ts []int64) {
	t.Helper()
	asked := []int64{math.MinInt64, math.MaxInt64, 0}
	for _, x := range ts {
		asked = append(asked, x-1, x, x+1)
	}
	for _, x := range asked {
		want, _ := slices.BinarySearch(ts, x)
		if got := times.Search(x); got != want {
			t.Fatalf("search %d: %d, want %d", x, got, want)
		}
	}
}

// A few bytes may not ask for much memory; so many rows take more bytes.
func TestManyRegularTimesComeBack(t *testing.T) {
	ts := make([]int64, 300_000)
	for i := range ts {
		ts[i] = int64(i) * 10
	}
	ts[1000]++
	var e encoding.Encoder
	times, err := encoding.ParseTimes(e.AppendTimes(nil, ts))
	if err != nil || !slices.Equal(times.AppendTo(nil, 0, len(ts)), ts) {
		t.Fatalf("%d rows, %v", times.Len(), err)
	}
}

// An Encoder that has seen columns of a size, and a decoder with room, allocate nothing for the next ones; more patches than
// there is room for on the stack do.
func TestColumnsTakeNoMemoryOfTheirOwn(t *testing.T) {
	all := host(rand.New(rand.NewPCG(1, 2)), 240)
	var e encoding.Encoder
	pages := make([][]byte, len(all))
	dst := make([]float64, 0, 1000)
	buf := make([]byte, 0, 10_000)
	work := func() {
		for i, v := range all {
			pages[i] = e.AppendValues(pages[i][:0], v, all[max(i-3, 0):i])
			buf = e.AppendValues(buf[:0], v, nil)
			if _, err := encoding.DecodeValues(dst[:0], buf, len(v), 0, len(v), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	work()
	if n := testing.AllocsPerRun(5, work); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}
