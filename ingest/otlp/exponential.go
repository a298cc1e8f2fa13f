// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
)

// zeroThreshold is that of all native histograms made of exponential ones, as in Prometheus.
const zeroThreshold = 1e-128

// maxGap is how many empty buckets are written out rather than begin a new span, which takes as much room.
const maxGap = 2

var staleNaN = math.Float64frombits(value.StaleNaN)

// native makes an exponential histogram a native one, with finer resolutions than the storage's reduced.
func (p *point) native(delta bool) (*histogram.Histogram, error) {
	if p.scale < histogram.ExponentialSchemaMin {
		return nil, fmt.Errorf("its scale %d is below %d, the coarsest of native histograms", p.scale, histogram.ExponentialSchemaMin)
	}
	down := max(p.scale-histogram.ExponentialSchemaMax, 0)
	h := &histogram.Histogram{
		CounterResetHint: hint(delta), Schema: p.scale - down, ZeroThreshold: zeroThreshold, ZeroCount: p.zeros,
	}
	var err, err2 error
	// Bucket i of OTLP begins where bucket i of a native histogram ends.
	h.PositiveSpans, h.PositiveBuckets, err = p.positive.layout(down, 1)
	h.NegativeSpans, h.NegativeBuckets, err2 = p.negative.layout(down, 1)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	p.total(h)
	return h, valid(h)
}

// custom makes a histogram with explicit bounds a native one with custom buckets.
func (p *point) custom(delta bool) (*histogram.Histogram, error) {
	h := &histogram.Histogram{CounterResetHint: hint(delta), Schema: histogram.CustomBucketsSchema}
	var err error
	h.PositiveSpans, h.PositiveBuckets, err = (&side{counts: p.counts}).layout(0, 0)
	if err != nil {
		return nil, err
	}
	if len(p.bounds) > 0 {
		h.CustomValues = append(make([]float64, 0, len(p.bounds)), p.bounds...)
	}
	p.total(h)
	return h, valid(h)
}

func valid(h *histogram.Histogram) error {
	if err := h.Validate(); err != nil {
		return fmt.Errorf("its buckets do not fit together: %w", err)
	}
	return nil
}

// hint tells the store how the histogram relates to the one before. A delta relates to none.
func hint(delta bool) histogram.CounterResetHint {
	if delta {
		return histogram.GaugeType
	}
	return histogram.UnknownCounterReset
}

// total sets count and sum.
func (p *point) total(h *histogram.Histogram) {
	if p.stale {
		h.Sum, h.Count = staleNaN, value.StaleNaN
		return
	}
	h.Count = p.count
	if p.hasSum {
		h.Sum = p.sum
	}
}

// layout writes buckets as spans and deltas, 1<<down of them merged into one. shift is added to the index of each.
func (s *side) layout(down, shift int32) ([]histogram.Span, []int64, error) {
	var spans []histogram.Span
	var deltas []int64
	var before int64
	next := int64(0) // the index behind the last bucket that is written
	put := func(n int64) {
		deltas = append(deltas, n-before)
		before = n
		spans[len(spans)-1].Length++
		next++
	}
	index := func(i int) int64 { return (int64(s.offset) + int64(i)) >> min(down, 62) }
	for i := 0; i < len(s.counts); {
		n, at := s.counts[i], index(i)
		for i++; i < len(s.counts) && index(i) == at; i++ {
			if n+s.counts[i] < n {
				return nil, nil, errors.New("its counts are beyond all numbers")
			}
			n += s.counts[i]
		}
		if n == 0 {
			continue
		}
		if at += int64(shift); n > math.MaxInt64 || at > math.MaxInt32 || at < math.MinInt32 {
			return nil, nil, fmt.Errorf("its bucket %d with %d observations is beyond what a native histogram can hold", at, n)
		}
		gap := at - next
		if len(spans) == 0 || gap > maxGap {
			if gap > math.MaxInt32 {
				return nil, nil, fmt.Errorf("its buckets %d and %d are too far apart", next-1, at)
			}
			spans = append(spans, histogram.Span{Offset: int32(gap)})
			next = at
		}
		for next < at {
			put(0)
		}
		put(int64(n))
	}
	return spans, deltas, nil
}
