// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/util/annotations"
)

// sumHistograms is sum_over_time of the windows that hold histograms only.
func sumHistograms(m *mixed) error { return m.addHistograms(false, sumOfHistograms) }

// avgHistograms is avg_over_time of the windows that hold histograms only.
func avgHistograms(m *mixed) error { return m.addHistograms(true, avgOfHistograms) }

// addHistograms computes each window by itself: the layout of buckets that results depends on all histograms of it.
func (m *mixed) addHistograms(avg bool, of func([]*histogram.FloatHistogram) (*histogram.FloatHistogram, bool, error)) error {
	if err := m.layouts(); err != nil {
		return err
	}
	for i, l := range m.h.lo {
		h := m.h.hi[i]
		if l >= h {
			continue
		}
		window := m.h.h[l:h]
		if err := m.f.spend(len(window) * histogramWork); err != nil {
			return err
		}
		if m.h.uniform(int(l), int(h)) {
			result, err := m.denseSum(window, avg)
			if err != nil {
				return err
			}
			if result != nil {
				if collide(window) {
					m.f.noteCollision()
				}
				m.share(i, result)
				continue
			}
		}
		result, reconciled, err := of(window)
		if err != nil {
			if isIncompatible(err) {
				m.f.noteSchemas()
			}
			continue
		}
		if collide(window) {
			m.f.noteCollision()
		}
		if reconciled {
			m.f.noteBounds(annotations.HistogramAgg)
		}
		if err := m.set(i, result); err != nil {
			return err
		}
	}
	return nil
}

// collide tells whether some histograms say that they are a counter reset and others that they are none.
func collide(window []*histogram.FloatHistogram) bool {
	var reset, not bool
	for _, h := range window {
		reset = reset || h.CounterResetHint == histogram.CounterReset
		not = not || h.CounterResetHint == histogram.NotCounterReset
	}
	return reset && not
}

// sumOfHistograms returns the sum of a window, and whether custom bounds had to be reconciled.
func sumOfHistograms(window []*histogram.FloatHistogram) (*histogram.FloatHistogram, bool, error) {
	sum, rest, reconciled, err := kahanSum(window)
	if err != nil || rest == nil {
		return sum, reconciled, err
	}
	_, _, r, err := sum.Add(rest)
	return sum, reconciled || r, err
}

// kahanSum returns the compensated sum of a window; rest is nil for a window of one.
func kahanSum(window []*histogram.FloatHistogram) (sum, rest *histogram.FloatHistogram, reconciled bool, err error) {
	sum = window[0].Copy()
	for _, h := range window[1:] {
		var r bool
		rest, _, r, err = sum.KahanAdd(h, rest)
		if err != nil {
			return sum, nil, reconciled, err
		}
		reconciled = reconciled || r
	}
	return sum, rest, reconciled, nil
}

// avgOfHistograms returns the mean of a window: the sum divided, or where that overflows a running mean.
func avgOfHistograms(window []*histogram.FloatHistogram) (*histogram.FloatHistogram, bool, error) {
	sum, rest, reconciled, err := kahanSum(window)
	if err != nil {
		return nil, false, err
	}
	// An overflow stays: what was infinite once is infinite or no number at the end.
	if !finite(sum) {
		return avgCarefullyOfHistograms(window)
	}
	n := float64(len(window))
	sum.Div(n)
	if rest != nil {
		_, _, _, err = sum.Add(rest.Div(n))
	}
	return sum, reconciled, err
}

func finite(h *histogram.FloatHistogram) bool {
	if x := h.ZeroCount + h.Count + h.Sum; x-x != 0 || h.HasOverflow() {
		return false
	}
	return !slices.ContainsFunc(h.PositiveBuckets, math.IsNaN) && !slices.ContainsFunc(h.NegativeBuckets, math.IsNaN)
}

// avgCarefullyOfHistograms looks for an overflow after each histogram, and goes on with a running mean from there.
func avgCarefullyOfHistograms(window []*histogram.FloatHistogram) (*histogram.FloatHistogram, bool, error) {
	sum := window[0].Copy()
	var rest *histogram.FloatHistogram
	reconciled := false
	for i, h := range window[1:] {
		next := sum.Copy()
		var nextRest *histogram.FloatHistogram
		if rest != nil {
			nextRest = rest.Copy()
		}
		nextRest, _, r, err := next.KahanAdd(h, nextRest)
		if err != nil {
			return next, reconciled, err
		}
		reconciled = reconciled || r
		if next.HasOverflow() {
			mean, r, err := runningMeanOfHistograms(window, i+1, sum, rest)
			return mean, reconciled || r, err
		}
		sum, rest = next, nextRest
	}
	n := float64(len(window))
	sum.Div(n)
	if rest == nil {
		return sum, reconciled, nil
	}
	_, _, _, err := sum.Add(rest.Div(n))
	return sum, reconciled, err
}

// runningMeanOfHistograms averages a window of which the sum of the first n is given.
func runningMeanOfHistograms(window []*histogram.FloatHistogram, n int, sum, rest *histogram.FloatHistogram) (*histogram.FloatHistogram, bool, error) {
	count := float64(n)
	mean := sum.Div(count)
	if rest != nil {
		rest.Div(count)
	}
	reconciled := false
	for _, h := range window[n:] {
		count++
		q := (count - 1) / count
		if rest != nil {
			rest.Mul(q)
		}
		var r bool
		var err error
		rest, _, r, err = mean.Mul(q).KahanAdd(h.Copy().Div(count), rest)
		if err != nil {
			return mean, reconciled, err
		}
		reconciled = reconciled || r
	}
	if rest == nil {
		return mean, reconciled, nil
	}
	_, _, _, err := mean.Add(rest)
	return mean, reconciled, err
}
