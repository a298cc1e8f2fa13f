// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// WindowMeter counts the samples in the windows of a range vector, and what the function over it makes of each series.
// Prometheus' engine holds the window of one series and the results of those before, so that has to be known series by
// series: 12 B each.
type WindowMeter struct {
	env   *Env
	steps bool // count step by step

	cells   *Meter // of the results
	w       Windows
	widest  []int32 // of each series, the weight of its largest window
	last    []int32 // that of the window of the last step
	results []int32 // that of the results
	memory  int64

	mu  sync.Mutex
	sum windowSum // guarded by mu
}

// windowSum adds up windows. totals and reads have one entry per step, where steps are counted.
type windowSum struct {
	total, read   int64
	totals, reads []int64
}

// WindowCounter is what a RangeCursor may offer to a consumer that works out the windows of a series anyway: to be
// told the bounds, step by step the samples [lo, hi) of those that Next returned last. Who gets no call works them
// out anew. It is for windows of floats.
type WindowCounter interface{ CountWindows(lo, hi []int32) }

// NewWindowMeter returns a meter. steps: also count step by step, for statistics by step and inside a subquery.
func NewWindowMeter(env *Env, steps bool) *WindowMeter {
	return &WindowMeter{env: env, steps: steps, cells: NewMeter(env, false)}
}

// Ranges returns r with the samples in its windows counted.
func (m *WindowMeter) Ranges(r Ranges) Ranges { return &meteredRanges{Ranges: r, meter: m} }

// Results returns n, the function over the range vector, with its results counted. Its rows have the ids of the range
// vector's series.
func (m *WindowMeter) Results(n Node) Node {
	return wrap(n, func(c Cursor) Cursor { return &resultCursor{*m.cells.cursor(c), m} }, m.cells.free)
}

// Cells returns the cells of the results. The cursors have to be closed before.
func (m *WindowMeter) Cells() *Cells { return m.cells.Cells() }

type meteredRanges struct {
	Ranges
	meter *WindowMeter
}

// Open implements Ranges.
func (r *meteredRanges) Open(ctx context.Context) error {
	if err := r.Ranges.Open(ctx); err != nil {
		return err
	}
	return r.meter.Open(r.Table().N, r.Windows())
}

// Open makes room for n series with the windows w. Ranges does that; it is for who counts windows by Note.
func (m *WindowMeter) Open(n int, w Windows) error {
	m.w = w
	bytes := int64(n) * 12
	if m.steps {
		bytes += int64(m.w.Grid.N) * 16
	}
	if err := m.env.Account.Reserve(bytes); err != nil {
		return err
	}
	m.memory += bytes
	flat := make([]int32, 3*n)
	m.widest, m.last, m.results = flat[:n:n], flat[n:2*n:2*n], flat[2*n:]
	if m.steps {
		m.sum.totals, m.sum.reads = make([]int64, m.w.Grid.N), make([]int64, m.w.Grid.N)
	}
	return nil
}

// Note sets the weights of the largest and of the last window of a series.
func (m *WindowMeter) Note(id uint32, widest, last int64) {
	m.widest[id], m.last[id] = int32(widest), int32(last)
}

// Close gives back the memory; the counts stay.
func (m *WindowMeter) Close() {
	m.env.Account.Release(m.memory)
	m.memory = 0
}

// Close implements Ranges.
func (r *meteredRanges) Close() {
	r.Ranges.Close()
	r.meter.Close()
}

// Cursor implements Ranges.
func (r *meteredRanges) Cursor(ids []uint32) RangeCursor {
	c := &windowCursor{in: r.Ranges.Cursor(ids), meter: r.meter}
	if r.meter.steps {
		c.sum.totals, c.sum.reads = make([]int64, r.meter.w.Grid.N), make([]int64, r.meter.w.Grid.N)
	}
	return c
}

type windowCursor struct {
	in    RangeCursor
	meter *WindowMeter
	sum   windowSum
	seen  int64 // of sum.total, told to the statistics

	current Samples
	open    bool // current has not been counted yet
	lo, hi  []int32
	weights []int64 // of mixed samples: weights[i] is that of the first i
}

// Next implements RangeCursor.
func (c *windowCursor) Next(ctx context.Context) (Samples, bool, error) {
	c.count()
	if c.sum.read-c.seen > 1<<14 {
		n := c.sum.read - c.seen
		c.seen = c.sum.read
		if err := c.meter.env.Samples.see(n, 0); err != nil {
			return Samples{}, false, err
		}
	}
	s, ok, err := c.in.Next(ctx)
	c.current, c.open = s, ok && err == nil
	return s, ok, err
}

// CountWindows implements WindowCounter.
func (c *windowCursor) CountWindows(lo, hi []int32) {
	if !c.open || c.current.Kind != nil {
		return
	}
	c.open = false
	c.floats(c.current.ID, lo, hi)
}

