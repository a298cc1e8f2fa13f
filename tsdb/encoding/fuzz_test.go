// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// checkHostile reads src as a column of every type. It must not panic, and either answer the rows that were asked for
// or a *CorruptError; part of the rows must equal those of the whole.
func checkHostile(t *testing.T, src []byte, n, from, to int) {
	t.Helper()
	other := make([]float64, n)
	for i := range other {
		other[i] = float64(i * i)
	}
	ref := func(int) ([]float64, error) { return other, nil }
	check := func(kind string, got int, err error) bool {
		var c *encoding.CorruptError
		if err != nil && (!errors.As(err, &c) || got != 0) {
			t.Fatalf("%s: %d rows, %v", kind, got, err)
		}
		return err == nil
	}
	v, err := encoding.DecodeValues(nil, src, n, 0, n, ref)
	if check("values", len(v), err) {
		part, err := encoding.DecodeValues(nil, src, n, from, to, ref)
		if err != nil || !slices.EqualFunc(part, v[from:to], sameBits) {
			t.Fatalf("values [%d,%d) of %d: %v\n%v\n%v", from, to, n, err, part, v)
		}
	}
	x, err := encoding.DecodeInts(nil, src, n, 0, n)
	if check("integers", len(x), err) {
		part, err := encoding.DecodeInts(nil, src, n, from, to)
		if err != nil || !slices.Equal(part, x[from:to]) {
			t.Fatalf("integers [%d,%d) of %d: %v\n%v\n%v", from, to, n, err, part, x)
		}
	}
	times, err := encoding.ParseTimes(src)
	if check("times", times.Len(), err) && times.Len() <= 1<<17 {
		ts := times.AppendTo(nil, 0, times.Len())
		for i := range ts {
			if i > 0 && ts[i] <= ts[i-1] {
				t.Fatalf("times %d", ts)
			}
			if got := times.Search(ts[i]); got != i {
				t.Fatalf("row %d found at %d", i, got)
			}
		}
	}
	encoding.ValueRef(src)
}

// seeds returns a column of each shape.
func seeds(r *rand.Rand) (all [][]byte) {
	var e encoding.Encoder
	for _, s := range slices.Concat(hostShapes, oddShapes) {
		v := s.column(r, 100)
		w := s.column(r, 100)
		for i := range w {
			w[i] += v[i]
		}
		all = append(all, e.AppendValues(nil, v, nil), e.AppendValues(nil, w, [][]float64{v}))
		x := make([]int64, len(v))
		for i, f := range v {
			x[i] = int64(math.Float64bits(f))
		}
		all = append(all, e.AppendInts(nil, x))
	}
	for _, next := range timeShapes {
		f := next(r)
		var ts []int64
		for range 100 {
			ts = append(ts, f())
		}
		all = append(all, e.AppendTimes(nil, ts))
	}
	return all
}

func TestHostileBytesAreRefusedOrRead(t *testing.T) {
	r := newRand(t)
	all := seeds(r)
	for range 60_000 {
		src := slices.Clone(all[r.IntN(len(all))])
		for range 1 + r.IntN(3) {
			switch r.IntN(3) {
			case 0:
				src[r.IntN(len(src))] = byte(r.Uint32())
			case 1:
				src[r.IntN(min(8, len(src)))] ^= 1 << r.IntN(8)
			default:
				src = src[:1+r.IntN(len(src))]
			}
		}
		n := []int{100, 99, 101, r.IntN(300)}[r.IntN(4)]
		from := r.IntN(n + 1)
		checkHostile(t, src, n, from, from+r.IntN(n-from+1))
	}
}

