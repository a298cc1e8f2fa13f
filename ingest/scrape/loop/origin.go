// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// origin is where a cumulative series without a start time was seen first: its values count from there, and its first
// sample is not stored. Where it falls back it has begun anew, just before the sample that shows it.
type origin struct {
	st          int64 // 0 before the first sample
	prev, first float64
	prevHist    *histogram.FloatHistogram
	firstHist   *histogram.FloatHistogram // nil since it began anew: there is nothing to take away
}

// synthesize gives a sample a start time and a value counted from there, if its family is cumulative.
func (r *round) synthesize(x *parsed, at int32, hash uint64) {
	x.flags |= sample.RejectOutOfOrder
	o := r.c.origins[hash]
	if o == nil || at < 0 {
		if !r.isCumulative(x) {
			return
		}
		o = &origin{}
	}
	x.origin = o
	t := r.t
	if x.explicit != nil {
		t = *x.explicit
	}
	switch {
	case x.hist.fh != nil:
		x.hist.fh, x.skip = o.floatHistogram(x.hist.fh, t)
	case x.hist.h != nil:
		x.hist.h, x.skip = o.histogram(x.hist.h, t)
	default:
		x.v, x.skip = o.float(x.v, t)
	}
	x.st = o.st
}

// isCumulative reports whether the series belongs to the family that was described last, and that family only grows.
func (r *round) isCumulative(x *parsed) bool {
	if r.family < 0 {
		return false
	}
	name, d := x.labels.Get(labels.MetricName), r.c.families.all[r.family].described.Value()
	if !ofFamily(name, d.name, d.Type) {
		return false
	}
	switch d.Type {
	case model.MetricTypeCounter, model.MetricTypeHistogram:
		return true
	case model.MetricTypeSummary:
		return strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_sum")
	default:
		return false
	}
}

// keepOrigin remembers the origin of a series that is known now; one whose sample was not taken begins anew.
func (r *round) keepOrigin(x *parsed, hash uint64, known, added bool) {
	switch {
	case added && x.origin != nil:
		if r.c.origins == nil {
			r.c.origins = map[uint64]*origin{}
		}
		r.c.origins[hash] = x.origin
	case added, known:
		delete(r.c.origins, hash)
	}
}

func (o *origin) float(v float64, t int64) (from float64, skip bool) {
	if o.st == 0 {
		o.prev, o.first, o.st = v, v, t
		return v, true
	}
	if v < o.prev {
		o.first, o.st = 0, t-1
	}
	o.prev = v
	return v - o.first, false
}

// histogramFrom returns what a histogram has counted since the first; nil where that is all of it.
func (o *origin) histogramFrom(now *histogram.FloatHistogram, t int64) (from *histogram.FloatHistogram, skip bool) {
	switch {
	case o.st == 0:
		o.st, o.prevHist = t, now.Copy()
		o.firstHist = o.prevHist
		return nil, true
	case now.DetectReset(o.prevHist):
		o.firstHist, o.st = nil, t-1
	}
	o.prevHist = now.Copy()
	if o.firstHist == nil {
		return nil, false
	}
	diff, _, _, err := now.Sub(o.firstHist)
	if err != nil {
		return nil, false
	}
	return diff.Compact(0), false
}

func (o *origin) floatHistogram(fh *histogram.FloatHistogram, t int64) (*histogram.FloatHistogram, bool) {
	from, skip := o.histogramFrom(fh, t)
	if from == nil {
		return fh, skip
	}
	return from, skip
}

func (o *origin) histogram(h *histogram.Histogram, t int64) (*histogram.Histogram, bool) {
	from, skip := o.histogramFrom(h.ToFloat(nil), t)
	if from == nil {
		return h, skip
	}
	out := &histogram.Histogram{
		CounterResetHint: h.CounterResetHint, Schema: from.Schema, ZeroThreshold: from.ZeroThreshold,
		ZeroCount: uint64(from.ZeroCount), Count: uint64(from.Count), Sum: from.Sum, CustomValues: from.CustomValues,
	}
	out.PositiveSpans, out.PositiveBuckets = wholeBuckets(from.PositiveSpans, from.PositiveBuckets)
	out.NegativeSpans, out.NegativeBuckets = wholeBuckets(from.NegativeSpans, from.NegativeBuckets)
	return out, skip
}

// wholeBuckets turns counts into differences of whole numbers.
func wholeBuckets(spans []histogram.Span, counts []float64) ([]histogram.Span, []int64) {
	if len(spans) == 0 {
		return nil, nil
	}
	deltas := make([]int64, len(counts))
	last := int64(0)
	for i, c := range counts {
		deltas[i] = int64(c) - last
		last = int64(c)
	}
	return slices.Clone(spans), deltas
}
