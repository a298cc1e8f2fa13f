// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"
)

// sumKernel is sum_over_time.
func sumKernel(f *frame) error { return addKernel(f, sumWindow, sumOf) }

// avgKernel is avg_over_time.
func avgKernel(f *frame) error { return addKernel(f, avgWindow, avgOf) }

// sumOf makes the result out of a sum, in two parts.
func sumOf(sum, rest float64, _ int) float64 { return sum + rest }

func avgOf(sum, rest float64, n int) float64 { return sum/float64(n) + rest/float64(n) }

// addKernel is sum_over_time and avg_over_time on the rung that suits the series: window computes one window by
// itself, of makes a result out of the sum of one.
func addKernel(f *frame, window func([]float64) float64, of func(sum, rest float64, n int) float64) error {
	f.mark()
	rung := f.node.call.Rung
	if rung == Sequential || rung == Adaptive && f.visits <= 2*len(f.v) {
		return f.addEach(window)
	}
	sums, ok, err := f.integerSums()
	if err != nil {
		return err
	}
	if ok {
		for i, l := range f.lo {
			if h := f.hi[i]; l < h {
				f.out[i] = of(sums[h]-sums[l], 0, int(h-l))
			}
		}
		return nil
	}
	if !f.long() {
		return f.addEach(window)
	}
	p, err := f.prefixSums()
	if err != nil {
		return err
	}
	return f.addPrefixes(&p, window, of)
}

const (
	// longOverlap is in how many windows a sample has to be before sums that may differ in the last bit are taken.
	longOverlap = 8
	// longWindow is how many samples the windows have to have for that.
	longWindow = 64
)

// addEach computes each window by itself.
func (f *frame) addEach(window func([]float64) float64) error {
	var pl, ph int32
	var x float64
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		if l != pl || h != ph {
			pl, ph, x = l, h, window(f.v[l:h])
			if err := f.spend(int(h - l)); err != nil {
				return err
			}
		}
		f.out[i] = x
	}
	return nil
}

// integerSums returns the sums of all samples before each one, where they are integers whose sum of magnitudes stays
// below 2^53: then every sum of some of them is exact in whatever order it is made.
func (f *frame) integerSums() ([]float64, bool, error) {
	p, err := room(&f.scratch.memory, f.scratch.sum, len(f.v)+1, 8)
	if err != nil {
		return nil, false, err
	}
	f.scratch.sum = p
	var sum, total float64
	p[0] = 0
	for i, x := range f.v {
		if float64(int64(x)) != x {
			return nil, false, nil
		}
		sum += x
		total += math.Abs(x)
		p[i+1] = sum
	}
	return p, total < 1<<53, nil
}

// sumWindow adds up a window as Prometheus does: compensated for what each addition rounds away.
func sumWindow(v []float64) float64 {
	var sum, rest float64
	for _, x := range v {
		t := sum + x
		b := t - sum
		rest += (sum - (t - b)) + (x - b)
		sum = t
	}
	if s := sum + rest; s-s == 0 {
		return s
	}
	// There was an infinity, a NaN, or a sum beyond what a float holds.
	sum, rest = 0, 0
	for _, x := range v {
		sum, rest = kahansum.Inc(x, sum, rest)
	}
	if math.IsInf(sum, 0) {
		return sum
	}
	return sum + rest
}

// avgWindow averages a window as Prometheus does: the sum divided, or where that is too large for a float a running
// mean.
func avgWindow(v []float64) float64 {
	sum, rest := v[0], 0.0
	for _, x := range v[1:] {
		t := sum + x
		b := t - sum
		rest += (sum - (t - b)) + (x - b)
		sum = t
	}
	n := float64(len(v))
	if s := sum + rest; s-s == 0 {
		return sum/n + rest/n
	}
	return avgCarefully(v)
}

func avgCarefully(v []float64) float64 {
	sum, rest := v[0], 0.0
	for i, x := range v[1:] {
		s, r := kahansum.Inc(x, sum, rest)
		if math.IsInf(s, 0) {
			return runningMean(v, i+1, sum, rest)
		}
		sum, rest = s, r
	}
	n := float64(len(v))
	return sum/n + rest/n
}

// runningMean averages v, of which the sum of the first n is given.
func runningMean(v []float64, n int, sum, rest float64) float64 {
	count := float64(n)
	mean := sum / count
	rest /= count
	for _, x := range v[n:] {
		count++
		q := (count - 1) / count
		mean, rest = kahansum.Inc(x/count, float64(q*mean), float64(q*rest))
	}
	return mean + rest
}
