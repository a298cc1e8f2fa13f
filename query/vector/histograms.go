// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// made is memory for the histograms that are made for the cells of a batch, cut from large pieces. A batch that is
// Brief uses it again after a Reset; of others it belongs to whoever holds a histogram, and is left to them.
type made struct {
	structs cuts[histogram.FloatHistogram]
	floats  cuts[float64]
	spans   cuts[histogram.Span]
	shared  [2][]histogram.Span // what ShareSpans returned last, of either side
	bytes   int64               // charged
}

// cuts are pieces from which runs of entries are cut, one behind the other.
type cuts[T any] struct {
	pieces   [][]T
	at, used int // the piece that is being cut, and how far
}

// Sizes of pieces, in entries: the first are about 16 KiB together, each is twice the one before, up to a limit.
const (
	firstStructs = 32
	firstFloats  = 1024
	firstSpans   = 256
	mostDoubled  = 6
)

const structBytes, floatBytes, spanBytes = 168, 8, 8

// take returns n entries, undefined; nil where a piece has to be added first.
func (c *cuts[T]) take(n int) []T {
	for ; c.at < len(c.pieces); c.at, c.used = c.at+1, 0 {
		if p := c.pieces[c.at]; c.used+n <= len(p) {
			c.used += n
			return p[c.used-n : c.used : c.used]
		}
	}
	return nil
}

// cut takes n entries of a piece, or of a new one.
func cut[T any](b *Batch, c *cuts[T], n, first int, size int64) ([]T, error) {
	if n == 0 {
		return nil, nil
	}
	if x := c.take(n); x != nil {
		return x, nil
	}
	entries := max(n, first<<min(len(c.pieces), mostDoubled))
	if err := b.Budget.Reserve(int64(entries) * size); err != nil {
		return nil, err
	}
	b.made.bytes += int64(entries) * size
	c.pieces = append(c.pieces, make([]T, entries))
	return c.take(n), nil
}

// resetMade ends the use of the histograms that were made.
func (b *Batch) resetMade() {
	m := &b.made
	m.shared = [2][]histogram.Span{}
	if b.Brief {
		m.structs.at, m.structs.used = 0, 0
		m.floats.at, m.floats.used = 0, 0
		m.spans.at, m.spans.used = 0, 0
		return
	}
	if m.bytes > 0 {
		b.Budget.Release(m.bytes)
		*m = made{}
	}
}

// MakeHistogram returns memory for a histogram of a cell, undefined, which is good until the next Reset, or for ever if
// the batch is not Brief.
func (b *Batch) MakeHistogram() (*histogram.FloatHistogram, error) {
	x, err := cut(b, &b.made.structs, 1, firstStructs, structBytes)
	if err != nil {
		return nil, err
	}
	return &x[0], nil
}

// MakeBuckets returns memory for n buckets of such a histogram, undefined.
func (b *Batch) MakeBuckets(n int) ([]float64, error) {
	return cut(b, &b.made.floats, n, firstFloats, floatBytes)
}

// CopySpans returns a copy of spans for such a histogram.
func (b *Batch) CopySpans(spans []histogram.Span) ([]histogram.Span, error) {
	x, err := cut(b, &b.made.spans, len(spans), firstSpans, spanBytes)
	copy(x, spans)
	return x, err
}

// ShareSpans returns a copy of the spans of a side, 0 or 1, for histograms that are compact, so that nobody has reason
// to change their spans: one copy serves neighbours.
func (b *Batch) ShareSpans(side int, spans []histogram.Span) ([]histogram.Span, error) {
	last := &b.made.shared[side]
	if slices.Equal(*last, spans) {
		return *last, nil
	}
	x, err := b.CopySpans(spans)
	if err == nil {
		*last = x
	}
	return x, err
}
