// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"slices"
	"sort"

	"github.com/tidemarkdb/tidemark/query/operator"
)

// bounds are the windows of all steps over one column of samples. Step i sees the samples [lo[i], hi[i]), those
// around the window included which anchored and smoothed selectors may look at.
type bounds struct {
	lo, hi []int32
	// from is, for the extended selectors, the first sample behind the left edge of the window itself.
	from []int32
	// upto is, for smoothed selectors, the first sample at or behind the right edge.
	upto []int32
	// visits is how many samples the windows hold, each counted as often as it is in one.
	visits int
	// gaps: at least one window is empty.
	gaps bool

	room []int32 // of all four
	// times is a copy of the samples' times that the bounds were found for; empty: unknown.
	times []int64
}

// find fills the bounds for the samples at times t, which ascend.
func (b *bounds) find(m *memory, w *operator.Windows, t []int64) error {
	n := w.Grid.N
	columns := 2
	if w.Anchored || w.Smoothed {
		columns = 4
	}
	if len(b.room) != columns*n {
		var err error
		if b.room, err = room(m, b.room, columns*n, 4); err != nil {
			return err
		}
		b.lo, b.hi = b.room[:n:n], b.room[n:2*n:2*n]
		if columns == 4 {
			b.from, b.upto = b.room[2*n:3*n:3*n], b.room[3*n:]
		}
	}
	if n == 1 && columns == 2 {
		b.findOne(w, t)
		return nil
	}
	// Series of one target have the same times, and those of one histogram come one after the other.
	if b.knows(t) {
		return nil
	}
	b.times = b.times[:0]
	if len(t) <= worthKnowing*n {
		times, err := room(m, b.times, len(t), 8)
		if err != nil {
			return err
		}
		b.times = times
		copy(times, t)
	}
	left, right := w.Start-w.Range, w.Start
	if columns == 2 {
		edges(b.hi, t, right, w.Step)
		b.leftEdges(w, t)
	} else {
		b.extended(w, t, left, right)
	}
	b.measure()
	return nil
}

// worthKnowing is up to how many samples per step it is cheaper to compare their times than to look for the edges.
const worthKnowing = 4

// knows tells whether the bounds are those for the times t.
func (b *bounds) knows(t []int64) bool {
	n := len(t)
	return n > 0 && n == len(b.times) && t[0] == b.times[0] && t[n-1] == b.times[n-1] && slices.Equal(t, b.times)
}

// forget makes sure that the bounds, which were changed, are not used for another series.
func (b *bounds) forget() { b.times = b.times[:0] }

func (b *bounds) findOne(w *operator.Windows, t []int64) {
	l, h := before(t, w.Start-w.Range), before(t, w.Start)
	b.lo[0], b.hi[0] = int32(l), int32(h)
	b.visits, b.gaps = h-l, l >= h
}

// leftEdges fills lo. Where the length of a window is a multiple of the step, one window's left edge is the right
// edge of a step before.
func (b *bounds) leftEdges(w *operator.Windows, t []int64) {
	n := len(b.lo)
	if w.Step > 0 && w.Range%w.Step == 0 && w.Range/w.Step < int64(n) {
		k := int(w.Range / w.Step)
		edges(b.lo[:k], t, w.Start-w.Range, w.Step)
		copy(b.lo[k:], b.hi)
		return
	}
	edges(b.lo, t, w.Start-w.Range, w.Step)
}

func (b *bounds) extended(w *operator.Windows, t []int64, left, right int64) {
	edges(b.from, t, left, w.Step)
	edges(b.lo, t, left-w.Lookback, w.Step)
	edges(b.upto, t, right-1, w.Step)
	if w.Smoothed {
		right += w.Lookback
	}
	edges(b.hi, t, right, w.Step)
}

func (b *bounds) measure() {
	lo, hi := b.lo, b.hi
	b.visits, b.gaps = 0, false
	for i, l := range lo {
		c := int(hi[i] - l)
		b.visits += c
		if c <= 0 {
			b.gaps = true
		}
	}
}

// edges fills dst[i] with how many of the times t are at or before at + i*step.
//
// The number of new samples per step is mostly the same as at the step before, so that is tried first; else the
// cursor walks, and walks over each sample once.
func edges(dst []int32, t []int64, at, step int64) {
	if len(dst) == 0 {
		return
	}
	n := len(t)
	h, d := before(t, at), 0
	dst[0] = int32(h)
	for i := 1; i < len(dst); i++ {
		at += step
		g := h + d
		if g > n || g < n && t[g] <= at || g > 0 && t[g-1] > at {
			for g = h; g < n && t[g] <= at; {
				g++
			}
			d = g - h
		}
		h = g
		dst[i] = int32(h)
	}
}

// before returns how many of the times t are at or before at.
func before(t []int64, at int64) int {
	n := len(t)
	switch {
	case n == 0 || t[0] > at:
		return 0
	case t[n-1] <= at:
		return n
	}
	return sort.Search(n, func(i int) bool { return t[i] > at })
}
