// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/util/kahansum"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// naive is what a function gives for one window, without any trick; false: nothing.
type naive func(t []int64, v []float64, start, end int64, args []float64) (float64, bool)

var naives = map[string]naive{
	"sum_over_time": func(_ []int64, v []float64, _, _ int64, _ []float64) (float64, bool) {
		var sum, c float64
		for _, x := range v {
			sum, c = kahansum.Inc(x, sum, c)
		}
		if math.IsInf(sum, 0) {
			return sum, true
		}
		return sum + c, true
	},
	"max_over_time": func(_ []int64, v []float64, _, _ int64, _ []float64) (float64, bool) {
		m := math.NaN()
		for _, x := range v {
			if x > m || math.IsNaN(m) {
				m = x
			}
		}
		return m, true
	},
	"min_over_time": func(_ []int64, v []float64, _, _ int64, _ []float64) (float64, bool) {
		m := math.NaN()
		for _, x := range v {
			if x < m || math.IsNaN(m) {
				m = x
			}
		}
		return m, true
	},
	"ts_of_max_over_time": func(t []int64, v []float64, _, _ int64, _ []float64) (float64, bool) {
		m, at := v[0], t[0]
		for i, x := range v {
			if x >= m || math.IsNaN(m) {
				m, at = x, t[i]
			}
		}
		return float64(at) / 1000, true
	},
	"ts_of_min_over_time": func(t []int64, v []float64, _, _ int64, _ []float64) (float64, bool) {
		m, at := v[0], t[0]
		for i, x := range v {
			if x <= m || math.IsNaN(m) {
				m, at = x, t[i]
			}
		}
		return float64(at) / 1000, true
	},
	"changes": func(_ []int64, v []float64, _, _ int64, _ []float64) (float64, bool) {
		n := 0
		for i := 1; i < len(v); i++ {
			if v[i] != v[i-1] && !(math.IsNaN(v[i]) && math.IsNaN(v[i-1])) {
				n++
			}
		}
		return float64(n), true
	},
	"resets": func(_ []int64, v []float64, _, _ int64, _ []float64) (float64, bool) {
		n := 0
		for i := 1; i < len(v); i++ {
			if v[i] < v[i-1] {
				n++
			}
		}
		return float64(n), true
	},
	"increase": naiveIncrease,
	"quantile_over_time": func(_ []int64, v []float64, _, _ int64, args []float64) (float64, bool) {
		return naiveQuantile(args[0], v), true
	},
	"mad_over_time": func(_ []int64, v []float64, _, _ int64, _ []float64) (float64, bool) {
		if slices.ContainsFunc(v, math.IsNaN) {
			return math.NaN(), true
		}
		median := naiveQuantile(0.5, v)
		far := make([]float64, len(v))
		for i, x := range v {
			far[i] = math.Abs(x - median)
		}
		return naiveQuantile(0.5, far), true
	},
}

func naiveQuantile(q float64, v []float64) float64 {
	s := slices.SortedFunc(slices.Values(v), cmp.Compare)
	r := q * float64(len(s)-1)
	l := math.Floor(r)
	w := r - l
	u := min(int(l)+1, len(s)-1)
	return float64(s[int(l)]*(1-w)) + float64(s[u]*w)
}

// naiveIncrease extrapolates as Prometheus does, with nothing remembered between windows.
func naiveIncrease(t []int64, v []float64, start, end int64, _ []float64) (float64, bool) {
	n := len(v) - 1
	if n < 1 {
		return 0, false
	}
	result := v[n] - v[0]
	for i, x := range v[1:] {
		if x < v[i] {
			result += v[i]
		}
	}
	toStart, toEnd := float64(t[0]-start)/1000, float64(end-t[n])/1000
	interval := float64(t[n]-t[0]) / 1000
	average := interval / float64(n)
	if toStart >= average*1.1 {
		toStart = average / 2
	}
	if result > 0 && v[0] >= 0 {
		toStart = min(toStart, interval*(v[0]/result))
	}
	if toEnd >= average*1.1 {
		toEnd = average / 2
	}
	return result * ((interval + toStart + toEnd) / interval), true
}

// kernelCase is one series under one set of windows.
type kernelCase struct {
	t    []int64
	v    []float64
	w    operator.Windows
	args []float64
}

