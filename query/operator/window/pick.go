// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

// presentKernel is present_over_time.
func presentKernel(f *frame) error {
	f.mark()
	for i := range f.out {
		f.out[i] = 1
	}
	return nil
}

// countKernel is count_over_time.
func countKernel(f *frame) error {
	f.mark()
	lo, hi := f.lo, f.hi
	for i := range f.out {
		f.out[i] = float64(hi[i] - lo[i])
	}
	return nil
}

// firstKernel is first_over_time.
func firstKernel(f *frame) error {
	f.mark()
	for i, l := range f.lo {
		if l < f.hi[i] {
			f.out[i] = f.v[l]
		}
	}
	return nil
}

// lastKernel is last_over_time.
func lastKernel(f *frame) error {
	f.mark()
	for i, l := range f.lo {
		if h := f.hi[i]; l < h {
			f.out[i] = f.v[h-1]
		}
	}
	return nil
}

// firstTimeKernel is ts_of_first_over_time.
func firstTimeKernel(f *frame) error {
	f.mark()
	for i, l := range f.lo {
		if l < f.hi[i] {
			f.out[i] = float64(f.t[l]) / 1000
		}
	}
	return nil
}

// lastTimeKernel is ts_of_last_over_time.
func lastTimeKernel(f *frame) error {
	f.mark()
	for i, l := range f.lo {
		if h := f.hi[i]; l < h {
			f.out[i] = float64(f.t[h-1]) / 1000
		}
	}
	return nil
}

// instantKernel is irate and idelta: the last two samples of the window.
func instantKernel(f *frame) error {
	for i, l := range f.lo {
		h := f.hi[i]
		if h-l < 2 {
			continue
		}
		prev, x := f.v[h-2], f.v[h-1]
		if !f.fn.counter {
			f.set(i, x-prev)
			continue
		}
		reset := x < prev || f.st != nil && startedAnew(f.st[h-2], f.t[h-2], f.st[h-1], f.t[h-1])
		if !reset {
			x -= prev
		}
		f.set(i, x/(float64(f.t[h-1]-f.t[h-2])/1000))
	}
	return nil
}
