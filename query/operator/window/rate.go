// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"
	"time"

	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// rateKernel is rate, increase and delta: the difference of the last and the first sample, plus what was lost at each
// reset, extrapolated to the edges of the window.
func rateKernel(f *frame) error {
	if f.w.Anchored || f.w.Smoothed {
		return extendedRateKernel(f)
	}
	var resets []int32
	if f.fn.counter {
		var err error
		if resets, err = f.resets(); err != nil {
			return err
		}
	}
	if f.st != nil {
		return rateWithStartTimes(f, resets)
	}
	x := &f.extrapolation
	t, v, lo := f.t, f.v, f.lo
	hi, out, kind := f.hi[:len(lo)], f.out[:len(lo)], f.kind[:len(lo)]
	counter, length := f.fn.counter, f.w.Range
	at, step := f.w.Start-f.w.Step, f.w.Step
	next := resetList{all: resets, first: never}
	next.advance(-1)
	cells := 0
	for i, l := range lo {
		at += step
		h := hi[i]
		if h-l < 2 {
			continue
		}
		first, last := v[l], v[h-1]
		result := last - first
		if next.first <= l {
			next.advance(l)
		}
		if next.first < h {
			result = next.add(result, v, h)
		}
		x.window(t[l]-(at-length), at-t[h-1], int(h-l)-1)
		factor := x.factor
		if counter && result > 0 && first >= 0 && !x.far(first, result) {
			factor = x.clamped(first, result)
		}
		out[i], kind[i] = float64(result*factor), vector.Float
		cells++
	}
	f.cells = cells
	return nil
}

// resetList is the resets of a series, and those of them that are in the window at hand or later.
type resetList struct {
	all   []int32
	first int32 // of all; never if there is none
}

const never = math.MaxInt32

// advance drops the resets up to sample l.
func (r *resetList) advance(l int32) {
	for len(r.all) > 0 && r.all[0] <= l {
		r.all = r.all[1:]
	}
	r.first = never
	if len(r.all) > 0 {
		r.first = r.all[0]
	}
}

// add adds to sum what was lost at the resets before sample h.
func (r *resetList) add(sum float64, v []float64, h int32) float64 {
	for _, j := range r.all {
		if j >= h {
			break
		}
		sum += v[j-1]
	}
	return sum
}

// resets returns the samples that are less than the one before, or newly started, in order.
func (f *frame) resets() ([]int32, error) {
	found := f.scratch.index[:0]
	v := f.v
	for i := 1; i < len(v); i++ {
		if v[i] < v[i-1] || f.st != nil && startedAnew(f.st[i-1], f.t[i-1], f.st[i], f.t[i]) {
			if len(found) == cap(found) {
				grown, err := room(&f.scratch.memory, found, len(found)+64, 4)
				if err != nil {
					return nil, err
				}
				copy(grown, found)
				found = grown[:len(found)]
			}
			found = append(found, int32(i))
		}
	}
	f.scratch.index = found[:0]
	return found, nil
}

// extrapolation keeps what the position of the samples within a window has to do with the result. Series that are
// scraped regularly have the same positions again and again, and no division is made for them.
type extrapolation struct {
	rangeSeconds float64
	perSecond    bool
	// The key: from the left edge to the first sample, from the last to the right edge, and how many gaps between.
	dStart, dEnd int64
	gaps         int

	length   int64 // of the window, milliseconds
	interval float64
	toStart  float64
	toEnd    float64
	average  float64
	factor   float64 // with toStart as it is
}

func newExtrapolation(f *frame) extrapolation {
	return extrapolation{
		rangeSeconds: (time.Duration(f.w.Range) * time.Millisecond).Seconds(),
		perSecond:    f.fn.perSecond,
		length:       f.w.Range,
		gaps:         -1,
	}
}

// window computes the factor for a window, if it is not the one computed last.
func (x *extrapolation) window(dStart, dEnd int64, gaps int) {
	if x.dStart != dStart || x.dEnd != dEnd || x.gaps != gaps {
		x.compute(dStart, dEnd, gaps)
	}
}

