// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// runLayout is one of the layouts of a run of histogram columns.
type runLayout struct {
	layout
	columns []int32 // of each of its buckets, positive ones first
}

// addLayout adds a layout, in the memory of one that was there before.
func addLayout(all []runLayout, l layout) []runLayout {
	n := len(all)
	all = slices.Grow(all, 1)[:n+1]
	all[n].layout, all[n].columns = l, all[n].columns[:0]
	return all
}

// bucketColumns are the columns of buckets that a run has: the indices of the buckets, each side ascending.
type bucketColumns struct {
	pos, neg []int64
	present  []bool // scratch: which columns a layout has
	spans    []histogram.Span
}

func (c *bucketColumns) len() int { return len(c.pos) + len(c.neg) }

// maxIndex is the largest index of a bucket in columns, either way, so that the distance of two fits a span.
const maxIndex = 1 << 30

// plain reports whether the indices of the buckets ascend on both sides, as many as there are buckets.
func (l *layout) plain() bool {
	return plainSpans(l.pos, l.npos) && plainSpans(l.neg, l.nneg)
}

func plainSpans(spans []histogram.Span, buckets int) bool {
	n, index := int64(0), int64(0)
	for i, s := range spans {
		index += int64(s.Offset)
		if i > 0 && s.Offset < 0 || index < -maxIndex {
			return false
		}
		n += int64(s.Length)
		if index += int64(s.Length); index > maxIndex {
			return false
		}
	}
	return n == int64(buckets)
}

// unite makes the columns those that layouts have together, and finds those of each.
func (c *bucketColumns) unite(layouts []runLayout) {
	c.pos, c.neg = c.pos[:0], c.neg[:0]
	for i := range layouts {
		c.pos = appendIndices(c.pos, layouts[i].pos, layouts[i].npos)
		c.neg = appendIndices(c.neg, layouts[i].neg, layouts[i].nneg)
	}
	if len(layouts) > 1 {
		slices.Sort(c.pos)
		slices.Sort(c.neg)
		c.pos, c.neg = slices.Compact(c.pos), slices.Compact(c.neg)
	}
	for i := range layouts {
		c.place(&layouts[i])
	}
}

func appendIndices(dst []int64, spans []histogram.Span, n int) []int64 {
	w := spanWalk{spans: spans}
	for range n {
		dst = append(dst, w.next())
	}
	return dst
}

// place finds the columns of the buckets of a layout; false where there is none for one.
func (c *bucketColumns) place(l *runLayout) (ok bool) {
	l.columns, ok = appendPlaces(l.columns[:0], c.pos, 0, l.pos, l.npos)
	if ok {
		l.columns, ok = appendPlaces(l.columns, c.neg, len(c.pos), l.neg, l.nneg)
	}
	return ok
}

// appendPlaces appends where in indices, which are those of the columns from first on, the n buckets of spans are.
func appendPlaces(dst []int32, indices []int64, first int, spans []histogram.Span, n int) ([]int32, bool) {
	w := spanWalk{spans: spans}
	at := 0
	for range n {
		index := w.next()
		for at < len(indices) && indices[at] < index {
			at++
		}
		if at == len(indices) || indices[at] != index {
			return dst, false
		}
		dst = append(dst, int32(first+at))
	}
	return dst, true
}

// appendLayouts writes the columns, then each layout: by the columns in which it is not like the one before, or by its
// spans where there are shorter ones.
func (c *bucketColumns) appendLayouts(dst []byte, layouts []runLayout) []byte {
	c.spans = spansOf(c.spans[:0], c.pos, nil)
	dst = appendSpans(dst, c.spans)
	c.spans = spansOf(c.spans[:0], c.neg, nil)
	dst = appendSpans(dst, c.spans)
	dst = binary.AppendUvarint(dst, uint64(len(layouts)))
	c.all()
	for i := range layouts {
		l := &layouts[i]
		at := len(dst)
		dst = c.appendChange(dst, l)
		if !c.usual(l) {
			dst = appendSpans(appendSpans(append(dst[:at], 0), l.pos), l.neg)
		}
	}
	return dst
}

// all makes all columns present.
func (c *bucketColumns) all() {
	c.present = c.present[:0]
	for range c.len() {
		c.present = append(c.present, true)
	}
}

// appendChange writes in which columns a layout is not like those present, and makes these present.
func (c *bucketColumns) appendChange(dst []byte, l *runLayout) []byte {
	changes, k := 0, 0
	for i, was := range c.present {
		is := k < len(l.columns) && int(l.columns[k]) == i
		if is {
			k++
		}
		if is != was {
			changes++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(changes)+1)
	next := 0
	k = 0
	for i, was := range c.present {
		is := k < len(l.columns) && int(l.columns[k]) == i
		if is {
			k++
		}
		if is != was {
			dst = binary.AppendUvarint(dst, uint64(i-next))
			next, c.present[i] = i+1, is
		}
	}
	return dst
}

// usual reports whether the spans of a layout are those that the columns present make.
func (c *bucketColumns) usual(l *runLayout) bool {
	c.spans = spansOf(c.spans[:0], c.pos, c.present)
	if !slices.Equal(c.spans, l.pos) {
		return false
	}
	c.spans = spansOf(c.spans[:0], c.neg, c.present[len(c.pos):])
	return slices.Equal(c.spans, l.neg)
}

// spansOf appends as few spans as make the indices that are present; nil: all are.
func spansOf(dst []histogram.Span, indices []int64, present []bool) []histogram.Span {
	next, first := int64(0), true
	for i, index := range indices {
		if present != nil && !present[i] {
			continue
		}
		if first || index != next {
			dst = append(dst, histogram.Span{Offset: int32(index - next)})
		}
		dst[len(dst)-1].Length++
		next, first = index+1, false
	}
	return dst
}

func appendSpans(dst []byte, spans []histogram.Span) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(spans)))
	for _, s := range spans {
		dst = binary.AppendUvarint(binary.AppendVarint(dst, int64(s.Offset)), uint64(s.Length))
	}
	return dst
}
