// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// smoothed is a smoothed instant vector selector. A step sees the samples up to the lookback interval before and after
// it: one at that very time counts as it is, between two others the value is interpolated, after the last it stays,
// and before the first there is none.
type smoothed struct {
	*instant
	notes operator.Notes
	meter *operator.WindowMeter
}

// Open implements operator.Node.
func (n *smoothed) Open(ctx context.Context) error {
	if err := n.open(ctx); err != nil {
		return err
	}
	n.meter = operator.NewWindowMeter(n.env, false)
	return n.meter.Open(n.table.N, operator.Windows{})
}

// WindowMeter returns what a Ledger has to know about the samples that the steps saw.
func (n *smoothed) WindowMeter() *operator.WindowMeter { return n.meter }

// Close implements operator.Node.
func (n *smoothed) Close() {
	n.instant.Close()
	if n.meter != nil {
		n.meter.Close()
	}
}

// Notes implements operator.Annotated.
func (n *smoothed) Notes() *operator.Notes { return &n.notes }

// Cursor implements operator.Node.
func (n *smoothed) Cursor(ids []uint32) operator.Cursor {
	return &smoothedCursor{node: n, reader: n.reader(n.ids(ids))}
}

type smoothedCursor struct {
	node   *smoothed
	reader reader
	hist   histograms
	ext    extent
}

// Close implements operator.Cursor.
func (c *smoothedCursor) Close() {
	c.reader.close()
	c.hist.release()
}

// Next implements operator.Cursor.
func (c *smoothedCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	c.hist.release()
	return c.reader.batch(ctx, b, c.node.look.n, c.fill)
}

func (c *smoothedCursor) fill(b *vector.Batch, row int, s series) (err error) {
	if s.shape&column.HasHistograms != 0 {
		if err := b.UseHistograms(); err != nil {
			return err
		}
	}
	c.hist.load(c.node.env.Account, c.reader.blk, s, c.node.sel.StatsOnly)
	look, lookback := c.node.look, c.node.env.LookbackDelta
	c.ext = extent{}
	v, k, hs := b.Row(row)
	ref, widest := look.start, int64(0)
	for i := range v {
		c.ext.move(&c.hist, ref, lookback)
		widest = max(widest, c.ext.weight)
		switch e := &c.ext; {
		case e.floats > 0 && e.histograms > 0:
			c.mixed(s.id)
		case e.floats > 0:
			v[i], k[i] = c.float(ref)
		case e.histograms > 0:
			if hs[i], err = c.histogram(s.id, ref); err != nil {
				return err
			}
			if hs[i] != nil {
				k[i] = vector.Histogram
			}
		}
		ref += look.step
	}
	c.node.meter.Note(s.id, widest, c.ext.weight)
	b.Measure(row)
	return nil
}

// extent is the samples that a step sees: those with numbers in [lo, hi), of which those before mid are earlier than
// the step. floats and histograms count them; stale markers are neither. weight is that of all.
type extent struct {
	lo, mid, hi        int
	floats, histograms int
	weight             int64
}

func (e *extent) move(h *histograms, ref, lookback int64) {
	for ; e.hi < len(h.t) && h.t[e.hi] <= ref+lookback; e.hi++ {
		e.count(h, e.hi, 1)
	}
	for ; e.lo < e.hi && h.t[e.lo] <= ref-lookback; e.lo++ {
		e.count(h, e.lo, -1)
	}
	e.mid = max(e.mid, e.lo)
	for e.mid < e.hi && h.t[e.mid] < ref {
		e.mid++
	}
}

func (e *extent) count(h *histograms, i, by int) {
	switch {
	case h.stale(i):
	case h.whole(i) == nil:
		e.floats += by
		e.weight += int64(by)
	default:
		e.histograms += by
		e.weight += int64(by) * h.weight(i)
	}
}

