// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package queryable

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Counter reset hints.
//
// The store gives every histogram back with the hint it came in with. Prometheus' storage answers what its
// chunks know instead, and functions, annotations and the upstream tests depend on it: a gauge histogram is
// marked as such; a counter histogram that continues the one before it is marked as not reset; every other
// one is unknown, whatever the sender said, because a sample may still be put in before it. A histogram
// continues its predecessor when both have the same kind, schema and zero threshold, no count fell, the
// sender declared no reset, and not only the predecessor is a stale marker.
//
// The first sample of a range has its predecessor before the range, so batches with histograms are scanned
// from a little earlier. Prometheus looks as far back as the chunk goes; a predecessor that is older than a
// series may pause without being stale is not worth its decoding, and "unknown" is never a wrong answer.

// hintReach is how far before a range the predecessor of its first sample is looked for, in milliseconds.
const hintReach = 5 * 60 * 1000

// before returns the time from which the samples of a range that begins at mint are scanned.
func before(mint int64) int64 {
	if mint < math.MinInt64+hintReach {
		return math.MinInt64
	}
	return mint - hintReach
}

// setHints overwrites the hints of all histograms of b.
func setHints(b *column.Block) {
	if len(b.Kind) == 0 {
		return
	}
	for s := range b.Series() {
		if b.Shape[s]&column.HasHistograms == 0 {
			continue
		}
		from, to := b.Rows(s)
		setIntHints(b, from, to)
		setFloatHints(b, from, to)
	}
}

func setIntHints(b *column.Block, from, to int) {
	var prev *histogram.Histogram
	prevGauge := false
	for i := from; i < to; i++ {
		if b.Kind[i] != sample.Histogram {
			prev = nil
			continue
		}
		h := b.H.Int[i]
		gauge := h.CounterResetHint == histogram.GaugeType
		reset := h.CounterResetHint == histogram.CounterReset
		h.CounterResetHint = histogram.UnknownCounterReset
		switch {
		case gauge:
			h.CounterResetHint = histogram.GaugeType
		case prev != nil && !prevGauge && !reset && intContinues(prev, h):
			h.CounterResetHint = histogram.NotCounterReset
		}
		prev, prevGauge = h, gauge
	}
}

func setFloatHints(b *column.Block, from, to int) {
	var prev *histogram.FloatHistogram
	prevGauge := false
	for i := from; i < to; i++ {
		if b.Kind[i] != sample.FloatHistogram {
			prev = nil
			continue
		}
		h := b.H.Float[i]
		gauge := h.CounterResetHint == histogram.GaugeType
		reset := h.CounterResetHint == histogram.CounterReset
		h.CounterResetHint = histogram.UnknownCounterReset
		switch {
		case gauge:
			h.CounterResetHint = histogram.GaugeType
		case prev != nil && !prevGauge && !reset && floatContinues(prev, h):
			h.CounterResetHint = histogram.NotCounterReset
		}
		prev, prevGauge = h, gauge
	}
}

func intContinues(prev, h *histogram.Histogram) bool {
	if stale, known := staleContinues(prev.Sum, h.Sum); known {
		return stale
	}
	return h.Count >= prev.Count && h.ZeroCount >= prev.ZeroCount &&
		sameLayout(prev.Schema, h.Schema, prev.ZeroThreshold, h.ZeroThreshold) &&
		histogram.CustomBucketBoundsMatch(prev.CustomValues, h.CustomValues) &&
		noneFell(intBuckets(prev.PositiveSpans, prev.PositiveBuckets), intBuckets(h.PositiveSpans, h.PositiveBuckets)) &&
		noneFell(intBuckets(prev.NegativeSpans, prev.NegativeBuckets), intBuckets(h.NegativeSpans, h.NegativeBuckets))
}

func floatContinues(prev, h *histogram.FloatHistogram) bool {
	if stale, known := staleContinues(prev.Sum, h.Sum); known {
		return stale
	}
	return h.Count >= prev.Count && h.ZeroCount >= prev.ZeroCount &&
		sameLayout(prev.Schema, h.Schema, prev.ZeroThreshold, h.ZeroThreshold) &&
		histogram.CustomBucketBoundsMatch(prev.CustomValues, h.CustomValues) &&
		noneFell(floatBuckets(prev.PositiveSpans, prev.PositiveBuckets), floatBuckets(h.PositiveSpans, h.PositiveBuckets)) &&
		noneFell(floatBuckets(prev.NegativeSpans, prev.NegativeBuckets), floatBuckets(h.NegativeSpans, h.NegativeBuckets))
}

// staleContinues answers for stale markers, which have no buckets: a marker continues whatever came before,
// and only a marker continues a marker. known is false where neither is one.
func staleContinues(prevSum, sum float64) (continues, known bool) {
	if value.IsStaleNaN(sum) {
		return true, true
	}
	return false, value.IsStaleNaN(prevSum)
}

func sameLayout(schemaA, schemaB int32, thresholdA, thresholdB float64) bool {
	return schemaA == schemaB && thresholdA == thresholdB
}

// buckets walks the buckets of one side of a histogram in index order, counts in absolute numbers.
type buckets[N int64 | float64] struct {
	spans  []histogram.Span
	counts []N
	delta  bool // counts are differences to the bucket before

	index int32
	left  uint32 // buckets left in the current span, the current one included
	count N
}

func intBuckets(spans []histogram.Span, counts []int64) *buckets[int64] {
	return &buckets[int64]{spans: spans, counts: counts, delta: true, index: -1}
}

func floatBuckets(spans []histogram.Span, counts []float64) *buckets[float64] {
	return &buckets[float64]{spans: spans, counts: counts, index: -1}
}

// next steps to the next bucket and reports whether there is one.
func (b *buckets[N]) next() bool {
	b.index++
	for b.left == 0 {
		if len(b.spans) == 0 {
			return false
		}
		b.index += b.spans[0].Offset
		b.left = b.spans[0].Length
		b.spans = b.spans[1:]
	}
	if len(b.counts) == 0 {
		return false
	}
	b.left--
	if b.delta {
		b.count += b.counts[0]
	} else {
		b.count = b.counts[0]
	}
	b.counts = b.counts[1:]
	return true
}

// noneFell reports whether every bucket of prev has at least its count in cur; a missing bucket counts 0.
func noneFell[N int64 | float64](prev, cur *buckets[N]) bool {
	more := cur.next()
	for prev.next() {
		for more && cur.index < prev.index {
			more = cur.next()
		}
		var count N
		if more && cur.index == prev.index {
			count = cur.count
		}
		if count < prev.count {
			return false
		}
	}
	return true
}
