// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"
	"slices"

	"github.com/tidemarkdb/tidemark/query/operator"
)

// quantileKernel is quantile_over_time.
func quantileKernel(f *frame) error {
	f.mark()
	s := sorted{f: f}
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		q := f.args[0][i]
		if math.IsNaN(q) || q < 0 || q > 1 {
			f.noteQuantile(q)
		}
		switch {
		case math.IsNaN(q):
			f.out[i] = math.NaN()
		case q < 0:
			f.out[i] = math.Inf(-1)
		case q > 1:
			f.out[i] = math.Inf(1)
		default:
			if err := s.move(int(l), int(h)); err != nil {
				return err
			}
			f.out[i] = s.quantile(q)
			if f.out[i] == 0 && s.bothZeros() {
				var err error
				if f.out[i], err = s.zeroQuantile(q); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// bothZeros tells whether there is a 0 and a -0 among the values.
func (s *sorted) bothZeros() bool {
	i, negative := slices.BinarySearch(s.keys, keyOf(math.Copysign(0, -1)))
	_, positive := slices.BinarySearch(s.keys[i:], keyOf(0))
	return negative && positive
}

// zeroQuantile is quantile where its sign depends on which of a 0 and a -0 comes first. To Prometheus they are equal, so
// they are put in its order by asking the same questions of the same algorithm; a NaN comes before even another NaN.
func (s *sorted) zeroQuantile(q float64) (float64, error) {
	values, err := room(&s.f.scratch.memory, s.f.scratch.distances, s.len(), 8)
	if err != nil {
		return 0, err
	}
	s.f.scratch.distances = values
	for i, x := range s.f.v[s.l:s.h] {
		values[i] = math.Float64bits(x)
	}
	slices.SortFunc(values, operator.Until(s.f.env, func(a, b uint64) int {
		if x := math.Float64frombits(a); math.IsNaN(x) || x < math.Float64frombits(b) {
			return -1
		}
		return 0
	}))
	if err := s.f.env.Check(); err != nil {
		return 0, err
	}
	l, u, weight := rank(q, len(values))
	lower, upper := math.Float64frombits(values[l]), math.Float64frombits(values[u])
	return float64(lower*(1-weight)) + float64(upper*weight), s.f.spend(len(values))
}

// madKernel is mad_over_time: the median of how far the samples are from their median.
func madKernel(f *frame) error {
	f.mark()
	s := sorted{f: f}
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		err := s.move(int(l), int(h))
		if err != nil {
			return err
		}
		// NaN is sorted to the front.
		if x := s.at(0); math.IsNaN(x) {
			f.out[i] = x
			continue
		}
		if math.IsInf(s.at(0), 0) || math.IsInf(s.at(s.len()-1), 0) {
			if f.out[i], err = s.infiniteDeviation(); err != nil {
				return err
			}
			continue
		}
		f.out[i] = s.deviation()
	}
	return nil
}

// infiniteDeviation is deviation for values with infinities among them: one may be no number away from the median.
func (s *sorted) infiniteDeviation() (float64, error) {
	median := s.quantile(0.5)
	keys, err := room(&s.f.scratch.memory, s.f.scratch.distances, s.len(), 8)
	if err != nil {
		return 0, err
	}
	s.f.scratch.distances = keys
	for i := range keys {
		keys[i] = keyOf(math.Abs(s.at(i) - median))
	}
	if err := s.f.order(keys); err != nil {
		return 0, err
	}
	d := sorted{keys: keys}
	return d.quantile(0.5), s.f.spend(len(keys))
}

// rank returns which two of n sorted values make up a quantile, and the weight of the second.
func rank(q float64, n int) (lower, upper int, weight float64) {
	r := float64(q * float64(n-1))
	floor := math.Floor(r)
	l := math.Max(0, floor)
	return int(l), int(math.Min(float64(n-1), l+1)), r - floor
}

func (s *sorted) quantile(q float64) float64 {
	l, u, weight := rank(q, s.len())
	return float64(s.at(l)*(1-weight)) + float64(s.at(u)*weight)
}

// deviation returns the median distance from the median. To the left of the median distances rise backwards, to the
// right forwards: two sorted lists, of which the middle is taken.
func (s *sorted) deviation() float64 {
	n := s.len()
	median := s.quantile(0.5)
	right := s.firstAbove(median) // values before it are at most the median
	l, u, weight := rank(0.5, n)
	a := s.distance(median, right, l)
	b := a
	if u != l {
		b = s.distance(median, right, u)
	}
	return float64(a*(1-weight)) + float64(b*weight)
}

// distance returns the k-th smallest distance from median; right is the first value greater than it.
func (s *sorted) distance(median float64, right, k int) float64 {
	n := s.len()
	// Take i from the left list and k-i from the right one: the least i for which the next on the left is no less
	// than the last taken on the right.
	lo, hi := max(0, k-(n-right)), min(k, right)
	for lo < hi {
		i := (lo + hi) / 2
		// i on the left are too few if the next of them is less than the last taken on the right.
		if math.Abs(s.at(right-1-i)-median) < math.Abs(s.at(right+k-i-1)-median) {
			lo = i + 1
		} else {
			hi = i
		}
	}
	d := math.Inf(1)
	if lo < right {
		d = math.Abs(s.at(right-1-lo) - median)
	}
	if k-lo < n-right {
		d = math.Min(d, math.Abs(s.at(right+k-lo)-median))
	}
	return d
}
