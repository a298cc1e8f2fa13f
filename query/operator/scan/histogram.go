// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// fillMixed is fill for a series with native histograms. It makes histograms of the samples that are cells and of no
// others.
func (c *instantCursor) fillMixed(b *vector.Batch, i int, s series) error {
	if err := b.UseHistograms(); err != nil {
		return err
	}
	v, k, hs := b.Row(i)
	c.hist.load(c.node.env.Account, c.reader.blk, s, c.node.sel.StatsOnly)
	t, look, lookback := c.hist.t, c.node.look, c.node.env.LookbackDelta
	ref, n := look.start, 0
	for i := range v {
		c.hist.seek(n, ref-lookback)
		n = forward(t, n, ref)
		if n > 0 && t[n-1] > ref-lookback && !c.hist.stale(n-1) {
			var err error
			if hs[i], err = c.hist.at(n - 1); err != nil {
				return err
			}
			v[i], k[i] = c.reader.blk.V[s.from+n-1], vector.Float
			if hs[i] != nil {
				k[i] = vector.Histogram
			}
		}
		c.hist.passed(n, ref)
		ref += look.step
	}
	b.Measure(i)
	return nil
}

// histograms gives out the native histograms of one series of a block. They are valid until release.
//
// Reduced to count and sum, a histogram whose hint says nothing gets one from its predecessor, since the buckets that
// would tell later are gone. Prometheus compares with the sample that its iterator has read before; that one is
// forgotten when the iterator jumps, which it does over what no window needs. seek and passed follow those jumps.
type histograms struct {
	account *budget.Account
	charged int64

	blk     *column.Block
	from    int // row of the block that the series begins at
	t       []int64
	reduced bool

	run  int // first sample since the last jump
	cur  int // where the iterator stands
	last int // of the samples asked for, the last; -1: none
	made *histogram.FloatHistogram
}

func (h *histograms) load(a *budget.Account, blk *column.Block, s series, reduced bool) {
	h.account, h.blk, h.from, h.t, h.reduced = a, blk, s.from, blk.T[s.from:s.to], reduced
	h.run, h.cur, h.last, h.made = 0, -1, -1, nil
}

func (h *histograms) release() {
	h.account.Release(h.charged)
	h.charged, h.made = 0, nil
}

// seek notes that samples are needed from time t on; n are known to be before.
func (h *histograms) seek(n int, t int64) {
	if !h.reduced || h.cur >= 0 && (h.cur >= len(h.t) || t <= h.t[h.cur]) {
		return
	}
	h.run = forward(h.t, min(n, max(h.cur, 0)), t-1)
}

// passed notes that the iterator stands on the first sample at or after t; n are at or before.
func (h *histograms) passed(n int, t int64) {
	h.cur = n
	if n > 0 && h.t[n-1] == t {
		h.cur--
	}
}

// stale tells whether sample i is a stale marker.
func (h *histograms) stale(i int) bool {
	row := h.from + i
	switch h.blk.KindAt(row) {
	case sample.Histogram:
		return value.IsStaleNaN(h.blk.H.Int[row].Sum)
	case sample.FloatHistogram:
		return value.IsStaleNaN(h.blk.H.Float[row].Sum)
	default:
		return math.Float64bits(h.blk.V[row]) == value.StaleNaN
	}
}

// at returns the histogram of sample i, nil if it is a float. The same sample is the same histogram.
func (h *histograms) at(i int) (*histogram.FloatHistogram, error) {
	if h.blk.KindAt(h.from+i) == sample.Float {
		return nil, nil
	}
	if i == h.last {
		return h.made, nil
	}
	f, err := h.whole(i)
	if err == nil && h.reduced {
		f, err = h.reduce(i, f)
	}
	h.last, h.made = i, f
	return f, err
}

// whole returns a histogram as a float histogram with all of its buckets.
func (h *histograms) whole(i int) (*histogram.FloatHistogram, error) {
	row := h.from + i
	if h.blk.KindAt(row) == sample.FloatHistogram {
		f := h.blk.H.Float[row]
		return f, h.charge(int64(f.Size()))
	}
	if f := h.blk.H.Float[row]; f != nil {
		return f, nil
	}
	in := h.blk.H.Int[row]
	buckets := len(in.PositiveBuckets) + len(in.NegativeBuckets)
	if err := h.charge(floatHistogramBytes + int64(buckets)*8); err != nil {
		return nil, err
	}
	h.blk.H.Float[row] = toFloat(in)
	return h.blk.H.Float[row], nil
}

// floatHistogramBytes is what a float histogram takes beside its buckets, spans and bounds.
const floatHistogramBytes = 176

func (h *histograms) charge(bytes int64) error {
	if err := h.account.Reserve(bytes); err != nil {
		return err
	}
	h.charged += bytes
	return nil
}

// toFloat makes a float histogram that shares the layout with in.
func toFloat(in *histogram.Histogram) *histogram.FloatHistogram {
	p, n := len(in.PositiveBuckets), len(in.NegativeBuckets)
	f := &histogram.FloatHistogram{
		CounterResetHint: in.CounterResetHint,
		Schema:           in.Schema,
		Count:            float64(in.Count),
		Sum:              in.Sum,
		PositiveSpans:    in.PositiveSpans,
	}
	if in.UsesCustomBuckets() {
		f.CustomValues, n = in.CustomValues, 0
	} else {
		f.ZeroThreshold, f.ZeroCount = in.ZeroThreshold, float64(in.ZeroCount)
		f.NegativeSpans = in.NegativeSpans
	}
	counts := make([]float64, p+n)
	f.PositiveBuckets = counts[:p:p]
	absolute(f.PositiveBuckets, in.PositiveBuckets)
	if n > 0 {
		f.NegativeBuckets = counts[p:]
		absolute(f.NegativeBuckets, in.NegativeBuckets)
	}
	return f
}

// absolute adds up in floats, as Prometheus does.
func absolute(to []float64, deltas []int64) {
	var count float64
	for i, d := range deltas {
		count += float64(d)
		to[i] = count
	}
}

// reduce returns what StatsOnly keeps of a histogram.
func (h *histograms) reduce(i int, f *histogram.FloatHistogram) (*histogram.FloatHistogram, error) {
	if err := h.charge(floatHistogramBytes); err != nil {
		return nil, err
	}
	r := &histogram.FloatHistogram{CounterResetHint: f.CounterResetHint, Schema: f.Schema, Count: f.Count, Sum: f.Sum}
	if r.CounterResetHint != histogram.UnknownCounterReset {
		return r, nil
	}
	for j := i - 1; j >= h.run; j-- {
		if h.blk.KindAt(h.from+j) == sample.Float || h.stale(j) {
			continue
		}
		prev, err := h.whole(j)
		if err != nil {
			return nil, err
		}
		r.CounterResetHint = histogram.NotCounterReset
		if f.DetectReset(prev) {
			r.CounterResetHint = histogram.CounterReset
		}
		break
	}
	return r, nil
}