// around returns the samples next to the step: prev before it, next at or after it; -1 where there is none.
func (e *extent) around(h *histograms) (prev, next int) {
	prev, next = e.mid-1, e.mid
	for prev >= e.lo && h.stale(prev) {
		prev--
	}
	for next < e.hi && h.stale(next) {
		next++
	}
	if prev < e.lo {
		prev = -1
	}
	if next == e.hi {
		next = -1
	}
	return prev, next
}

func (c *smoothedCursor) float(ref int64) (float64, vector.Kind) {
	h := &c.hist
	prev, next := c.ext.around(h)
	v := h.blk.V[h.from:]
	switch {
	case next >= 0 && h.t[next] == ref:
		return v[next], vector.Float
	case prev >= 0 && next >= 0:
		rise := float64((v[next] - v[prev]) * float64(ref-h.t[prev]))
		return v[prev] + rise/float64(h.t[next]-h.t[prev]), vector.Float
	case prev >= 0:
		return v[prev], vector.Float
	default:
		return 0, vector.Absent
	}
}

func (c *smoothedCursor) histogram(id uint32, ref int64) (*histogram.FloatHistogram, error) {
	h := &c.hist
	prev, next := c.ext.around(h)
	switch {
	case next >= 0 && h.t[next] == ref:
		return h.at(next)
	case prev < 0:
		return nil, nil
	}
	before, err := h.at(prev)
	if err != nil {
		return nil, err
	}
	if next < 0 {
		return unknownReset(before), nil
	}
	after, err := h.at(next)
	if err != nil {
		return nil, err
	}
	if err := h.charge(int64(before.Size() + after.Size())); err != nil {
		return nil, err
	}
	return c.between(id, before, after, float64(ref-h.t[prev])/float64(h.t[next]-h.t[prev])), nil
}

// unknownReset returns h without a hint.
func unknownReset(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	c := *h
	c.CounterResetHint = histogram.UnknownCounterReset
	return &c
}

// between interpolates. A counter that was reset is taken to have begun at zero.
func (c *smoothedCursor) between(id uint32, before, after *histogram.FloatHistogram, part float64) *histogram.FloatHistogram {
	if before.UsesCustomBuckets() != after.UsesCustomBuckets() {
		c.incompatible(id)
		return nil
	}
	counter := before.CounterResetHint != histogram.GaugeType || after.CounterResetHint != histogram.GaugeType
	if counter && after.DetectReset(before) {
		return after.Copy().Mul(part)
	}
	out := after.Copy()
	_, _, reconciled, err := out.Sub(before)
	if err == nil {
		if reconciled {
			c.reconciled("sub", annotations.HistogramSub)
		}
		out.Mul(part)
		_, _, reconciled, err = out.Add(before)
	}
	if err != nil {
		if errors.Is(err, histogram.ErrHistogramsIncompatibleSchema) {
			c.incompatible(id)
		}
		return nil
	}
	if reconciled {
		c.reconciled("add", annotations.HistogramAdd)
	}
	return out
}

func (c *smoothedCursor) name(id uint32) string { return c.node.table.Value(id, labels.MetricName) }

func (c *smoothedCursor) mixed(id uint32) {
	name := c.name(id)
	c.node.notes.Add(0, "mixed floats and histograms", name, func(at posrange.PositionRange) error {
		return annotations.NewMixedFloatsHistogramsWarning(name, at)
	})
}

func (c *smoothedCursor) incompatible(id uint32) {
	name := c.name(id)
	c.node.notes.Add(0, "mixed schemas", name, func(at posrange.PositionRange) error {
		return annotations.NewMixedExponentialCustomHistogramsWarning(name, at)
	})
}

func (c *smoothedCursor) reconciled(what string, op annotations.HistogramOperation) {
	c.node.notes.Add(0, "reconciled", what, func(at posrange.PositionRange) error {
		return annotations.NewMismatchedCustomBucketsHistogramsInfo(at, op)
	})
}
