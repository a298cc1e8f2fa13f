// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import "fmt"

// smoothingKernel is double_exponential_smoothing. Its result depends on each sample of the window in turn, so there
// is no way around looking at all of them for every step.
func smoothingKernel(f *frame) error {
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
		f.set(i, smoothWindow(f.v[l:h], sf, tf))
		if err := f.spend(int(h - l)); err != nil {
			return err
		}
	}
	return nil
}

func checkFactors(sf, tf float64) error {
	if sf <= 0 || sf >= 1 {
		return fmt.Errorf("invalid smoothing factor. Expected: 0 < sf < 1, got: %f", sf)
	}
	if tf <= 0 || tf >= 1 {
		return fmt.Errorf("invalid trend factor. Expected: 0 < tf < 1, got: %f", tf)
	}
	return nil
}

// smoothWindow smooths at least two samples.
func smoothWindow(v []float64, sf, tf float64) float64 {
	prev, level, trend := 0.0, v[0], v[1]-v[0]
	for i, x := range v[1:] {
		if i > 0 {
			trend = float64(tf*(level-prev)) + float64((1-tf)*trend)
		}
		prev, level = level, float64(sf*x)+float64((1-sf)*(level+trend))
	}
	return level
}