func (k kernelCase) check(t testing.TB, name string, reference naive) {
	t.Helper()
	fn, ok := functionOf(name)
	if !ok {
		t.Fatalf("%s is unknown", name)
	}
	account := budget.NewRoot("test", math.MaxInt64)
	n := &node{env: &operator.Env{Account: account}, call: Call{Func: name, Rung: Sequential}, fn: fn, windows: k.w}
	for range fn.args {
		n.args = append(n.args, k.args)
	}
	var f frame
	f.init(n)
	if err := f.load(k.t, nil, k.v); err != nil {
		t.Fatal(err)
	}
	out, kind := make([]float64, k.w.Grid.N), make([]vector.Kind, k.w.Grid.N)
	f.begin(0, out, kind)
	if err := fn.floats(&f); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		end := k.w.At(i)
		start := end - k.w.Range
		lo, _ := slices.BinarySearch(k.t, start+1)
		hi, _ := slices.BinarySearch(k.t, end+1)
		var want float64
		present := lo < hi
		if present {
			args := []float64{0}
			if fn.args > 0 {
				args[0] = k.args[i]
			}
			want, present = reference(k.t[lo:hi], k.v[lo:hi], start, end, args)
		}
		if (kind[i] == vector.Float) != present {
			t.Fatalf("%s, step %d: kind %d, want a value: %v", name, i, kind[i], present)
		}
		if present && out[i] != want && !(math.IsNaN(out[i]) && math.IsNaN(want)) {
			t.Fatalf("%s, step %d: %v, want %v, of %v", name, i, out[i], want, k.v[lo:hi])
		}
	}
	f.release()
	if used := account.Used(); used != 0 {
		t.Fatalf("%s: %d bytes charged after the end", name, used)
	}
}

// FuzzKernelsEqualOneWindowAtATime makes series and windows out of bytes: two of them are a sample.
func FuzzKernelsEqualOneWindowAtATime(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		data := make([]byte, 2+r.IntN(400))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data, uint16(r.Uint32()), uint16(r.Uint32()), int16(r.Uint32()))
	}
	special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0, 1e308, -1e308, 5e-324, 0.1, 1e17}
	f.Fuzz(func(t *testing.T, data []byte, length, step uint16, start int16) {
		k := kernelCase{w: operator.Windows{
			Grid:  vector.Grid{Start: int64(start), Step: int64(step), N: 1 + len(data)%90},
			Start: int64(start), Step: int64(step), Range: int64(length) + 1,
		}}
		at := int64(0)
		for i := 0; i+1 < len(data); i += 2 {
			at += 1 + int64(data[i])*int64(1+data[0]%9)
			x := float64(int8(data[i+1]))
			if n := int(data[i+1]) % 23; n < len(special) && data[0]%2 == 0 {
				x = special[n]
			}
			k.t, k.v = append(k.t, at), append(k.v, x)
		}
		for i := range k.w.Grid.N {
			k.args = append(k.args, float64(i%11)/10)
		}
		for name, reference := range naives {
			k.check(t, name, reference)
		}
	})
}

func TestWindowEdgesAreThoseOfASearch(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		var times []int64
		at := r.Int64N(50) - 25
		for range r.IntN(60) {
			at += 1 + r.Int64N(1+r.Int64N(40))
			times = append(times, at)
		}
		dst := make([]int32, 1+r.IntN(50))
		from, step := r.Int64N(200)-100, r.Int64N(60)
		edges(dst, times, from, step)
		for i, got := range dst {
			want, _ := slices.BinarySearch(times, from+int64(i)*step+1)
			if int(got) != want {
				t.Fatalf("seed %d: edge %d of %v from %d by %d: %d, want %d", seed, i, times, from, step, got, want)
			}
		}
	}
}

func TestKeysOrderAsFloatsDo(t *testing.T) {
	ordered := []float64{
		math.NaN(), math.Inf(-1), -math.MaxFloat64, -1, -5e-324, math.Copysign(0, -1), 0, 5e-324, 1, math.MaxFloat64, math.Inf(1),
	}
	for i, x := range ordered {
		if back := valueOf(keyOf(x)); math.Float64bits(back) != math.Float64bits(x) && !math.IsNaN(x) {
			t.Errorf("%v came back as %v", x, back)
		}
		if i > 0 && keyOf(ordered[i-1]) >= keyOf(x) {
			t.Errorf("%v is not before %v", ordered[i-1], x)
		}
	}
}

func TestAFallInAnyPartOfAHistogramIsAReset(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	make1 := func() *histogram.FloatHistogram {
		n := func() float64 { return float64(10 + r.IntN(2)) }
		return &histogram.FloatHistogram{
			Schema: 1, Count: 50 + n(), ZeroThreshold: 0.01, ZeroCount: n(), Sum: n(),
			CounterResetHint: histogram.CounterResetHint(r.IntN(4)),
			PositiveSpans:    []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{n(), n()},
			NegativeSpans: []histogram.Span{{Offset: 2, Length: 1}}, NegativeBuckets: []float64{n()},
		}
	}
	resets := 0
	for range 2000 {
		prev, h := make1(), make1()
		if !plainLayout(h) || !sameLayout(prev, h) {
			t.Fatalf("%v and %v have one plain layout", prev, h)
		}
		want := h.DetectReset(prev)
		if got := fell(h, prev); got != want {
			t.Fatalf("seed %d: %v after %v: reset %v, want %v", seed, h, prev, got, want)
		}
		if want {
			resets++
		}
	}
	if resets < 100 || resets > 1900 {
		t.Errorf("%d of 2000 pairs were resets", resets)
	}
}
