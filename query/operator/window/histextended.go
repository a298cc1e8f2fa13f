// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/util/annotations"
)

// extendedRateHistograms is rate, increase and delta over anchored and smoothed selectors, of the windows that hold
// histograms only.
func extendedRateHistograms(m *mixed) error {
	seconds := (time.Duration(m.f.w.Range) * time.Millisecond).Seconds()
	h := &m.h
	for i := range h.lo {
		first, last, ok := h.extent(i, m.f.w.Smoothed)
		e := extent{first: first, last: last, start: m.f.w.At(i) - m.f.w.Range, end: m.f.w.At(i)}
		if !ok || h.t[last] <= e.start || m.f.w.Smoothed && h.t[first] > e.end {
			continue
		}
		result, ok := m.extendedIncrease(e)
		if !ok {
			continue
		}
		if m.f.fn.perSecond {
			result.Div(seconds)
		}
		asGauge(result)
		if err := m.set(i, result); err != nil {
			return err
		}
		if err := m.f.spend(histogramWork); err != nil {
			return err
		}
	}
	return nil
}

func (m *mixed) extendedIncrease(e extent) (*histogram.FloatHistogram, bool) {
	counter := m.f.fn.counter
	if !m.checkExtent(e, counter) {
		return nil, false
	}
	left, ok := m.leftHistogram(e)
	if !ok {
		return nil, false
	}
	right, ok := m.rightHistogram(e)
	if !ok {
		return nil, false
	}
	if !counter && (left.CounterResetHint != histogram.GaugeType || right.CounterResetHint != histogram.GaugeType) {
		m.f.noteNotGauge()
	}
	result := right.Copy()
	if !m.subtractFrom(result, left) {
		return nil, false
	}
	if !counter {
		return result, true
	}
	lost, ok := m.lostHistogram(e, left, right)
	if !ok {
		return nil, false
	}
	if lost != nil && !m.addTo(result, lost) {
		return nil, false
	}
	return result, true
}

func (m *mixed) checkExtent(e extent, counter bool) bool {
	window := m.h.h[e.first : e.last+1]
	custom := window[0].UsesCustomBuckets()
	for _, x := range window {
		if x.UsesCustomBuckets() != custom {
			m.f.noteSchemas()
			return false
		}
		if counter && x.CounterResetHint == histogram.GaugeType {
			m.f.noteNotCounter()
		}
	}
	return true
}

func (m *mixed) leftHistogram(e extent) (*histogram.FloatHistogram, bool) {
	if m.f.w.Smoothed && m.h.t[e.first] < e.start {
		return m.betweenHistograms(e.first, e.first+1, e.start)
	}
	return m.h.h[e.first].Copy(), true
}

func (m *mixed) rightHistogram(e extent) (*histogram.FloatHistogram, bool) {
	if m.f.w.Smoothed && m.h.t[e.last] > e.end {
		return m.betweenHistograms(e.last-1, e.last, e.end)
	}
	return m.h.h[e.last].Copy(), true
}

// betweenHistograms interpolates between two histograms. A counter that was reset between them rises from zero.
func (m *mixed) betweenHistograms(a, b int, at int64) (*histogram.FloatHistogram, bool) {
	h := &m.h
	switch at {
	case h.t[a]:
		return h.h[a].Copy(), true
	case h.t[b]:
		return h.h[b].Copy(), true
	}
	share := float64(at-h.t[a]) / float64(h.t[b]-h.t[a])
	result := h.h[b].Copy()
	if m.f.fn.counter && h.h[b].DetectReset(h.h[a]) {
		return result.Mul(share), true
	}
	_, _, reconciled, err := result.Sub(h.h[a])
	if err == nil {
		if reconciled {
			m.f.noteBounds(annotations.HistogramSub)
		}
		_, _, reconciled, err = result.Mul(share).Add(h.h[a])
	}
	if err != nil {
		if isIncompatible(err) {
			m.f.noteSchemas()
		}
		return nil, false
	}
	if reconciled {
		m.f.noteBounds(annotations.HistogramAdd)
	}
	return result, true
}

// lostHistogram adds up what was lost at the resets within an extent; nil: nothing.
func (m *mixed) lostHistogram(e extent, left, right *histogram.FloatHistogram) (*histogram.FloatHistogram, bool) {
	h := &m.h
	first, prev := e.first+1, left
	if m.f.w.Smoothed && h.t[e.first] < e.start && h.h[e.first+1].DetectReset(h.h[e.first]) {
		// The interpolation to the left edge has seen this reset.
		prev = h.h[e.first+1]
		first++
	}
	if first > e.last {
		return nil, true
	}
	var lost *histogram.FloatHistogram
	lose := func(x *histogram.FloatHistogram) bool {
		if lost == nil {
			lost = x.Copy()
			return true
		}
		return m.addTo(lost, x)
	}
	// The last one is left to right, which is it or inherits its hint.
	for j := first; j < e.last; j++ {
		if m.resetOf(j, prev) && !lose(prev) {
			return nil, false
		}
		prev = h.h[j]
	}
	if right.DetectReset(prev) && !lose(prev) {
		return nil, false
	}
	return lost, true
}

// resetOf tells whether histogram j is a reset of prev, the one before it or what stands for that.
func (m *mixed) resetOf(j int, prev *histogram.FloatHistogram) bool {
	if prev == m.h.h[j-1] {
		return m.h.detected(j)
	}
	return m.h.h[j].DetectReset(prev)
}
