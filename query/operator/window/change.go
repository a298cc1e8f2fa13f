// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import "math"

// changesKernel is changes: how often a value differs from the one before it.
func changesKernel(f *frame) error {
	marks, err := f.marks()
	if err != nil {
		return err
	}
	v := f.v
	n := int32(0)
	for i := 1; i < len(v); i++ {
		if v[i] != v[i-1] && !(math.IsNaN(v[i]) && math.IsNaN(v[i-1])) {
			n++
		}
		marks[i] = n
	}
	f.countMarks(marks)
	return nil
}

// resetsKernel is resets: how often a value is less than the one before it, or newly started.
func resetsKernel(f *frame) error {
	marks, err := f.marks()
	if err != nil {
		return err
	}
	v := f.v
	n := int32(0)
	for i := 1; i < len(v); i++ {
		if v[i] < v[i-1] || f.st != nil && startedAnew(f.st[i-1], f.t[i-1], f.st[i], f.t[i]) {
			n++
		}
		marks[i] = n
	}
	f.countMarks(marks)
	return nil
}

// marks returns room for a running count of pairs of neighbours, one entry per sample, the first of which is 0.
func (f *frame) marks() ([]int32, error) {
	m, err := room(&f.scratch.memory, f.scratch.index, len(f.v), 4)
	if err != nil {
		return nil, err
	}
	f.scratch.index = m
	if len(m) > 0 {
		m[0] = 0
	}
	return m, nil
}

// countMarks fills the row with how many pairs within each window are marked. marks[i] counts those up to sample i.
func (f *frame) countMarks(marks []int32) {
	for i := range f.lo {
		if first, last, ok := f.bounds.pairs(i, f.w.Anchored); ok {
			f.set(i, float64(marks[last]-marks[first]))
		}
	}
}

// pairs returns the first and the last sample between which step i looks at pairs of neighbours. An anchored window
// begins with the last sample at or before its edge, and needs one behind.
func (b *bounds) pairs(i int, anchored bool) (first, last int, ok bool) {
	l, h := int(b.lo[i]), int(b.hi[i])
	if l >= h {
		return 0, 0, false
	}
	if !anchored {
		return l, h - 1, true
	}
	from := int(b.from[i])
	if from >= h {
		return 0, 0, false
	}
	return max(from-1, l), h - 1, true
}
