// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"math"
	"math/rand/v2"
)

// A shape makes series as exporters do.
type shape struct {
	name string
	part int // how many series of it a host has
	make func(r *rand.Rand) func() float64
}

// hostShapes is the mix of series that the storage is measured with.
var hostShapes = []shape{
	{"counter", 114, counter},
	{"seconds", 63, seconds},
	{"pages", 27, pages},
	{"percent", 3, percent},
	{"double", 20, double},
	{"rare", 141, rare},
	{"constant", 59, constantShape},
}

// counter counts at a rate that changes every 50 scrapes or so, over four decades.
func counter(r *rand.Rand) func() float64 {
	v, rate := math.Floor(r.Float64()*1e9), math.Exp(1+10*r.Float64())
	return func() float64 {
		if r.Float64() < 0.02 {
			rate = math.Exp(1 + 10*r.Float64())
		}
		v += math.Floor(rate * (0.7 + 0.6*r.Float64()))
		return v
	}
}

// seconds counts in hundredths.
func seconds(r *rand.Rand) func() float64 {
	v, rate := math.Round(r.Float64()*1e7)/100, 15*r.Float64()
	return func() float64 {
		if r.Float64() < 0.02 {
			rate = 15 * r.Float64()
		}
		v = math.Round((v+rate*(0.8+0.4*r.Float64()))*100) / 100
		return v
	}
}

func pages(r *rand.Rand) func() float64 {
	v := 4096 * math.Floor(r.Float64()*4e6)
	return func() float64 {
		v = max(v+4096*math.Floor((r.Float64()-0.5)*2000), 0)
		return v
	}
}

func percent(r *rand.Rand) func() float64 {
	v := math.Round(r.Float64()*1e4) / 100
	return func() float64 {
		v = math.Round(min(100, max(0, v+(r.Float64()-0.5)*6))*100) / 100
		return v
	}
}

// double walks at random with all the digits that there are.
func double(r *rand.Rand) func() float64 {
	v, step := r.Float64()*100, r.Float64()
	return func() float64 {
		v += (r.Float64() - 0.5) * step
		return v
	}
}

func rare(r *rand.Rand) func() float64 {
	v := math.Floor(r.Float64() * 1000)
	return func() float64 {
		if r.Float64() < 0.03 {
			v += math.Ceil(r.Float64() * 3)
		}
		return v
	}
}

func constantShape(r *rand.Rand) func() float64 {
	v := []float64{1, 1, 0, 8, 1.73e9}[r.IntN(5)]
	return func() float64 { return v }
}

// oddShapes are not part of a host, but of tests.
var oddShapes = []shape{
	{"affine", 1, func(r *rand.Rand) func() float64 {
		v, step := math.Floor(r.NormFloat64()*1e6), math.Floor(r.NormFloat64()*100)
		return func() float64 { v += step; return v }
	}},
	{"poisson", 1, func(r *rand.Rand) func() float64 {
		v := 0.0
		return func() float64 { v += 150 + math.Round(r.NormFloat64()*12); return v }
	}},
	{"bursts", 1, func(r *rand.Rand) func() float64 {
		v := 0.0
		return func() float64 { v += math.Floor(math.Exp(r.NormFloat64() * 4)); return v }
	}},
	{"sum", 1, func(r *rand.Rand) func() float64 {
		v := 0.0
		return func() float64 { v += r.ExpFloat64(); return v }
	}},
	{"cents", 1, func(r *rand.Rand) func() float64 {
		v := 0.0
		return func() float64 { v += 0.01 * float64(r.IntN(20)); return v }
	}},
	{"thousandths", 1, func(r *rand.Rand) func() float64 {
		v := r.IntN(1e6)
		return func() float64 { v += r.IntN(1000); return float64(v) * 0.001 }
	}},
	{"nanoseconds", 1, func(r *rand.Rand) func() float64 {
		v := 0.0
		return func() float64 { v += float64(r.IntN(1e8)) / 1e9; return v }
	}},
	{"ratio", 1, func(r *rand.Rand) func() float64 { return r.Float64 }},
	{"signs", 1, func(r *rand.Rand) func() float64 { return func() float64 { return r.NormFloat64() } }},
	{"resets", 1, func(r *rand.Rand) func() float64 {
		v := 0.0
		return func() float64 {
			if v += float64(r.IntN(1000)); r.IntN(60) == 0 {
				v = 0
			}
			return v
		}
	}},
	{"stale", 1, func(r *rand.Rand) func() float64 {
		next := counter(r)
		return func() float64 {
			if r.IntN(40) == 0 {
				return math.Float64frombits(0x7ff0000000000002)
			}
			return next()
		}
	}},
	{"strange", 1, func(r *rand.Rand) func() float64 {
		all := []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0, 5e-324, -5e-324, math.MaxFloat64, 0.1, 1 << 53, 1<<53 + 2, 1e15, 1e-15}
		return func() float64 { return all[r.IntN(len(all))] }
	}},
	{"bits", 1, func(r *rand.Rand) func() float64 {
		return func() float64 { return math.Float64frombits(r.Uint64()) }
	}},
	{"decimals", 1, func(r *rand.Rand) func() float64 {
		scale := math.Pow10(r.IntN(16))
		return func() float64 { return math.Floor(r.Float64()*1e6) / scale }
	}},
	{"huge", 1, func(r *rand.Rand) func() float64 {
		return func() float64 { return math.Floor(r.NormFloat64() * 1e18) }
	}},
	{"flips", 1, func(r *rand.Rand) func() float64 {
		return func() float64 { return float64(r.IntN(2)) }
	}},
	{"minus zero", 1, func(r *rand.Rand) func() float64 {
		return func() float64 { return math.Copysign(0, float64(r.IntN(9)-1)) }
	}},
}

func (s shape) column(r *rand.Rand, n int) []float64 {
	next := s.make(r)
	v := make([]float64, n)
	for i := range v {
		v[i] = next()
	}
	return v
}

// host makes the series of one host.
func host(r *rand.Rand, n int) (all [][]float64) {
	for _, s := range hostShapes {
		for range s.part {
			all = append(all, s.column(r, n))
		}
	}
	return all
}
