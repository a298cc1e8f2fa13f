// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"
)

// derivKernel is deriv: the slope of the line through the samples of the window.
func derivKernel(f *frame) error {
	for i, l := range f.lo {
		h := f.hi[i]
		if h-l < 2 {
			continue
		}
		slope, _ := fit(f.t[l:h], f.v[l:h], f.t[l])
		f.set(i, slope)
		if err := f.spend(int(h - l)); err != nil {
			return err
		}
	}
	return nil
}

// predictKernel is predict_linear: where that line is some seconds after the time of the step.
func predictKernel(f *frame) error {
	for i, l := range f.lo {
		h := f.hi[i]
		if h-l < 2 {
			continue
		}
		slope, intercept := fit(f.t[l:h], f.v[l:h], f.w.Grid.At(i))
		f.set(i, float64(slope*f.args[0][i])+intercept)
		if err := f.spend(int(h - l)); err != nil {
			return err
		}
	}
	return nil
}

// moments are the sums of a linear regression, each with what was rounded away.
type moments struct {
	x, y, xy, xx     float64
	cx, cy, cxy, cxx float64
}

// fit returns the slope of the line of least squares, per second, and its value at a time.
func fit(t []int64, v []float64, at int64) (slope, intercept float64) {
	if constant(v) {
		if math.IsInf(v[0], 0) {
			return math.NaN(), math.NaN()
		}
		return 0, v[0]
	}
	var m moments
	m.add(t, v, at)
	slope, intercept = m.line(float64(len(v)))
	if slope-slope == 0 && intercept-intercept == 0 {
		return slope, intercept
	}
	m = moments{}
	m.addCarefully(t, v, at)
	return m.line(float64(len(v)))
}

func constant(v []float64) bool {
	for _, x := range v[1:] {
		if x != v[0] {
			return false
		}
	}
	return true
}

// add adds up samples. It is for finite sums only.
func (m *moments) add(t []int64, v []float64, at int64) {
	var s moments
	for i, y := range v {
		x := float64(t[i]-at) / 1e3
		s.x, s.cx = add(s.x, s.cx, x)
		s.y, s.cy = add(s.y, s.cy, y)
		s.xy, s.cxy = add(s.xy, s.cxy, float64(x*y))
		s.xx, s.cxx = add(s.xx, s.cxx, float64(x*x))
	}
	*m = s
}

// add adds x to a sum and what it rounds away to rest.
func add(sum, rest, x float64) (float64, float64) {
	t := sum + x
	b := t - sum
	return t, rest + ((sum - (t - b)) + (x - b))
}

func (m *moments) addCarefully(t []int64, v []float64, at int64) {
	for i, y := range v {
		x := float64(t[i]-at) / 1e3
		m.x, m.cx = kahansum.Inc(x, m.x, m.cx)
		m.y, m.cy = kahansum.Inc(y, m.y, m.cy)
		m.xy, m.cxy = kahansum.Inc(float64(x*y), m.xy, m.cxy)
		m.xx, m.cxx = kahansum.Inc(float64(x*x), m.xx, m.cxx)
	}
}

func (m *moments) line(n float64) (slope, intercept float64) {
	x, y, xy, xx := m.x+m.cx, m.y+m.cy, m.xy+m.cxy, m.xx+m.cxx
	slope = (xy - float64(x*y)/n) / (xx - float64(x*x)/n)
	return slope, y/n - float64(slope*x)/n
}
