// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"context"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// cursor computes rows, one series at a time.
type cursor struct {
	node *node
	in   operator.RangeCursor
	// counter is in, if that counts the samples in windows.
	counter operator.WindowCounter
	left    int              // ids not yet asked for, at most
	s       operator.Samples // of the series at hand
	f       frame            // its floats
	m       *mixed

	// adviser
	advisedAny  bool
	advisedName uint32 // symbol of the metric advised on last
	advisedType uint32
}

// Next implements operator.Cursor.
func (c *cursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	steps := c.node.windows.Grid.N
	b.Reset(steps)
	if c.m != nil {
		c.m.releaseResults()
	}
	rows := min(operator.BatchRows(steps), c.left)
	if err := b.Reserve(rows); err != nil {
		return false, err
	}
	for b.Rows() < rows {
		if err := c.node.env.Check(); err != nil {
			return false, err
		}
		var ok bool
		var err error
		if c.s, ok, err = c.in.Next(ctx); err != nil {
			return false, err
		}
		if !ok {
			break
		}
		c.left--
		if len(c.s.T) == 0 {
			continue
		}
		if err := c.row(b); err != nil {
			return false, err
		}
	}
	return b.Rows() > 0, nil
}

// row adds the row of a series, unless it has no cell.
func (c *cursor) row(b *vector.Batch) error {
	s := &c.s
	i, err := b.Add(s.ID)
	if err != nil {
		return err
	}
	if s.Kind != nil && hasHistograms(s.Kind) {
		return c.mixedRow(b, i)
	}
	v, k, _ := b.Row(i)
	if err := c.f.load(s.T, c.startTimes(s), s.V); err != nil {
		return err
	}
	if c.counter != nil {
		c.counter.CountWindows(c.f.lo, c.f.hi)
	}
	c.f.begin(s.ID, v, k)
	if err := c.node.fn.floats(&c.f); err != nil {
		return err
	}
	switch c.f.cells {
	case 0:
		b.Drop(i)
		return nil
	case len(k):
		b.Shape[i] = vector.Full
	default:
		b.Shape[i] = vector.HasFloats | vector.HasGaps
	}
	if c.node.fn.advises {
		c.advise(s.ID)
	}
	return nil
}

func (c *cursor) mixedRow(b *vector.Batch, i int) error {
	s := &c.s
	if err := b.UseHistograms(); err != nil {
		return err
	}
	if c.m == nil {
		c.m = newMixed(c)
	}
	c.m.batch = b
	v, k, h := b.Row(i)
	if err := c.m.load(s, c.startTimes(s), v, k, h); err != nil {
		return err
	}
	if err := c.node.fn.mixed(c.m); err != nil {
		return err
	}
	b.Measure(i)
	if b.Shape[i]&(vector.HasFloats|vector.HasHistograms) == 0 {
		b.Drop(i)
		return nil
	}
	if c.node.fn.advises && b.Shape[i]&vector.HasFloats != 0 {
		c.advise(s.ID)
	}
	return nil
}

// startTimes returns the column of start timestamps where it matters and says something.
func (c *cursor) startTimes(s *operator.Samples) []int64 {
	if !c.node.fn.startTimes || !c.node.env.UseStartTimestamps {
		return nil
	}
	for _, st := range s.ST {
		if st != 0 {
			return s.ST
		}
	}
	return nil
}

func hasHistograms(kinds []sample.Kind) bool {
	for _, k := range kinds {
		if k != sample.Float {
			return true
		}
	}
	return false
}

// advise notes that a metric does not look like a counter.
func (c *cursor) advise(id uint32) {
	t := c.node.in
	names := t.Column(labels.MetricName)
	if names == nil || names[id] == 0 {
		return
	}
	var typ uint32
	if c.node.env.TypeAndUnitLabels {
		if types := t.Column(model.MetricTypeLabel); types != nil {
			typ = types[id]
		}
	}
	if c.advisedAny && c.advisedName == names[id] && c.advisedType == typ {
		return
	}
	c.advisedAny, c.advisedName, c.advisedType = true, names[id], typ
	name := t.Dict.Text(names[id])
	if c.node.env.TypeAndUnitLabels {
		text := t.Dict.Text(typ)
		if text != string(model.MetricTypeCounter) && text != string(model.MetricTypeHistogram) {
			c.node.notes.Add(1, "non-counter type", name+"\xff"+text, func(at posrange.PositionRange) error {
				return annotations.NewPossibleNonCounterLabelInfo(name, text, at)
			})
		}
		return
	}
	for _, suffix := range [...]string{"_total", "_sum", "_count", "_bucket"} {
		if strings.HasSuffix(name, suffix) {
			return
		}
	}
	c.node.notes.Add(1, "non-counter", name, func(at posrange.PositionRange) error {
		return annotations.NewPossibleNonCounterInfo(name, at)
	})
}

// Close implements operator.Cursor.
func (c *cursor) Close() {
	c.in.Close()
	c.s = operator.Samples{}
	c.f.release()
	if c.m != nil {
		c.m.release()
	}
}