func (x *extrapolation) compute(dStart, dEnd int64, gaps int) {
	x.dStart, x.dEnd, x.gaps = dStart, dEnd, gaps
	x.interval = float64(x.length-dStart-dEnd) / 1000
	x.average = 0
	if gaps > 0 {
		x.average = x.interval / float64(gaps)
	}
	threshold := float64(x.average * 1.1)
	x.toStart, x.toEnd = float64(dStart)/1000, float64(dEnd)/1000
	if x.toStart >= threshold {
		x.toStart = x.average / 2
	}
	if x.toEnd >= threshold {
		x.toEnd = x.average / 2
	}
	x.factor = x.over(x.interval, x.toStart)
}

// over returns the factor for samples that span interval seconds and reach toStart further to the left.
func (x *extrapolation) over(interval, toStart float64) float64 {
	factor := 1.0
	if interval != 0 {
		factor = (interval + toStart + x.toEnd) / interval
	}
	if x.perSecond {
		factor /= x.rangeSeconds
	}
	return factor
}

// far tells that a counter that rose by result from first is so far from zero that clamped changes nothing, which holds
// for most. It says so without a division: the margin is wider than the rounding of the quotient that decides, as long
// as nothing underflows.
func (x *extrapolation) far(first, result float64) bool {
	bound := float64(float64(x.toStart*result) * (1 + 1e-12))
	return float64(x.interval*first) >= bound && bound > 1e-280 && bound <= math.MaxFloat64
}

// clamped returns the factor for a counter that rose by result from first: it does not reach back beyond where it
// would have been zero.
func (x *extrapolation) clamped(first, result float64) float64 {
	if x.far(first, result) {
		return x.factor
	}
	if toZero := float64(x.interval * (first / result)); toZero < x.toStart {
		return x.over(x.interval, toZero)
	}
	return x.factor
}

// startedAnew tells whether a counter was started anew between two samples, by their start timestamps; 0: unknown.
func startedAnew(prevStart, prevT, start, t int64) bool {
	switch {
	case start == prevStart || start == 0 || start >= t || start < prevT:
		return false
	case start > prevT:
		return true
	}
	// It starts where the sample before was taken: so do deltas, where that sample had a known start itself.
	return prevStart != 0 && prevStart < prevT
}

// startsWithin tells whether a sample claims to have started before the one ahead of it was taken, but after that
// one started.
func startsWithin(prevStart, prevT, start int64) bool {
	return start != 0 && start < prevT && start != prevStart
}

// rateWithStartTimes is rateKernel for samples with start timestamps: a start within the window is a sample of zero.
func rateWithStartTimes(f *frame, resets []int32) error {
	var next, overlap, overlaps int
	x := &f.extrapolation
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		if overlap = f.overlapBehind(overlap, int(l)); overlap < int(h) {
			overlaps++
		}
		first := f.v[l]
		result := f.v[h-1] - first
		for next < len(resets) && resets[next] <= l {
			next++
		}
		for j := next; j < len(resets) && resets[j] < h; j++ {
			result += f.v[resets[j]-1]
		}
		left := f.w.At(i) - f.w.Range
		x.window(f.t[l]-left, f.w.At(i)-f.t[h-1], int(h-l)-1)
		st := f.st[l]
		var factor float64
		switch {
		case st != 0 && st > left && st < f.t[l]:
			result += first
			factor = x.over(float64(f.t[h-1]-st)/1000, 0)
		case h-l < 2:
			continue
		case result > 0 && first >= 0:
			factor = x.clamped(first, result)
		default:
			factor = x.factor
		}
		f.set(i, float64(result*factor))
	}
	f.noteOverlaps(overlaps)
	return nil
}

// overlapBehind returns the first sample behind l, and not before from, that starts within the one before it.
func (f *frame) overlapBehind(from, l int) int {
	i := max(from, l+1)
	for i < len(f.t) && !startsWithin(f.st[i-1], f.t[i-1], f.st[i]) {
		i++
	}
	return i
}

func (f *frame) noteOverlaps(windows int) {
	if windows == 0 {
		return
	}
	name := f.metric()
	f.node.notes.Append(1, func(at posrange.PositionRange) error {
		err := annotations.NewStartTimeOverlapWarning(name, at)
		for range windows - 1 {
			another := annotations.NewStartTimeOverlapWarning(name, at)
			if m, ok := another.(interface{ Merge(err error) error }); ok {
				err = m.Merge(err)
			}
		}
		return err
	})
}