// Bytes behind a column are refused, or make it another column: a constant of more bytes, or Huffman codes, which begin at
// the end.
func TestBytesBehindAColumnAreRefused(t *testing.T) {
	r := newRand(t)
	const n = 100
	var e encoding.Encoder
	refused := 0
	check := func(what string, src []byte, decode func(src []byte) ([]int64, error)) {
		t.Helper()
		want, err := decode(src)
		if err != nil || len(want) != n {
			t.Fatalf("%s: %d rows, %v", what, len(want), err)
		}
		for _, more := range [][]byte{{0}, {1}, {0xff}, make([]byte, 9)} {
			got, err := decode(slices.Concat(src, more))
			if err == nil && slices.Equal(got, want) {
				t.Errorf("%s, first bytes %x: behind it % x is not refused", what, src[:min(2, len(src))], more)
			}
			if err != nil {
				refused++
			}
		}
	}
	ints := func(src []byte) ([]int64, error) { return encoding.DecodeInts(nil, src, n, 0, n) }
	times := func(src []byte) ([]int64, error) {
		ts, err := encoding.ParseTimes(src)
		return ts.AppendTo(nil, 0, ts.Len()), err
	}
	values := func(other []float64) func([]byte) ([]int64, error) {
		return func(src []byte) (bits []int64, err error) {
			v, err := encoding.DecodeValues(nil, src, n, 0, n, func(int) ([]float64, error) { return other, nil })
			for _, f := range v {
				bits = append(bits, int64(math.Float64bits(f)))
			}
			return bits, err
		}
	}
	for range 20 {
		for _, s := range slices.Concat(hostShapes, oddShapes) {
			v, w := s.column(r, n), s.column(r, n)
			for i := range w {
				w[i] += v[i]
			}
			check(s.name, e.AppendValues(nil, v, nil), values(nil))
			check(s.name+" by another", e.AppendValues(nil, w, [][]float64{v}), values(v))
			check(s.name+" again", e.AppendValues(nil, v, [][]float64{v}), values(v))
			x, shift := make([]int64, n), r.IntN(60)
			for i, f := range v {
				x[i] = int64(math.Float64bits(f)) >> shift
			}
			check(s.name+" as integers", e.AppendInts(nil, x), ints)
		}
		for what, next := range timeShapes {
			f := next(r)
			ts := make([]int64, n)
			for i := range ts {
				ts[i] = f()
			}
			check(what, e.AppendTimes(nil, ts), times)
		}
	}
	if refused < 1000 {
		t.Errorf("%d columns refused", refused)
	}
}

// Hostile bytes get memory for the rows that were asked for, and columns of times, which say themselves how many they have,
// for what their bytes allow.
func TestHostileBytesGetLittleMemory(t *testing.T) {
	r := newRand(t)
	all := seeds(r)
	const n, most = 100, 32 << 10
	took := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	ref := func(int) ([]float64, error) { return make([]float64, n), nil }
	for range 1000 {
		src := slices.Clone(all[r.IntN(len(all))])
		src[r.IntN(min(16, len(src)))] = byte(r.Uint32())
		if b := took(func() { _, _ = encoding.DecodeValues(nil, src, n, 0, n, ref) }); b > most {
			t.Errorf("values: %d bytes for % x", b, src)
		}
		if b := took(func() { _, _ = encoding.DecodeInts(nil, src, n, 0, n) }); b > most {
			t.Errorf("integers: %d bytes for % x", b, src)
		}
		if b := took(func() { _, _ = encoding.ParseTimes(src) }); b > 4*8*uint64(1<<14+len(src)<<10) {
			t.Errorf("times: %d bytes for % x", b, src)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range seeds(rand.New(rand.NewPCG(5, 6))) {
		f.Add(s, uint16(100), uint16(10), uint16(50))
	}
	f.Fuzz(func(t *testing.T, src []byte, n, from, to uint16) {
		from, to = min(from, n), min(to, n)
		checkHostile(t, src, int(n), int(min(from, to)), int(max(from, to)))
	})
}

// FuzzEncode reads its input as doubles, as integers, and as the steps between times.
func FuzzEncode(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, s := range slices.Concat(hostShapes, oddShapes) {
		var b []byte
		for _, v := range s.column(r, 60) {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v []float64
		var x, ts []int64
		last := int64(math.MinInt64)
		for ; len(b) >= 8; b = b[8:] {
			u := binary.LittleEndian.Uint64(b)
			v, x = append(v, math.Float64frombits(u)), append(x, int64(u))
			if step := int64(u>>16) + 1; last+step > last {
				last += step
				ts = append(ts, last)
			}
		}
		var e encoding.Encoder
		r := rand.New(rand.NewPCG(9, uint64(len(v))))
		half := len(v) / 2
		checkValues(t, &e, r, v, nil)
		checkValues(t, &e, r, v[half:half+half], [][]float64{v[:half]})
		got, err := encoding.DecodeInts(nil, e.AppendInts(nil, x), len(x), 0, len(x))
		if err != nil || !slices.Equal(got, x) {
			t.Fatalf("%v: got %d, want %d", err, got, x)
		}
		times, err := encoding.ParseTimes(e.AppendTimes(nil, ts))
		if err != nil || !slices.Equal(times.AppendTo(nil, 0, times.Len()), ts) {
			t.Fatalf("%v: want %d", err, ts)
		}
	})
}
