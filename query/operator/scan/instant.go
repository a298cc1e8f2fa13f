// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// NewInstant returns the operator of an instant vector selector: at each step the newest sample of a series in the
// lookback interval, which is open at the left, and nothing if that sample is a stale marker.
//
// A smoothed selector interpolates; its notes use slot 0, the selector.
func NewInstant(env *operator.Env, sel Selector, g vector.Grid) operator.Node {
	n := &instant{grid: g, look: sel.times(g)}
	from, to := n.look.start-env.LookbackDelta, n.look.last()
	if sel.Smoothed {
		s := &smoothed{instant: n}
		s.init(env, sel, from, to+env.LookbackDelta)
		return s
	}
	n.init(env, sel, from, to)
	return n
}

type instant struct {
	source
	grid vector.Grid
	look times
}

// Open implements operator.Node.
func (n *instant) Open(ctx context.Context) error { return n.open(ctx) }

// Grid implements operator.Node.
func (n *instant) Grid() vector.Grid { return n.grid }

// Cursor implements operator.Node.
func (n *instant) Cursor(ids []uint32) operator.Cursor {
	c := n.cursor(ids)
	if l, ok := n.env.View.(column.LatestReader); ok && n.look.n == 1 {
		return &latestCursor{instantCursor: c, view: l}
	}
	return &c
}

func (n *instant) cursor(ids []uint32) instantCursor {
	return instantCursor{node: n, reader: n.reader(n.ids(ids))}
}

// instantCursor decodes series and picks the sample of each step.
type instantCursor struct {
	node   *instant
	reader reader
	hist   histograms
	// stamps is the node where the times of samples are asked for, else nil.
	stamps *timestamps
}

// Close implements operator.Cursor.
func (c *instantCursor) Close() {
	c.reader.close()
	c.hist.release()
}

// Next implements operator.Cursor.
func (c *instantCursor) Next(ctx context.Context, b *vector.Batch) (bool, error) {
	c.hist.release()
	return c.reader.batch(ctx, b, c.node.look.n, c.fill)
}

// fill sets the cells of row i, which are absent, and its shape.
func (c *instantCursor) fill(b *vector.Batch, i int, s series) error {
	switch {
	case c.stamps != nil:
		c.stamps.fill(b, i, c.reader.blk, s)
		return nil
	case s.shape&column.HasHistograms != 0:
		return c.fillMixed(b, i, s)
	}
	v, k, _ := b.Row(i)
	blk, lookback := c.reader.blk, c.node.env.LookbackDelta
	t, x := blk.T[s.from:s.to], blk.V[s.from:s.to]
	var cells int
	if s.shape&column.HasStale == 0 {
		cells = pick(c.node.look, lookback, t, x, v, k)
	} else {
		cells = pickLive(c.node.look, lookback, t, x, v, k)
	}
	b.Shape[i] = shapeOf(cells, len(v))
	return nil
}

// shapeOf returns the shape of a row of floats by how many of its steps have one.
func shapeOf(cells, steps int) vector.Shape {
	switch cells {
	case 0:
		return vector.HasGaps
	case steps:
		return vector.Full
	default:
		return vector.HasFloats | vector.HasGaps
	}
}

// pick fills a row with the newest of the floats x at the times t, none of them a stale marker, and returns how many
// cells it has.
func pick(look times, lookback int64, t []int64, x, v []float64, k []vector.Kind) (cells int) {
	if len(t) > sparse*len(v) {
		return pickSparse(look, lookback, t, x, v, k)
	}
	k = k[:len(v)]
	x = x[:len(t)]
	ref, h := look.start, 0
	for i := range v {
		for h < len(t) && t[h] <= ref {
			h++
		}
		if j := h - 1; j >= 0 && t[j] > ref-lookback {
			v[i], k[i] = x[j], vector.Float
			cells++
		}
		ref += look.step
	}
	return cells
}

// sparse is from how many samples a step on it pays to leap over them.
const sparse = 12

func pickSparse(look times, lookback int64, t []int64, x, v []float64, k []vector.Kind) (cells int) {
	ref, h := look.start, 0
	for i := range v {
		h = forward(t, h, ref)
		if h > 0 && t[h-1] > ref-lookback {
			v[i], k[i] = x[h-1], vector.Float
			cells++
		}
		ref += look.step
	}
	return cells
}

// pickLive is pick for floats with stale markers.
func pickLive(look times, lookback int64, t []int64, x, v []float64, k []vector.Kind) (cells int) {
	ref, h := look.start, 0
	for i := range v {
		h = forward(t, h, ref)
		if h > 0 && t[h-1] > ref-lookback && math.Float64bits(x[h-1]) != value.StaleNaN {
			v[i], k[i] = x[h-1], vector.Float
			cells++
		}
		ref += look.step
	}
	return cells
}

// forward returns how many of the times t are at or before ref, where the first h are known to be. It looks at each
// of the next few and then doubles its stride, so that steps far apart cost little.
func forward(t []int64, h int, ref int64) int {
	for end := min(h+8, len(t)); h < end; h++ {
		if t[h] > ref {
			return h
		}
	}
	if h == len(t) || t[h] > ref {
		return h
	}
	return gallop(t, h, ref)
}

func gallop(t []int64, h int, ref int64) int {
	stride := 8
	for h+stride < len(t) && t[h+stride] <= ref {
		h += stride
		stride *= 2
	}
	lo, hi := h+1, min(h+stride, len(t))
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); t[m] <= ref {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}
