// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"errors"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/util/annotations"
)

// rateHistograms is rate, increase and delta of the windows that hold histograms only.
func rateHistograms(m *mixed) error {
	if m.f.w.Anchored || m.f.w.Smoothed {
		return extendedRateHistograms(m)
	}
	if err := m.layouts(); err != nil {
		return err
	}
	h := &m.h
	var overlap, overlaps int
	for i, l32 := range h.lo {
		l, end := int(l32), int(h.hi[i])
		if l >= end {
			continue
		}
		if err := m.f.spend(histogramWork); err != nil {
			return err
		}
		at := m.f.w.At(i)
		var st int64
		if m.f.fn.counter && h.st != nil {
			st = h.st[l]
		}
		starts := st != 0 && st > at-m.f.w.Range && st < h.t[l]
		if end-l < 2 && !starts {
			continue
		}
		m.f.extrapolation.window(h.t[l]-(at-m.f.w.Range), at-h.t[end-1], end-l-1)
		if h.st == nil && (!m.f.fn.counter || !h.gauges) && h.related(l, end) {
			if done, err := m.denseRate(i, l, end); err != nil {
				return err
			} else if done {
				continue
			}
		}
		result, overlapped, ok := m.increase(l, end, &overlap)
		if overlapped {
			overlaps++
		}
		if !ok {
			continue
		}
		factor, ok := 0.0, true
		if starts {
			result, factor, ok = m.fromStart(result, l, end, st)
		} else {
			factor = m.factor(l, result)
		}
		if !ok {
			continue
		}
		if err := m.set(i, result.Mul(factor)); err != nil {
			return err
		}
	}
	m.f.noteOverlaps(overlaps)
	return nil
}

// denseRate makes the result of a window of related layouts; done is false where the last of them has not all buckets.
func (m *mixed) denseRate(i, l, end int) (done bool, err error) {
	result, err := m.denseIncrease(l, end)
	if result == nil || err != nil {
		return false, err
	}
	m.share(i, result.Mul(m.factor(l, result)))
	return true, nil
}

// factor returns by what to multiply the increase over a window that begins with histogram l.
func (m *mixed) factor(l int, result *histogram.FloatHistogram) float64 {
	if first := m.h.h[l].Count; m.f.fn.counter && result.Count > 0 && first >= 0 {
		return m.f.extrapolation.clamped(first, result.Count)
	}
	return m.f.extrapolation.factor
}

// fromStart adds the first histogram of a window to the increase over it, nil for a window of one, because its start
// timestamp says that it was zero within the window. It returns the sum and by what to multiply it.
func (m *mixed) fromStart(result *histogram.FloatHistogram, l, end int, st int64) (*histogram.FloatHistogram, float64, bool) {
	if result == nil {
		result = m.h.h[l].Copy()
	} else if !m.addTo(result, m.h.h[l]) {
		return nil, 0, false
	}
	return result, m.f.extrapolation.over(float64(m.h.t[end-1]-st)/1000, 0), true
}

// increase returns the difference of the last and the first histogram of a window, with what was lost at resets; nil
// for a window of one. ok is false when they do not fit together; then that is all that is noted. overlap is the first
// histogram behind that starts within the one before it.
func (m *mixed) increase(l, end int, overlap *int) (result *histogram.FloatHistogram, overlapped, ok bool) {
	if end-l < 2 {
		return nil, false, true
	}
	h := &m.h
	counter := m.f.fn.counter
	first, last := h.h[l], h.h[end-1]
	var found findings
	found.gauge = counter && (first.CounterResetHint == histogram.GaugeType || last.CounterResetHint == histogram.GaugeType)
	prev := first
	custom := prev.UsesCustomBuckets()
	if counter && h.reset(l+1) {
		// The layout of what a reset leaves behind does not matter.
		second := h.h[l+1]
		prev = &histogram.FloatHistogram{Schema: second.Schema, CustomValues: second.CustomValues}
		custom = second.UsesCustomBuckets()
	}
	if last.UsesCustomBuckets() != custom {
		found.note(m.f)
		m.f.noteSchemas()
		return nil, false, false
	}
	schema := min(last.Schema, prev.Schema)
	fits := true
	if counter {
		schema, fits = m.inner(l+1, end-1, schema, custom, &found)
	}
	if fits {
		result = last.CopyToSchema(schema)
		_, _, reconciled, err := result.Sub(prev)
		found.subtracted, fits = reconciled, !isIncompatible(err)
	}
	if !fits || counter && !m.addResets(result, prev, l, end, &found) {
		m.f.noteSchemas()
		return nil, false, false
	}
	if counter {
		*overlap = h.overlapBehind(*overlap, l)
		overlapped = *overlap < end
	} else if first.CounterResetHint != histogram.GaugeType || last.CounterResetHint != histogram.GaugeType {
		m.f.noteNotGauge()
	}
	found.note(m.f)
	asGauge(result)
	return result, overlapped, true
}

