// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// NewRange returns the operator of a range vector selector with windows of the given length in milliseconds. Stale
// markers are left out; native histograms are float histograms.
func NewRange(env *operator.Env, sel Selector, length int64, g vector.Grid) operator.Ranges {
	look := sel.times(g)
	n := &ranges{windows: operator.Windows{
		Grid: g, Start: look.start, Step: look.step, Range: length,
		Anchored: sel.Anchored, Smoothed: sel.Smoothed,
	}}
	from, to := look.start-length, look.last()
	if sel.Anchored || sel.Smoothed {
		n.windows.Lookback = env.LookbackDelta
		from -= env.LookbackDelta
	}
	if sel.Smoothed {
		to += env.LookbackDelta
	}
	n.init(env, sel, from, to)
	n.need.Ends = sel.Differs && g.N == 1
	return n
}

type ranges struct {
	source
	windows operator.Windows
}

// Open implements operator.Ranges.
func (n *ranges) Open(ctx context.Context) error { return n.open(ctx) }

// Windows implements operator.Ranges.
func (n *ranges) Windows() operator.Windows { return n.windows }

// Cursor implements operator.Ranges.
func (n *ranges) Cursor(ids []uint32) operator.RangeCursor {
	return &rangeCursor{node: n, reader: n.reader(n.ids(ids))}
}

type rangeCursor struct {
	node   *ranges
	reader reader
	hist   histograms

	// Of series reduced to count and sum.
	run    []int32 // of each sample, the first that its predecessor may be
	stats  []histogram.FloatHistogram
	memory int64
}

// Close implements operator.RangeCursor.
func (c *rangeCursor) Close() {
	c.reader.close()
	c.node.env.Account.Release(c.memory)
	c.memory, c.run, c.stats = 0, nil, nil
}

// Next implements operator.RangeCursor. It leaves out series without samples.
func (c *rangeCursor) Next(ctx context.Context) (operator.Samples, bool, error) {
	for {
		s, ok, err := c.reader.next(ctx)
		if err != nil || !ok {
			return operator.Samples{}, false, err
		}
		out, err := c.samples(s)
		if err != nil || len(out.T) > 0 {
			return out, err == nil, err
		}
	}
}

func (c *rangeCursor) samples(s series) (operator.Samples, error) {
	blk := c.reader.blk
	from, to := s.from, s.to
	if s.shape&column.HasHistograms != 0 && c.node.sel.StatsOnly {
		if err := c.reduce(s); err != nil {
			return operator.Samples{}, err
		}
	}
	if s.shape&column.HasStale != 0 {
		to = c.dropStale(s)
	}
	out := operator.Samples{ID: s.id, T: blk.T[from:to], V: blk.V[from:to]}
	if c.node.sel.ST && len(blk.ST) > 0 {
		out.ST = blk.ST[from:to]
	}
	if s.shape&column.HasHistograms != 0 {
		out.Kind, out.H = blk.Kind[from:to], blk.H.Float[from:to]
	}
	return out, nil
}

// reduce replaces the histograms of a series by what StatsOnly keeps of them.
func (c *rangeCursor) reduce(s series) error {
	h := &c.hist
	h.load(c.node.env.Account, c.reader.blk, s, true)
	if err := c.reserve(len(h.t)); err != nil {
		return err
	}
	c.findRuns()
	for i := range h.t {
		if h.whole(i) != nil {
			h.run = int(c.run[i])
			c.stats[i] = h.stats(i)
		}
	}
	for i := range h.t {
		if h.whole(i) != nil {
			h.blk.H.Float[h.from+i] = &c.stats[i]
		}
	}
	return nil
}

// findRuns follows the iterator of Prometheus' engine over the windows. Of the first it keeps all samples, later no
// more than are new in a window.
func (c *rangeCursor) findRuns() {
	h, w := &c.hist, c.node.windows
	keep, ahead := w.Range+w.Lookback, int64(0)
	if w.Smoothed {
		keep, ahead = keep+w.Lookback, w.Lookback
	}
	n := 0
	for i := range max(w.Grid.N, 1) {
		end := w.At(i) + ahead
		h.seek(n, end-keep)
		for next := forward(h.t, n, end); n < next; n++ {
			c.run[n] = int32(min(h.run, n))
		}
		h.passed(n, end)
		if w.Step == 0 {
			break
		}
		keep = min(keep, w.Step)
	}
	for ; n < len(c.run); n++ {
		c.run[n] = int32(n)
	}
}

// reserve makes room for n samples.
func (c *rangeCursor) reserve(n int) error {
	bytes := int64(max(n-cap(c.run), 0))*4 + int64(max(n-cap(c.stats), 0))*floatHistogramBytes
	if err := c.node.env.Account.Reserve(bytes); err != nil {
		return err
	}
	c.memory += bytes
	if n > cap(c.run) {
		c.run = make([]int32, n)
	}
	if n > cap(c.stats) {
		c.stats = make([]histogram.FloatHistogram, n)
	}
	c.run, c.stats = c.run[:n], c.stats[:n]
	return nil
}

// dropStale moves the samples of a series together over its stale markers and returns where they end.
func (c *rangeCursor) dropStale(s series) (to int) {
	blk := c.reader.blk
	c.hist.load(c.node.env.Account, blk, s, false)
	to = s.from
	for row := s.from; row < s.to; row++ {
		if c.hist.stale(row - s.from) {
			continue
		}
		if to < row {
			blk.T[to], blk.V[to] = blk.T[row], blk.V[row]
			if len(blk.ST) > 0 {
				blk.ST[to] = blk.ST[row]
			}
			if len(blk.Kind) > 0 {
				blk.Kind[to], blk.H.Float[to], blk.H.Int[to] = blk.Kind[row], blk.H.Float[row], blk.H.Int[row]
			}
		}
		to++
	}
	return to
}
