// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import "math"

// The largest and smallest samples of sliding windows are found with two stacks: the window is cut at a place, behind
// which one running extreme suffices because samples only come there, and ahead of which the extremes of all suffixes
// are kept because samples only go there. When the front part is used up, the window is cut at its end anew and the
// suffixes are computed backwards. So every sample is compared twice, and nearly every comparison goes the same way
// as the one before.
//
// NaN is less extreme than everything. Among equal values the first counts, for the ts_of functions the last.

// maxKernel is max_over_time.
func maxKernel(f *frame) error { return extremeKernel(f, greater) }

// minKernel is min_over_time.
func minKernel(f *frame) error { return extremeKernel(f, less) }

// maxTimeKernel is ts_of_max_over_time.
func maxTimeKernel(f *frame) error { return extremeTimeKernel(f, less) }

// minTimeKernel is ts_of_min_over_time.
func minTimeKernel(f *frame) error { return extremeTimeKernel(f, greater) }

type order bool

const (
	greater order = true
	less    order = false
)

// beats tells whether x replaces the extreme m of samples before it.
func (o order) beats(x, m float64) bool {
	if o == greater {
		return x > m || math.IsNaN(m)
	}
	return x < m || math.IsNaN(m)
}

func extremeKernel(f *frame, o order) error {
	f.mark()
	if f.visits <= 2*len(f.v) {
		return extremeDirect(f, o)
	}
	suffix, err := room(&f.scratch.memory, f.scratch.sum, len(f.v), 8)
	if err != nil {
		return err
	}
	f.scratch.sum = suffix
	v := f.v
	cut, end := 0, 0 // [lo, cut) by suffixes, [cut, end) by run
	run := math.NaN()
	for i, l32 := range f.lo {
		l, h := int(l32), int(f.hi[i])
		if l >= h {
			continue
		}
		if l >= cut {
			from := l
			cut, end = h, h
			run = math.NaN()
			if err := f.spend(h - l); err != nil {
				return err
			}
			m := math.NaN()
			for j := cut - 1; j >= from; j-- {
				if !o.beats(m, v[j]) {
					m = v[j]
				}
				suffix[j] = m
			}
		}
		if err := f.spend(h - end); err != nil {
			return err
		}
		for ; end < h; end++ {
			if o.beats(v[end], run) {
				run = v[end]
			}
		}
		m := suffix[l]
		if cut < end && o.beats(run, m) {
			m = run
		}
		f.out[i] = m
	}
	return nil
}

func extremeDirect(f *frame, o order) error {
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		m := f.v[l]
		for _, x := range f.v[l+1 : h] {
			if o.beats(x, m) {
				m = x
			}
		}
		f.out[i] = m
		if err := f.spend(int(h - l)); err != nil {
			return err
		}
	}
	return nil
}

// extremeTimeKernel tells the time of the last extreme sample. worse is the order in which the extreme is last.
func extremeTimeKernel(f *frame, worse order) error {
	f.mark()
	suffix, err := room(&f.scratch.memory, f.scratch.index, len(f.v), 4)
	if err != nil {
		return err
	}
	f.scratch.index = suffix
	v := f.v
	cut, end, run := 0, 0, 0
	for i, l32 := range f.lo {
		l, h := int(l32), int(f.hi[i])
		if l >= h {
			continue
		}
		if l >= cut {
			cut, end, run = h, h, -1
			if err := f.spend(h - l); err != nil {
				return err
			}
			m := h - 1
			for j := cut - 1; j >= l; j-- {
				if worse.loses(v[m], v[j]) {
					m = j
				}
				suffix[j] = int32(m)
			}
		}
		if err := f.spend(h - end); err != nil {
			return err
		}
		for ; end < h; end++ {
			if run < 0 || !worse.loses(v[end], v[run]) {
				run = end
			}
		}
		m := int(suffix[l])
		if cut < end && !worse.loses(v[run], v[m]) {
			m = run
		}
		f.out[i] = float64(f.t[m]) / 1000
	}
	return nil
}

// loses tells whether x, which comes later than m, is worse than it, so that m stays the extreme.
func (o order) loses(x, m float64) bool {
	if math.IsNaN(m) {
		return false
	}
	if o == greater {
		return !(x <= m)
	}
	return !(x >= m)
}
