// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
	"math/bits"
	"unsafe"
)

// maxExponent is the greatest power of ten by which values are scaled.
const maxExponent = 15

// maxInteger bounds the integers of decimals: all below are doubles.
const maxInteger = 1 << 53

// powers are exact.
var powers = [maxExponent + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// decimal returns the integer that divided by scale gives f, bit for bit, if there is one.
func decimal(f, scale float64) (int64, bool) {
	t := f * scale
	if !(math.Abs(t) < maxInteger) {
		return 0, false
	}
	x := int64(math.RoundToEven(t))
	return x, math.Float64bits(float64(x)/scale) == math.Float64bits(f)
}

// decimals writes v to e.ints as integers of one scale. Values that are none, if they are few, are left to e.odd,
// and the integer before stands in their place.
func (e *Encoder) decimals(v []float64) (exponent int, ok bool) {
	limit := len(v) / 8
	if e.wholes(v) {
		return 0, true
	}
	for try := 0; try <= maxExponent; try++ {
		at := e.scaleBy(v, exponent, limit)
		if at < 0 {
			return exponent, true
		}
		for exponent++; exponent <= maxExponent; exponent++ {
			if _, ok := decimal(v[at], powers[exponent]); ok {
				break
			}
		}
		if exponent > maxExponent {
			return 0, false
		}
	}
	return 0, false
}

// wholes is decimals for exponent 0 and values that all are whole.
func (e *Encoder) wholes(v []float64) bool {
	e.odd = e.odd[:0]
	x := room(e.ints, len(v))
	e.ints = x
	for i, f := range v {
		n := int64(f)
		if math.Float64bits(float64(n)) != math.Float64bits(f) || uint64(n+maxInteger) > 2*maxInteger {
			return false
		}
		x[i] = n
	}
	return true
}

// scaleBy tries one exponent and returns -1, or a value that needs a greater one.
func (e *Encoder) scaleBy(v []float64, exponent, limit int) int {
	scale := powers[exponent]
	x := room(e.ints, len(v))
	e.ints, e.odd = x, e.odd[:0]
	var last int64
	for i, f := range v {
		n, ok := decimal(f, scale)
		if !ok {
			if f-f == 0 && (f != 0 || !math.Signbit(f)) && exponent < maxExponent && e.deeper(f, exponent) {
				return i
			}
			if e.odd = append(e.odd, i); len(e.odd) > limit {
				if !e.sameOdd(v) || len(e.odd) > len(v)/2 {
					return i
				}
			}
			n = last
		}
		x[i], last = n, n
	}
	return -1
}

// deeper tells whether f is a decimal of a greater exponent.
func (e *Encoder) deeper(f float64, exponent int) bool {
	for x := exponent + 1; x <= maxExponent; x++ {
		if _, ok := decimal(f, powers[x]); ok {
			return true
		}
	}
	return false
}

// sameOdd tells whether the last of the odd values is the same as the first.
func (e *Encoder) sameOdd(v []float64) bool {
	return math.Float64bits(v[e.odd[0]]) == math.Float64bits(v[e.odd[len(e.odd)-1]])
}

// appendDecimals appends e.ints, or their differences to those of another column where they are shorter, and what
// is odd in front.
func (e *Encoder) appendDecimals(dst []byte, v []float64, exponent int, refs [][]float64) []byte {
	codec := byte(valuesDecimal + exponent)
	if len(e.odd) > 0 {
		dst = append(dst, codec|patchedFlag)
		dst = e.appendOdd(dst, v)
		return e.AppendInts(dst, e.ints)
	}
	start := len(dst)
	dst = e.AppendInts(append(dst, codec), e.ints)
	if len(dst)-start < 8+len(v)/32 {
		return dst // there is little to gain
	}
	k := e.nearest(v, exponent, refs)
	if k < 0 {
		return dst
	}
	scale := powers[exponent]
	for i, f := range refs[k] {
		n, ok := decimal(f, scale)
		if !ok {
			return dst
		}
		e.ints[i] -= n
	}
	e.trial = binary.AppendUvarint(append(e.trial[:0], valuesDiff), uint64(k))
	e.trial = e.AppendInts(append(e.trial, byte(exponent)), e.ints)
	if len(e.trial) < len(dst)-start {
		dst = append(dst[:start], e.trial...)
	}
	return dst
}

// Of each other column, nearest looks at the first rows and the last.
const window = 16

// nearest returns which of refs looks as if the differences to it took fewer bits, or -1.
func (e *Encoder) nearest(v []float64, exponent int, refs [][]float64) int {
	if len(refs) == 0 || len(v) < 2*window {
		return -1
	}
	best := -1
	least := glance(e.ints[:window], nil, 0) + glance(e.ints[len(v)-window:], nil, 0)
	least -= least / 8
	scale := powers[exponent]
	for k, ref := range refs {
		n := glance(e.ints[:window], ref[:window], scale) + glance(e.ints[len(v)-window:], ref[len(v)-window:], scale)
		if n < least {
			best, least = k, n
		}
	}
	return best
}

// glance sums the sizes of the numbers x, less those of other if there is one, of the order whose sum is the least.
func glance(x []int64, other []float64, scale float64) int {
	var sum [3]int
	var first, last, delta int64
	for i, n := range x {
		if other != nil {
			n -= int64(math.RoundToEven(other[i] * scale))
		}
		if i == 0 {
			first, last = n, n
			continue
		}
		d := n - last
		sum[0] += bits.Len64(zigzag(n - first))
		sum[1] += bits.Len64(zigzag(d))
		sum[2] += bits.Len64(zigzag(d - delta))
		last, delta = n, d
	}
	return min(sum[0], sum[1], sum[2])
}

// asInts returns the memory of f, all its capacity, as integers.
func asInts(f []float64) []int64 {
	if cap(f) == 0 {
		return nil
	}
	return unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(f))), cap(f))[:len(f)]
}

func asFloats(x []int64) []float64 {
	if cap(x) == 0 {
		return nil
	}
	return unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(x))), cap(x))[:len(x)]
}

// room returns x with n elements of any value.
func room(x []int64, n int) []int64 {
	if cap(x) < n {
		return make([]int64, n, n+n/4)
	}
	return x[:n]
}
