// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/facette/natsort"

	"github.com/tidemarkdb/tidemark/query/operator"
)

func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// numbers are floats of all sizes: any bits, small whole numbers, and neighbours of multiples of each other.
func numbers(r *rand.Rand, n int) [][2]float64 {
	special := []float64{0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), math.NaN(), 5e-324, math.MaxFloat64, 1 << 53, 2}
	one := func() float64 {
		switch r.IntN(5) {
		case 0:
			return special[r.IntN(len(special))]
		case 1:
			return float64(r.IntN(2000) - 1000)
		case 2:
			return r.NormFloat64() * math.Pow(10, float64(r.IntN(30)-15))
		default:
			return math.Float64frombits(r.Uint64())
		}
	}
	out := make([][2]float64, n)
	for i := range out {
		x, y := one(), one()
		if r.IntN(3) == 0 {
			x = y * float64(r.IntN(1<<30))
		}
		if r.IntN(3) == 0 {
			x = math.Nextafter(x, one())
		}
		out[i] = [2]float64{x, y}
	}
	return out
}

func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}

func TestFastArithmeticIsBitForBitThatOfPackageMath(t *testing.T) {
	check := func(name string, fast, exact func(x, y float64) float64, x, y float64) {
		t.Helper()
		if got, want := fast(x, y), exact(x, y); !same(got, want) {
			t.Fatalf("%s(%v, %v) = %v, want %v", name, x, y, got, want)
		}
	}
	for _, p := range numbers(random(t), 100_000) {
		check("mod", mod, math.Mod, p[0], p[1])
		check("pow", pow, math.Pow, p[0], 2)
	}
}

func TestDatesAreThoseOfPackageTime(t *testing.T) {
	r := random(t)
	names := []string{"minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"}
	check := func(sec int64) {
		t.Helper()
		for _, name := range names {
			if got, want := date(name)(sec), ofTime(name)(time.Unix(sec, 0).UTC()); got != want {
				t.Fatalf("%s(%d) = %v, want %v", name, sec, got, want)
			}
		}
	}
	for day := int64(-80_000); day < 80_000; day++ { // more than two hundred years to both sides
		check(day * secondsPerDay)
		check(day*secondsPerDay - 1)
	}
	for range 20_000 {
		check(r.Int64N(2*common) - common)
	}
	for _, sec := range []int64{common, -common, common - 1, 1 - common, math.MinInt64, math.MaxInt64} {
		check(sec)
	}
}

func TestNaturalOrderIsThatOfNatsort(t *testing.T) {
	r := random(t)
	pieces := []string{"", "0", "1", "01", "10", "9", "a", "b", "B", "-", "é", "\xff", " ", "99999999999999999999", "x1y"}
	text := func() string {
		var b strings.Builder
		for range r.IntN(5) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return b.String()
	}
	for range 50_000 {
		a, b := text(), text()
		if got, want := naturalLess(a, b), natsort.Compare(a, b); got != want {
			t.Fatalf("naturalLess(%q, %q) = %v, want %v", a, b, got, want)
		}
	}
}

// heap is what Prometheus sorts: the reverse of the order wanted, with NaN before everything.
type heap struct {
	rows []placed
	desc bool
}

func (h heap) Len() int      { return len(h.rows) }
func (h heap) Swap(i, j int) { h.rows[i], h.rows[j] = h.rows[j], h.rows[i] }
func (h heap) Less(i, j int) bool {
	a, b := h.rows[i].v, h.rows[j].v
	if math.IsNaN(a) {
		return true
	}
	if h.desc {
		return a < b
	}
	return a > b
}

func TestEqualValuesAreSortedAsPackageSortDoes(t *testing.T) {
	r := random(t)
	for range 2000 {
		rows := make([]placed, r.IntN(300))
		distinct := 1 + r.IntN(50)
		for i := range rows {
			rows[i] = placed{v: float64(r.IntN(distinct)), place: uint32(i)}
			if r.IntN(20) == 0 {
				rows[i].v = math.NaN()
			}
		}
		if r.IntN(4) == 0 {
			slices.SortStableFunc(rows, func(a, b placed) int { return int(a.v) - int(b.v) })
		}
		desc := r.IntN(2) == 0
		want := heap{rows: slices.Clone(rows), desc: desc}
		sort.Sort(sort.Reverse(want))
		sortValues(&operator.Env{}, rows, desc)
		for i := range rows {
			if rows[i].place != want.rows[i].place {
				t.Fatalf("%d rows, desc=%v: place %d has row %d, want %d", len(rows), desc, i, rows[i].place, want.rows[i].place)
			}
		}
	}
}

func TestBuildKnowsItsFunctionsAndRefusesOthers(t *testing.T) {
	refused := func(c Call) {
		t.Helper()
		if _, err := Build(nil, c); err == nil || !strings.HasPrefix(err.Error(), "function: ") {
			t.Errorf("%s: %v", c.Func, err)
		}
	}
	refused(Call{Func: "rate"})
	refused(Call{Func: "abs"})
	refused(Call{Func: "clamp"})
	refused(Call{Func: "label_replace", Texts: []string{"a"}})
	refused(Call{Func: "vector"})
}
