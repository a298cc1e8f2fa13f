// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"
)

// derivKernel is deriv: the slope of the line through the samples of the window.
func derivKernel(f *frame) error {
	return regressionKernel(f, func(_ int, l int32) int64 { return f.t[l] }, func(slope, _ float64, _ int) float64 { return slope })
}

// predictKernel is predict_linear: where that line is some seconds after the time of the step.
func predictKernel(f *frame) error {
	return regressionKernel(f, func(i int, _ int32) int64 { return f.w.Grid.At(i) }, func(slope, intercept float64, i int) float64 {
		return float64(slope*f.args[0][i]) + intercept
	})
}

// regressionKernel fits a line to each window, with time running from origin, and makes a result out of it.
func regressionKernel(f *frame, origin func(i int, l int32) int64, of func(slope, intercept float64, i int) float64) error {
	x := abscissae{m: &f.scratch.memory, s: &f.scratch}
	if f.visits > 2*len(f.v) {
		x.interval = interval(f.t)
	}
	for i, l := range f.lo {
		h := f.hi[i]
		if h-l < 2 {
			continue
		}
		at := origin(i, l)
		table, err := x.at(f.t[l]-at, int(h-l))
		if err != nil {
			return err
		}
		slope, intercept := fit(f.t[l:h], f.v[l:h], at, table)
		f.set(i, of(slope, intercept, i))
		if err := f.spend(int(h - l)); err != nil {
			return err
		}
	}
	return nil
}

// interval returns the time between any two neighbours, 0 if it is not the same for all.
func interval(t []int64) int64 {
	if len(t) < 3 {
		return 0
	}
	d := t[1] - t[0]
	for i := 2; i < len(t); i++ {
		if t[i]-t[i-1] != d {
			return 0
		}
	}
	return d
}

// abscissae is what a regression needs of times, for windows that begin at the same distance from their origin. When
// samples come at one interval, nearly all windows do, and half of the work is done once for all of them.
type abscissae struct {
	m        *memory
	s        *scratch
	interval int64
	asked    bool
	distance int64
	table    table
}

// table holds seconds from the origin, and, by the number of samples, the sums of them and of their squares with what
// was rounded away.
type table struct{ x, sum, rest, square, squareRest []float64 }

// at returns the table for windows of n samples that begin at a distance from the origin; an empty one if the last
// window began at another.
func (a *abscissae) at(distance int64, n int) (table, error) {
	if a.interval == 0 {
		return table{}, nil
	}
	if !a.asked || distance != a.distance {
		a.asked, a.distance = true, distance
		a.table = table{}
		return table{}, nil
	}
	if n > len(a.table.x) {
		if err := a.fill(n + n/4); err != nil {
			return table{}, err
		}
	}
	return a.table, nil
}

func (a *abscissae) fill(n int) error {
	s := a.s
	for _, col := range []*[]float64{&s.abscissae, &s.sum, &s.rest, &s.sum2, &s.rest2} {
		var err error
		if *col, err = room(a.m, *col, n+1, 8); err != nil {
			return err
		}
		(*col)[0] = 0
	}
	t := table{x: s.abscissae[:n], sum: s.sum, rest: s.rest, square: s.sum2, squareRest: s.rest2}
	for i := range t.x {
		x := float64(a.distance+int64(i)*a.interval) / 1e3
		t.x[i] = x
		t.sum[i+1], t.rest[i+1] = add(t.sum[i], t.rest[i], x)
		t.square[i+1], t.squareRest[i+1] = add(t.square[i], t.squareRest[i], float64(x*x))
	}
	a.table = t
	return nil
}

// moments are the sums of a linear regression, each with what was rounded away.
type moments struct {
	x, y, xy, xx     float64
	cx, cy, cxy, cxx float64
}

// fit returns the slope of the line of least squares, per second, and its value at a time. known is of the times,
// unless it is empty.
func fit(t []int64, v []float64, at int64, known table) (slope, intercept float64) {
	if constant(v) {
		if math.IsInf(v[0], 0) {
			return math.NaN(), math.NaN()
		}
		return 0, v[0]
	}
	var m moments
	if n := len(v); n <= len(known.x) {
		m.addKnown(&known, v)
	} else {
		m.add(t, v, at)
	}
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

// add adds up samples. It is for finite sums only. The sums are variables of their own because the compiler keeps
// those in registers, and no structs of this size.
func (m *moments) add(t []int64, v []float64, at int64) {
	var sx, sy, sxy, sxx, cx, cy, cxy, cxx float64
	t = t[:len(v)]
	for i, y := range v {
		x := float64(t[i]-at) / 1e3
		sx, cx = add(sx, cx, x)
		sy, cy = add(sy, cy, y)
		sxy, cxy = add(sxy, cxy, float64(x*y))
		sxx, cxx = add(sxx, cxx, float64(x*x))
	}
	*m = moments{x: sx, y: sy, xy: sxy, xx: sxx, cx: cx, cy: cy, cxy: cxy, cxx: cxx}
}

// addKnown adds up samples whose times are known.
func (m *moments) addKnown(known *table, v []float64) {
	n := len(v)
	var sy, sxy, cy, cxy float64
	x := known.x[:n]
	for i, y := range v {
		sy, cy = add(sy, cy, y)
		sxy, cxy = add(sxy, cxy, float64(x[i]*y))
	}
	*m = moments{
		x: known.sum[n], y: sy, xy: sxy, xx: known.square[n],
		cx: known.rest[n], cy: cy, cxy: cxy, cxx: known.squareRest[n],
	}
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
