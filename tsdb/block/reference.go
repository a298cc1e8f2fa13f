// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"math"
	"slices"
)

const (
	// window is how many earlier columns of a stripe the writer may refer to.
	window = 16
	// maxChain is how many references may follow one another, so that reading one page decodes few others.
	maxChain = 4
	// sampleRows is how many rows a candidate is judged by, in runs of sampleRun.
	sampleRows = 48
	sampleRun  = 16
)

// candidate is a page of floats that later pages of its stripe may refer to.
type candidate struct {
	values []float64
	series uint32 // its place in the group
	time   uint32 // number of its column of times
	chain  uint8  // how many references lead on from it
	used   bool
}

// candidates are the last columns of a stripe, in a ring.
type candidates struct {
	ring [window]candidate
	next int
}

func (c *candidates) reset() {
	for i := range c.ring {
		c.ring[i].used = false
	}
	c.next = 0
}

// add makes a column one that may be referred to. It returns by how many bytes it had to grow.
func (c *candidates) add(v []float64, x candidate) int64 {
	e := &c.ring[c.next%window]
	c.next++
	had := cap(e.values)
	x.values, x.used = append(e.values[:0], v...), true
	*e = x
	return 8 * int64(cap(e.values)-had)
}

// best returns the column that v is best expressed by, nil where none promises anything.
func (c *candidates) best(v []float64, time uint32) *candidate {
	for i := range c.ring {
		if x := &c.ring[i]; x.fits(v, time) && sameColumn(x.values, v) {
			return x
		}
	}
	var found *candidate
	own := price(v, nil)
	least := own - own/8 // a difference must gain something
	for i := range c.ring {
		if x := &c.ring[i]; x.fits(v, time) && least > 0 {
			if p := price(v, x.values); p < least {
				found, least = x, p
			}
		}
	}
	return found
}

// fits tells whether a column with these times may refer to x.
func (x *candidate) fits(v []float64, time uint32) bool {
	return x.used && x.time == time && x.chain < maxChain && len(x.values) == len(v)
}

// price estimates the bits of a column, or of its difference from ref, by the steps between some rows. A difference of
// values that are no integers has no price worth having.
func price(v, ref []float64) int {
	n, bits := len(v), 0
	for first := 0; first < n; first += max(sampleRun, (n-sampleRun)/(sampleRows/sampleRun-1)) {
		last := math.NaN()
		for i := first; i < min(first+sampleRun, n); i++ {
			x := v[i]
			if ref != nil {
				if x -= ref[i]; x != math.Trunc(x) {
					return math.MaxInt
				}
			}
			if d := math.Abs(x - last); d > 0 {
				bits += 1 + max(0, math.Ilogb(d+1))
			}
			last = x
		}
	}
	return bits
}

// sameColumn compares bit for bit, and the last row first, which is where columns differ if they do.
func sameColumn(a, b []float64) bool {
	for i, x := range slices.Backward(a) {
		if math.Float64bits(x) != math.Float64bits(b[i]) {
			return false
		}
	}
	return true
}

// constant tells whether all values have the same bits.
func constant(v []float64) bool {
	for _, x := range v {
		if math.Float64bits(x) != math.Float64bits(v[0]) {
			return false
		}
	}
	return true
}
