// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// fillMixed is fill for a series with native histograms. It copies the histograms that are cells
// and no others.
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

// histograms gives out the native histograms of one series of a block. Those that at returns outlive the block, and are
// charged until release.
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
	h.run, h.cur, h.last = 0, -1, -1
}

func (h *histograms) release() {
	h.account.Release(h.charged)
	h.charged, h.last = 0, -1
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

// whole returns the histogram of sample i as the block has it, nil for a float.
func (h *histograms) whole(i int) *histogram.FloatHistogram {
	if len(h.blk.H.Float) == 0 {
		return nil
	}
	return h.blk.H.Float[h.from+i]
}

// weight returns for how many samples histogram i counts.
func (h *histograms) weight(i int) int64 {
	if h.reduced {
		return operator.Weight(&histogram.FloatHistogram{})
	}
	return operator.Weight(h.whole(i))
}

// stale tells whether sample i is a stale marker.
func (h *histograms) stale(i int) bool {
	if f := h.whole(i); f != nil {
		return value.IsStaleNaN(f.Sum)
	}
	return math.Float64bits(h.blk.V[h.from+i]) == value.StaleNaN
}

// at returns the histogram of sample i, nil if it is a float. Asked again for the same sample, it returns the same.
func (h *histograms) at(i int) (*histogram.FloatHistogram, error) {
	f := h.whole(i)
	if f == nil {
		return nil, nil
	}
	if i == h.last {
		return h.made, nil
	}
	bytes := floatHistogramBytes
	if !h.reduced {
		bytes = f.Size()
	}
	if err := h.charge(int64(bytes)); err != nil {
		return nil, err
	}
	out := new(histogram.FloatHistogram)
	if h.reduced {
		*out = h.stats(i)
	} else {
		h.copy(f, out)
	}
	h.last, h.made = i, out
	return out, nil
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

// copy is FloatHistogram.CopyTo with one allocation for all buckets, and none for spans like those of the histogram
// before.
func (h *histograms) copy(f, to *histogram.FloatHistogram) {
	*to = *f
	p, n := len(f.PositiveBuckets), len(f.NegativeBuckets)
	counts := make([]float64, p+n)
	to.PositiveBuckets, to.NegativeBuckets = counts[:p:p], counts[p:]
	copy(to.PositiveBuckets, f.PositiveBuckets)
	copy(to.NegativeBuckets, f.NegativeBuckets)
	if before := h.made; before != nil && slices.Equal(before.PositiveSpans, f.PositiveSpans) &&
		slices.Equal(before.NegativeSpans, f.NegativeSpans) {
		to.PositiveSpans, to.NegativeSpans = before.PositiveSpans, before.NegativeSpans
	} else {
		to.PositiveSpans, to.NegativeSpans = slices.Clone(f.PositiveSpans), slices.Clone(f.NegativeSpans)
	}
	if len(f.CustomValues) > 0 {
		to.CustomValues = slices.Clone(f.CustomValues)
	}
}

// stats returns what StatsOnly keeps of histogram i.
func (h *histograms) stats(i int) histogram.FloatHistogram {
	f := h.whole(i)
	r := histogram.FloatHistogram{CounterResetHint: h.stored(i), Schema: f.Schema, Count: f.Count, Sum: f.Sum}
	if r.CounterResetHint != histogram.UnknownCounterReset {
		return r
	}
	for j := i - 1; j >= h.run; j-- {
		prev := h.whole(j)
		if prev == nil || value.IsStaleNaN(prev.Sum) {
			continue
		}
		switch {
		case len(h.blk.H.Stored) > 0: // it was found out while there were buckets
			r.CounterResetHint = f.CounterResetHint
		case f.DetectReset(prev):
			r.CounterResetHint = histogram.CounterReset
		default:
			r.CounterResetHint = histogram.NotCounterReset
		}
		break
	}
	return r
}

// stored returns the hint that the storage gives histogram i.
func (h *histograms) stored(i int) histogram.CounterResetHint {
	if s := h.blk.H.Stored; len(s) > 0 {
		return s[h.from+i]
	}
	return h.whole(i).CounterResetHint
}
