// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package column

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

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

// HintReach is how far before a range the predecessor of its first sample is looked for, in milliseconds.
const HintReach = 5 * 60 * 1000

// HintStart returns the time from which samples are scanned for the hints of those from mint on.
func HintStart(mint int64) int64 {
	if mint < math.MinInt64+HintReach {
		return math.MinInt64
	}
	return mint - HintReach
}

// SetHints overwrites the hints of all histograms of b, which have those that the store keeps, with those that
// Prometheus' storage would give. It is called once for each Scan; where Need.HistStats was set they are set already.
func SetHints(b *Block) {
	if len(b.Kind) == 0 || b.want.HistStats {
		return
	}
	for s := range b.Series() {
		if b.Shape[s]&HasHistograms != 0 {
			from, to := b.Rows(s)
			b.setHints(from, to)
		}
	}
}

func (b *Block) setHints(from, to int) {
	var prev int // row before, + 1
	prevGauge := false
	steady := b.steadyFrom(0, from)
	for i := from; i < to; i++ {
		hint := b.hintAt(i)
		if hint == nil {
			prev = 0
			continue
		}
		gauge, reset := *hint == histogram.GaugeType, *hint == histogram.CounterReset
		*hint = histogram.UnknownCounterReset
		switch {
		case gauge:
			*hint = histogram.GaugeType
		case prev > 0 && !prevGauge && !reset && (b.follows(&steady, i) || b.continues(prev-1, i)):
			*hint = histogram.NotCounterReset
		}
		prev, prevGauge = i+1, gauge
	}
}

// follows tells whether row i is known to go on counting where the row before it was. Rows are asked for in order.
func (b *Block) follows(at *int, i int) bool {
	*at = b.steadyFrom(*at, i)
	return *at < len(b.steady) && i > b.steady[*at].from
}

// hintAt returns the hint of a row, nil for a float.
func (b *Block) hintAt(i int) *histogram.CounterResetHint {
	switch {
	case b.Kind[i] == sample.Float:
		return nil
	case b.H.Float[i] != nil:
		return &b.H.Float[i].CounterResetHint
	}
	return &b.H.Int[i].CounterResetHint
}

// continues reports whether the histogram of row i goes on counting where that of row prev was.
func (b *Block) continues(prev, i int) bool {
	switch {
	case b.Kind[prev] != b.Kind[i]:
		return false
	case b.H.Float[i] != nil:
		return floatContinues(b.H.Float[prev], b.H.Float[i])
	}
	return intContinues(b.H.Int[prev], b.H.Int[i])
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
		floatsNotFell(prev.PositiveSpans, h.PositiveSpans, prev.PositiveBuckets, h.PositiveBuckets) &&
		floatsNotFell(prev.NegativeSpans, h.NegativeSpans, prev.NegativeBuckets, h.NegativeBuckets)
}

// floatsNotFell is noneFell for the counts of float histograms, at once where both have the same buckets.
func floatsNotFell(prevSpans, spans []histogram.Span, prev, counts []float64) bool {
	if len(prev) != len(counts) || !slices.Equal(prevSpans, spans) {
		return noneFell(floatBuckets(prevSpans, prev), floatBuckets(spans, counts))
	}
	for i, count := range counts {
		if count < prev[i] {
			return false
		}
	}
	return true
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