// findings are what is to be noted about a window if a result comes of it.
type findings struct{ gauge, subtracted, added bool }

func (x findings) note(f *frame) {
	if x.gauge {
		f.noteNotCounter()
	}
	if x.subtracted {
		f.noteBounds(annotations.HistogramSub)
	}
	if x.added {
		f.noteBounds(annotations.HistogramAdd)
	}
}

// inner looks at the histograms between the first and the last of a window: the coarsest schema counts, and all have
// to be of one sort.
func (m *mixed) inner(from, to int, schema int32, custom bool, found *findings) (int32, bool) {
	for _, x := range m.h.h[from:to] {
		if x.CounterResetHint == histogram.GaugeType {
			found.gauge = true
		}
		schema = min(schema, x.Schema)
		if x.UsesCustomBuckets() != custom {
			return schema, false
		}
	}
	return schema, true
}

// addResets adds to result what each reset of a window lost. prev stands for its first histogram.
func (m *mixed) addResets(result, prev *histogram.FloatHistogram, l, end int, found *findings) bool {
	h := &m.h
	for j := l + 1; j < end; j++ {
		var reset bool
		if j == l+1 && prev != h.h[l] {
			reset = h.newStart(j) || h.h[j].DetectReset(prev)
		} else {
			reset = h.reset(j)
		}
		if reset {
			_, _, reconciled, err := result.Add(prev)
			if isIncompatible(err) {
				return false
			}
			found.added = found.added || reconciled
		}
		prev = h.h[j]
	}
	return true
}

// addTo adds other to result; false, and a note, if they do not fit.
func (m *mixed) addTo(result, other *histogram.FloatHistogram) bool {
	_, _, reconciled, err := result.Add(other)
	if err != nil {
		if isIncompatible(err) {
			m.f.noteSchemas()
		}
		return false
	}
	if reconciled {
		m.f.noteBounds(annotations.HistogramAdd)
	}
	return true
}

// subtractFrom subtracts other from result; false, and a note, if they do not fit.
func (m *mixed) subtractFrom(result, other *histogram.FloatHistogram) bool {
	_, _, reconciled, err := result.Sub(other)
	if err != nil {
		if isIncompatible(err) {
			m.f.noteSchemas()
		}
		return false
	}
	if reconciled {
		m.f.noteBounds(annotations.HistogramSub)
	}
	return true
}

// overlapBehind returns the first histogram behind l, and not before from, that starts within the one before it.
func (h *histograms) overlapBehind(from, l int) int {
	i := max(from, l+1)
	if h.st == nil {
		return len(h.t)
	}
	for i < len(h.t) && !startsWithin(h.st[i-1], h.t[i-1], h.st[i]) {
		i++
	}
	return i
}

// checkHints notes histograms that the function is not for.
func (m *mixed) checkHints(a, b *histogram.FloatHistogram, counter bool) {
	gauges := 0
	for _, h := range [...]*histogram.FloatHistogram{a, b} {
		if h.CounterResetHint == histogram.GaugeType {
			gauges++
		}
	}
	switch {
	case counter && gauges > 0:
		m.f.noteNotCounter()
	case !counter && gauges < 2:
		m.f.noteNotGauge()
	}
}

// asGauge makes a difference of histograms a result.
func asGauge(h *histogram.FloatHistogram) {
	h.CounterResetHint = histogram.GaugeType
	h.Compact(0)
}

func isIncompatible(err error) bool { return errors.Is(err, histogram.ErrHistogramsIncompatibleSchema) }
