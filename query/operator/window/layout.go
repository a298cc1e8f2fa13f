// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// Neighbouring histograms of a series nearly always have the same layout of buckets. Then bucket i of one is bucket i
// of the other, and they are compared, subtracted and added as slices, which costs a tenth of what the walk over
// spans costs that Prometheus' methods make. Layouts that these methods treat in a special way are left to them:
// spans that touch or are empty, and buckets within the zero bucket.

// odd marks histograms of such a layout in layouts.
const odd = math.MaxInt32

// layouts finds, for each histogram of the series, the first of those before it that have the same layout without
// another one between them, and the first of those whose buckets at least mean the same.
func (m *mixed) layouts() error {
	h := &m.h
	run, err := room(&m.memory, h.run, len(h.h), 4)
	if err != nil {
		return err
	}
	kin, err := room(&m.memory, h.kin, len(h.h), 4)
	if err != nil {
		return err
	}
	h.run, h.kin = run, kin
	h.resets, h.scanned, h.gauges = h.resets[:0], 0, false
	for i, x := range h.h {
		h.gauges = h.gauges || x.CounterResetHint == histogram.GaugeType
		switch {
		case i > 0 && sameLayout(h.h[i-1], x):
			run[i], kin[i] = run[i-1], kin[i-1]
		case !plainLayout(x):
			run[i], kin[i] = odd, odd
		case i > 0 && kin[i-1] != odd && sameBounds(h.h[i-1], x):
			run[i], kin[i] = int32(i), kin[i-1]
		default:
			run[i], kin[i] = int32(i), int32(i)
		}
	}
	return nil
}

// uniform tells whether the histograms [l, end) have one layout, a plain one.
func (h *histograms) uniform(l, end int) bool { return int(h.run[end-1]) <= l }

// related tells whether the histograms [l, end) have plain layouts in which a bucket of some index is the same bucket.
func (h *histograms) related(l, end int) bool { return int(h.kin[end-1]) <= l }

// sameBounds tells whether a bucket of some index is the same bucket in both histograms, the zero bucket too.
func sameBounds(a, b *histogram.FloatHistogram) bool {
	return a.Schema == b.Schema && a.ZeroThreshold == b.ZeroThreshold && same(a.CustomValues, b.CustomValues)
}

func sameLayout(a, b *histogram.FloatHistogram) bool {
	return a == b || sameBounds(a, b) &&
		len(a.PositiveBuckets) == len(b.PositiveBuckets) && len(a.NegativeBuckets) == len(b.NegativeBuckets) &&
		same(a.PositiveSpans, b.PositiveSpans) && same(a.NegativeSpans, b.NegativeSpans)
}

// same compares slices that are mostly one and the same.
func same[T comparable](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// plainLayout tells whether a layout has spans with something in them and between them, and no bucket in the zero
// bucket.
func plainLayout(h *histogram.FloatHistogram) bool {
	if !plainSpans(h.PositiveSpans, len(h.PositiveBuckets)) || !plainSpans(h.NegativeSpans, len(h.NegativeBuckets)) {
		return false
	}
	if h.UsesCustomBuckets() {
		return h.ZeroThreshold == 0 && h.ZeroCount == 0 && len(h.NegativeBuckets) == 0
	}
	if it := h.PositiveBucketIterator(); it.Next() && !(it.At().Lower >= h.ZeroThreshold) {
		return false
	}
	if it := h.NegativeBucketIterator(); it.Next() && !(it.At().Upper <= -h.ZeroThreshold) {
		return false
	}
	return true
}

func plainSpans(spans []histogram.Span, buckets int) bool {
	n := 0
	for i, s := range spans {
		if s.Length == 0 || i > 0 && s.Offset <= 0 {
			return false
		}
		n += int(s.Length)
	}
	return n == buckets
}

// fell tells whether a histogram is a counter reset of the one before it, which has the same plain layout.
func fell(h, prev *histogram.FloatHistogram) bool {
	switch h.CounterResetHint {
	case histogram.CounterReset:
		return true
	case histogram.NotCounterReset:
		return false
	case histogram.UnknownCounterReset, histogram.GaugeType:
	}
	return h.Count < prev.Count || h.ZeroCount < prev.ZeroCount ||
		anyLess(h.PositiveBuckets, prev.PositiveBuckets) || anyLess(h.NegativeBuckets, prev.NegativeBuckets)
}

func anyLess(a, b []float64) bool {
	b = b[:len(a)]
	for i, x := range a {
		if x < b[i] {
			return true
		}
	}
	return false
}

// resetsIn returns the resets in a window behind its first histogram, by index. Windows are asked for in order.
func (m *mixed) resetsIn(l, end int) ([]int32, error) {
	h := &m.h
	for j := max(l+1, h.scanned); j < end; j++ {
		if !h.reset(j) {
			continue
		}
		var err error
		if h.resets, err = appendIndex(&m.memory, h.resets, j); err != nil {
			return nil, err
		}
	}
	h.scanned = max(h.scanned, end)
	// Resets come rarely, and windows move on: the list is searched from behind.
	i := len(h.resets)
	for i > 0 && int(h.resets[i-1]) > l {
		i--
	}
	return h.resets[i:], nil
}
