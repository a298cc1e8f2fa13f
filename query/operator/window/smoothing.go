// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import "fmt"

// smoothingKernel is double_exponential_smoothing. Its result depends on each sample of the window in turn, so there
// is no way around looking at all of them for every step. But a processor has to wait for one sample before it can go
// on with the next, and has the time to work on other windows meanwhile: so lanes of them are computed side by side.
func smoothingKernel(f *frame) error {
	var jobs [lanes]smoothing
	n := 0
	for i, l := range f.lo {
		h := f.hi[i]
		if l >= h {
			continue
		}
		sf, tf := f.args[0][i], f.args[1][i]
		if err := checkFactors(sf, tf); err != nil {
			return err
		}
		if h-l < 2 {
			continue
		}
		if n > 0 && (sf != jobs[0].sf || tf != jobs[0].tf) {
			f.smoothEach(jobs[:n])
			n = 0
		}
		jobs[n] = newSmoothing(i, f.v[l:h], sf, tf)
		if n++; n == lanes {
			smoothLanes(&jobs)
			f.smoothEach(jobs[:])
			n = 0
		}
		if err := f.spend(int(h - l)); err != nil {
			return err
		}
	}
	f.smoothEach(jobs[:n])
	return nil
}

// smoothingMixed refuses factors for windows of histograms as well.
func smoothingMixed(m *mixed) error {
	if err := m.whole(); err != nil {
		return err
	}
	for i, l := range m.all.lo {
		if l >= m.all.hi[i] {
			continue
		}
		if err := checkFactors(m.f.args[0][i], m.f.args[1][i]); err != nil {
			return err
		}
	}
	return floatsOnly(m)
}

// lanes is how many windows are computed side by side.
const lanes = 3

func checkFactors(sf, tf float64) error {
	if sf <= 0 || sf >= 1 {
		return fmt.Errorf("invalid smoothing factor. Expected: 0 < sf < 1, got: %f", sf)
	}
	if tf <= 0 || tf >= 1 {
		return fmt.Errorf("invalid trend factor. Expected: 0 < tf < 1, got: %f", tf)
	}
	return nil
}

// smoothing is the state of one window between samples.
type smoothing struct {
	step               int
	v                  []float64 // still to come
	sf, tf             float64
	prev, level, trend float64
}

// newSmoothing begins with the first two samples of a window.
func newSmoothing(step int, v []float64, sf, tf float64) smoothing {
	s := smoothing{step: step, v: v[2:], sf: sf, tf: tf, prev: v[0], trend: v[1] - v[0]}
	s.level = float64(sf*v[1]) + float64((1-sf)*(s.prev+s.trend))
	return s
}

// smoothEach brings windows to their end one by one, and puts the results in their places.
func (f *frame) smoothEach(jobs []smoothing) {
	for i := range jobs {
		s := &jobs[i]
		prev, level, trend := s.prev, s.level, s.trend
		sf, tf := s.sf, s.tf
		for _, x := range s.v {
			trend = float64(tf*(level-prev)) + float64((1-tf)*trend)
			prev, level = level, float64(sf*x)+float64((1-sf)*(level+trend))
		}
		f.set(s.step, level)
	}
}

// smoothLanes moves windows with the same factors on by as many samples as all of them have.
func smoothLanes(jobs *[lanes]smoothing) {
	a, b, c := &jobs[0], &jobs[1], &jobs[2]
	n := min(len(a.v), len(b.v), len(c.v))
	va, vb, vc := a.v[:n], b.v[:n], c.v[:n]
	sf, tf := a.sf, a.tf
	sg, tg := 1-sf, 1-tf
	pa, la, ta := a.prev, a.level, a.trend
	pb, lb, tb := b.prev, b.level, b.trend
	pc, lc, tc := c.prev, c.level, c.trend
	for i, x := range va {
		ta = float64(tf*(la-pa)) + float64(tg*ta)
		tb = float64(tf*(lb-pb)) + float64(tg*tb)
		tc = float64(tf*(lc-pc)) + float64(tg*tc)
		pa, la = la, float64(sf*x)+float64(sg*(la+ta))
		pb, lb = lb, float64(sf*vb[i])+float64(sg*(lb+tb))
		pc, lc = lc, float64(sf*vc[i])+float64(sg*(lc+tc))
	}
	a.v, a.prev, a.level, a.trend = a.v[n:], pa, la, ta
	b.v, b.prev, b.level, b.trend = b.v[n:], pb, lb, tb
	c.v, c.prev, c.level, c.trend = c.v[n:], pc, lc, tc
}
