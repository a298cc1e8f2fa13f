// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// The functions here do not care what a sample is, or pick one out of both kinds: they work on the series as a whole.

// wholeKernel runs a kernel of floats that does not look at values over all samples.
func (m *mixed) wholeKernel(k kernel) error {
	if err := m.f.load(m.s.T, nil, nil); err != nil {
		return err
	}
	return k(m.f)
}

func countMixed(m *mixed) error { return m.wholeKernel(countKernel) }

func presentMixed(m *mixed) error { return m.wholeKernel(presentKernel) }

func firstTimeMixed(m *mixed) error { return m.wholeKernel(firstTimeKernel) }

func lastTimeMixed(m *mixed) error { return m.wholeKernel(lastTimeKernel) }

func firstMixed(m *mixed) error {
	if err := m.whole(); err != nil {
		return err
	}
	for i, l := range m.all.lo {
		if l < m.all.hi[i] {
			if err := m.pick(i, int(l)); err != nil {
				return err
			}
		}
	}
	return nil
}

func lastMixed(m *mixed) error {
	if err := m.whole(); err != nil {
		return err
	}
	for i, l := range m.all.lo {
		if h := m.all.hi[i]; l < h {
			if err := m.pick(i, int(h)-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// pick makes step i sample j of the series. A histogram is copied, once for all steps, because that of the series goes
// away with it.
func (m *mixed) pick(i, j int) error {
	if m.s.Kind[j] == sample.Float {
		m.f.set(i, m.s.V[j])
		return nil
	}
	if h := m.s.H[j]; m.copied != h || m.copy == nil {
		if err := m.f.spend(histogramWork); err != nil {
			return err
		}
		if err := m.results.charge(int64(h.Size())); err != nil {
			return err
		}
		m.copied, m.copy = h, h.Copy()
	}
	m.share(i, m.copy)
	return nil
}

// isFloat tells the kind of sample i of the series.
func (m *mixed) isFloat(i int) bool { return m.s.Kind[i] == sample.Float }

// changesMixed is changes: a sample of the other kind is a change.
func changesMixed(m *mixed) error {
	return m.countPairs(func(i int) bool {
		if m.isFloat(i) != m.isFloat(i-1) {
			return true
		}
		if !m.isFloat(i) {
			return !m.s.H[i].Equals(m.s.H[i-1])
		}
		x, prev := m.s.V[i], m.s.V[i-1]
		return x != prev && !(math.IsNaN(x) && math.IsNaN(prev))
	})
}

// resetsMixed is resets: a sample of the other kind is a reset.
func resetsMixed(m *mixed) error {
	if err := m.layouts(); err != nil {
		return err
	}
	last := 0 // histogram, of those up to the sample before
	if m.isFloat(0) {
		last = -1
	}
	return m.countPairs(func(i int) bool {
		float := m.isFloat(i)
		if !float {
			last++
		}
		switch {
		case float != m.isFloat(i-1):
			return true
		case !float:
			return m.h.reset(last)
		default:
			return m.s.V[i] < m.s.V[i-1] || m.newStart(i-1, i)
		}
	})
}

// countPairs counts, per window, the samples that is tells, which it is asked once per pair of neighbours.
func (m *mixed) countPairs(is func(i int) bool) error {
	if err := m.whole(); err != nil {
		return err
	}
	marks, err := room(&m.f.scratch.memory, m.f.scratch.index, len(m.s.T), 4)
	if err != nil {
		return err
	}
	m.f.scratch.index = marks
	n := int32(0)
	for i := range marks {
		if i > 0 && is(i) {
			n++
		}
		marks[i] = n
		if err := m.f.spend(histogramWork); err != nil {
			return err
		}
	}
	for i := range m.all.lo {
		if first, last, ok := m.all.pairs(i, m.f.w.Anchored); ok {
			m.f.set(i, float64(marks[last]-marks[first]))
		}
	}
	return nil
}

// histogramWork is how many samples a look at a histogram counts for.
const histogramWork = 32

// instantMixed is irate and idelta.
func instantMixed(m *mixed) error {
	if len(m.f.t) == 0 {
		return instantHistograms(m)
	}
	if err := m.whole(); err != nil {
		return err
	}
	for i, l := range m.all.lo {
		h := int(m.all.hi[i])
		if h-int(l) < 2 {
			continue
		}
		a, b := h-2, h-1
		switch {
		case m.isFloat(a) && m.isFloat(b):
			m.instantFloat(i, a, b)
		case !m.isFloat(a) && !m.isFloat(b):
			if err := m.instantHistogram(i, a, b); err != nil {
				return err
			}
		default:
			m.f.noteMixed()
		}
	}
	return nil
}

// instantHistograms is irate and idelta of a series without floats.
func instantHistograms(m *mixed) error {
	if err := m.layouts(); err != nil {
		return err
	}
	h := &m.h
	for i, l := range h.lo {
		end := int(h.hi[i])
		if end-int(l) < 2 {
			continue
		}
		if err := m.f.spend(histogramWork); err != nil {
			return err
		}
		if m.f.fn.counter && h.gauges || !h.uniform(end-2, end) {
			if err := m.instantHistogram(i, end-2, end-1); err != nil {
				return err
			}
			continue
		}
		result, err := m.denseIncrease(end-2, end)
		if err != nil {
			return err
		}
		if m.f.fn.perSecond {
			result.Div(float64(h.t[end-1]-h.t[end-2]) / 1000)
		}
		m.share(i, result)
	}
	return nil
}

func (m *mixed) instantFloat(i, a, b int) {
	prev, x := m.s.V[a], m.s.V[b]
	if !m.f.fn.counter {
		m.f.set(i, x-prev)
		return
	}
	if !(x < prev || m.newStart(a, b)) {
		x -= prev
	}
	m.f.set(i, x/(float64(m.s.T[b]-m.s.T[a])/1000))
}

func (m *mixed) newStart(a, b int) bool {
	return m.st != nil && startedAnew(m.st[a], m.s.T[a], m.st[b], m.s.T[b])
}

func (m *mixed) instantHistogram(i, a, b int) error {
	prev, last := m.s.H[a], m.s.H[b]
	counter := m.f.fn.counter
	if err := m.f.spend(histogramWork); err != nil {
		return err
	}
	m.checkHints(prev, last, counter)
	result := last.Copy()
	if !counter || !m.newStart(a, b) && !last.DetectReset(prev) {
		_, _, reconciled, err := result.Sub(prev)
		if isIncompatible(err) {
			m.f.noteSchemas()
			return nil
		}
		if reconciled {
			m.f.noteBounds(annotations.HistogramSub)
		}
	}
	asGauge(result)
	if m.f.fn.perSecond {
		result.Div(float64(m.s.T[b]-m.s.T[a]) / 1000)
	}
	return m.set(i, result)
}