// Close implements RangeCursor.
func (c *windowCursor) Close() {
	c.count()
	c.in.Close()
	if c.meter != nil {
		c.meter.take(&c.sum)
		c.meter = nil
	}
}

func (m *WindowMeter) take(s *windowSum) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sum.total += s.total
	m.sum.read += s.read
	for i := range s.totals {
		m.sum.totals[i] += s.totals[i]
		m.sum.reads[i] += s.reads[i]
	}
}

// count works out the windows of a series for which nobody else did.
func (c *windowCursor) count() {
	if !c.open {
		return
	}
	c.open = false
	w, s := c.meter.w, &c.current
	n := w.Grid.N
	if cap(c.lo) < n {
		c.lo, c.hi = make([]int32, n), make([]int32, n)
	}
	c.lo, c.hi = c.lo[:n], c.hi[:n]
	left, right := w.Start-w.Range, w.Start
	if w.Anchored || w.Smoothed {
		left -= w.Lookback
	}
	if w.Smoothed {
		right += w.Lookback
	}
	bounds(c.lo, s.T, left, w.Step)
	bounds(c.hi, s.T, right, w.Step)
	if s.Kind == nil {
		c.floats(s.ID, c.lo, c.hi)
		return
	}
	c.mixed(s)
}

// bounds sets dst[i] to how many of the times t are at or before at + i*step.
func bounds(dst []int32, t []int64, at, step int64) {
	h := 0
	for i := range dst {
		for h < len(t) && t[h] <= at {
			h++
		}
		dst[i] = int32(h)
		at += step
	}
}

// floats counts windows of samples that weigh 1.
func (c *windowCursor) floats(id uint32, lo, hi []int32) {
	if len(hi) == 0 {
		return
	}
	hi = hi[:len(lo)]
	var total, read int64
	var widest, before int32
	for i, l := range lo {
		h := hi[i]
		total += int64(h - l)
		widest = max(widest, h-l)
		read += int64(h - max(l, before))
		before = h
	}
	last := len(lo) - 1
	c.meter.widest[id], c.meter.last[id] = widest, hi[last]-lo[last]
	if c.meter.w.Step == 0 {
		// An @ modifier: read once, for the first step.
		read = int64(hi[0] - lo[0])
	}
	c.sum.total += total
	c.sum.read += read
	if c.meter.steps {
		c.perStep(lo, hi, nil)
	}
}

// perStep counts the windows step by step. weights is nil where all samples weigh 1.
func (c *windowCursor) perStep(lo, hi []int32, weights []int64) {
	weight := func(from, to int32) int64 {
		if weights == nil {
			return int64(to - from)
		}
		return weights[to] - weights[from]
	}
	before := int32(0)
	for i, l := range lo {
		h := hi[i]
		c.sum.totals[i] += weight(l, h)
		if i == 0 || c.meter.w.Step != 0 {
			c.sum.reads[i] += weight(max(l, before), h)
		}
		before = h
	}
}

// mixed counts windows of samples of which some are histograms.
func (c *windowCursor) mixed(s *Samples) {
	c.weights = append(c.weights[:0], 0)
	for i := range s.T {
		c.weights = append(c.weights, c.weights[i]+weightOf(s.H[i]))
	}
	p := c.weights
	var before int32
	var widest, last int64
	for i, l := range c.lo {
		h := c.hi[i]
		last = p[h] - p[l]
		widest = max(widest, last)
		c.sum.total += last
		if i == 0 || c.meter.w.Step != 0 {
			c.sum.read += p[h] - p[max(l, before)]
		}
		before = h
	}
	c.meter.widest[s.ID], c.meter.last[s.ID] = int32(widest), int32(last)
	if c.meter.steps {
		c.perStep(c.lo, c.hi, p)
	}
}

func weightOf(h *histogram.FloatHistogram) int64 {
	if h == nil {
		return 1
	}
	return Weight(h)
}

// resultCursor notes what the results of each series weigh.
type resultCursor struct {
	meterCursor
	windows *WindowMeter
}

// Next implements Cursor.
func (c *resultCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	ok, err := c.meterCursor.Next(ctx, b)
	if !ok || err != nil {
		return ok, err
	}
	for i, id := range b.IDs {
		n := int64(b.Steps)
		if b.Shape[i] != vector.Full {
			n = rowWeight(b, i)
		}
		c.windows.results[id] = int32(n)
	}
	return true, nil
}

func rowWeight(b *vector.Batch, i int) (n int64) {
	_, k, h := b.Row(i)
	for j, x := range k {
		switch x {
		case vector.Float:
			n++
		case vector.Histogram:
			n += Weight(h[j])
		case vector.Absent:
		}
	}
	return n
}
