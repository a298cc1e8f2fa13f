// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/util/kahansum"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// adder adds histograms to sums. The series of a group mostly have the same sort of buckets, and the sum soon has all
// that any of them has: then adding is a loop over runs of numbers, and nothing is moved or allocated.
type adder struct{ positive, negative []vector.BucketRun }

// add adds h to a sum and what rounding took from it, as KahanAdd does.
func (d *adder) add(sum, c, h *histogram.FloatHistogram) (newC *histogram.FloatHistogram, reconciled bool, err error) {
	if c == nil || !d.fits(sum, h) {
		c, _, reconciled, err = sum.KahanAdd(h, c)
		return c, reconciled, err
	}
	sum.CounterResetHint = joinedHint(sum.CounterResetHint, h.CounterResetHint)
	if !sum.UsesCustomBuckets() {
		sum.ZeroCount, c.ZeroCount = kahansum.Inc(h.ZeroCount, sum.ZeroCount, c.ZeroCount)
		sum.ZeroCount, c.ZeroCount = kahansum.Inc(0, sum.ZeroCount, c.ZeroCount)
	}
	sum.Count, c.Count = kahansum.Inc(h.Count, sum.Count, c.Count)
	sum.Sum, c.Sum = kahansum.Inc(h.Sum, sum.Sum, c.Sum)
	addRuns(d.positive, sum.PositiveBuckets, c.PositiveBuckets, h.PositiveBuckets)
	addRuns(d.negative, sum.NegativeBuckets, c.NegativeBuckets, h.NegativeBuckets)
	return c, false, nil
}

// fits tells whether the sum has all buckets of h, and finds out where.
func (d *adder) fits(sum, h *histogram.FloatHistogram) bool {
	if sum.Schema != h.Schema || sum.ZeroThreshold != h.ZeroThreshold {
		return false
	}
	if sum.UsesCustomBuckets() {
		if !slices.Equal(sum.CustomValues, h.CustomValues) {
			return false
		}
	} else if !aboveZero(h.PositiveSpans, h) || !aboveZero(h.NegativeSpans, h) {
		return false
	}
	var ok bool
	if d.positive, ok = vector.LocateBuckets(d.positive[:0], sum.PositiveSpans, h.PositiveSpans); !ok {
		return false
	}
	d.negative, ok = vector.LocateBuckets(d.negative[:0], sum.NegativeSpans, h.NegativeSpans)
	return ok
}

// aboveZero tells whether the first bucket is for sure beyond the zero bucket; KahanAdd leaves out those that are not.
func aboveZero(spans []histogram.Span, h *histogram.FloatHistogram) bool {
	if len(spans) == 0 || h.ZeroThreshold == 0 {
		return true
	}
	// The upper bound of the bucket is at least 2 to the power of this.
	exp := int(spans[0].Offset)
	if h.Schema >= 0 {
		exp >>= uint(h.Schema)
	} else {
		exp <<= uint(-h.Schema)
	}
	return exp > math.Ilogb(h.ZeroThreshold)
}

func addRuns(runs []vector.BucketRun, sum, c, h []float64) {
	for _, r := range runs {
		to, lost, from := sum[r.A:r.A+r.N], c[r.A:r.A+r.N], h[r.B:r.B+r.N]
		for i, v := range from {
			t := to[i] + v
			part := t - to[i]
			l := lost[i] + ((to[i] - (t - part)) + (v - part))
			if l-l != 0 {
				t, l = kahansum.Inc(v, to[i], lost[i])
			}
			to[i], lost[i] = t, l
		}
	}
}

// joinedHint returns the counter reset hint of the sum of two histograms.
func joinedHint(a, b histogram.CounterResetHint) histogram.CounterResetHint {
	switch {
	case a == b:
		return a
	case a == histogram.GaugeType || b == histogram.GaugeType:
		return histogram.GaugeType
	default:
		return histogram.UnknownCounterReset
	}
}

// magnitude returns a number that none of the numbers of h exceeds, NaN left out.
func magnitude(h *histogram.FloatHistogram) float64 {
	m := 0.0
	grow := func(v float64) {
		if v = math.Abs(v); v > m {
			m = v
		}
	}
	grow(h.Count)
	grow(h.Sum)
	grow(h.ZeroCount)
	for _, v := range h.PositiveBuckets {
		grow(v)
	}
	for _, v := range h.NegativeBuckets {
		grow(v)
	}
	for _, v := range h.CustomValues {
		grow(v)
	}
	return m
}
