// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import "time"

// extendedRateKernel is rate, increase and delta over anchored and smoothed selectors: no extrapolation, but samples
// outside the window, or interpolations towards them, stand for its edges.
func extendedRateKernel(f *frame) error {
	var resets []int32
	if f.fn.counter {
		// Start timestamps do not count here.
		st := f.st
		f.st = nil
		var err error
		resets, err = f.resets()
		f.st = st
		if err != nil {
			return err
		}
	}
	seconds := (time.Duration(f.w.Range) * time.Millisecond).Seconds()
	var next int
	for i := range f.lo {
		e, ok := f.edgesOf(i)
		if !ok {
			continue
		}
		left, right := f.leftValue(e), f.rightValue(e)
		result := right - left
		if f.fn.counter {
			var lost float64
			lost, next = f.lost(e, left, right, resets, next)
			result += lost
		}
		if f.fn.perSecond {
			result /= seconds
		}
		f.set(i, result)
	}
	return nil
}

// extent is the samples that count for one window of an extended selector: first and last are the ones that stand
// for its edges, start and end.
type extent struct {
	first, last int
	start, end  int64
}

// edgesOf returns the extent of step i; false: nothing to measure.
func (b *bounds) extent(i int, smoothed bool) (first, last int, ok bool) {
	l, h := int(b.lo[i]), int(b.hi[i])
	if l >= h {
		return 0, 0, false
	}
	last = h - 1
	first = max(min(int(b.from[i]), last)-1, l)
	if smoothed {
		last = min(int(b.upto[i]), last)
	}
	return first, last, true
}

func (f *frame) edgesOf(i int) (extent, bool) {
	first, last, ok := f.extent(i, f.w.Smoothed)
	e := extent{first: first, last: last, start: f.w.At(i) - f.w.Range, end: f.w.At(i)}
	if !ok || f.t[last] <= e.start || f.w.Smoothed && f.t[first] > e.end {
		return e, false
	}
	return e, true
}

func (f *frame) leftValue(e extent) float64 {
	if f.w.Smoothed && f.t[e.first] < e.start {
		return f.between(e.first, e.first+1, e.start)
	}
	return f.v[e.first]
}

func (f *frame) rightValue(e extent) float64 {
	if f.w.Smoothed && e.last > 0 && f.t[e.last] > e.end {
		return f.between(e.last-1, e.last, e.end)
	}
	return f.v[e.last]
}

// between interpolates between two samples. A counter that was reset between them rises from zero.
func (f *frame) between(a, b int, at int64) float64 {
	y1, y2 := f.v[a], f.v[b]
	if f.fn.counter && y2 < y1 {
		y1 = 0
	}
	return y1 + float64(y2-y1)*float64(at-f.t[a])/float64(f.t[b]-f.t[a])
}

// lost adds up what was lost at the resets within an extent. next is the first of resets that may count for this
// extent and the later ones.
func (f *frame) lost(e extent, left, right float64, resets []int32, next int) (float64, int) {
	first, last := e.first, e.last
	if f.t[first] <= e.start {
		first++
	}
	if f.t[last] >= e.end {
		last--
	}
	var sum float64
	prev := left
	if first <= last {
		if f.v[first] < prev {
			sum += prev
		}
		for next < len(resets) && int(resets[next]) <= first {
			next++
		}
		for j := next; j < len(resets) && int(resets[j]) <= last; j++ {
			sum += f.v[resets[j]-1]
		}
		prev = f.v[last]
	}
	if right < prev {
		sum += prev
	}
	return sum, next
}
