// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
)

// Many doubles are decimals but for the last bits: sums of decimals, and whole numbers that were multiplied by 0.001. Those
// are written as the decimals and how many doubles they are away from them, or as products.

// nearest10 returns the integer that divided by scale comes nearest to f, or instead if there is none, and how many doubles f
// is beside that.
func nearest10(f, scale float64, instead int64) (x, beside int64) {
	x = instead
	if t := f * scale; math.Abs(t) < maxInteger {
		x = int64(math.RoundToEven(t))
	}
	return x, ordered(f) - ordered(float64(x)/scale)
}

// nearExponent guesses of which exponent v are nearly decimals, if the first rows and the last look as if that took clearly
// fewer bits than their doubles do.
func nearExponent(v []float64) (exponent int, ok bool) {
	var some [2 * window]float64
	n := copy(some[:window], v)
	n += copy(some[n:], v[max(n, len(v)-window):])
	var x, beside [2 * window]int64
	for i, f := range some[:n] {
		x[i] = ordered(f)
	}
	least := glance(x[:n], nil, 0)
	least -= least / 8
	for e, scale := range powers {
		last := int64(0)
		for i, f := range some[:n] {
			x[i], beside[i] = nearest10(f, scale, last)
			last = x[i]
		}
		if bits := glance(x[:n], nil, 0) + glance(beside[:n], nil, 0); bits < least {
			exponent, least, ok = e, bits, true
		}
	}
	return exponent, ok
}

// products writes v to e.ints as integers that are multiplied by 10^-exponent.
func (e *Encoder) products(v []float64) (exponent int, ok bool) {
	e.ints = room(e.ints, len(v))
	for exponent = 1; exponent <= maxExponent; exponent++ {
		if e.product(v, exponent) {
			return exponent, true
		}
	}
	return 0, false
}

func (e *Encoder) product(v []float64, exponent int) bool {
	scale := 1 / powers[exponent]
	for i, f := range v {
		x := math.RoundToEven(f * powers[exponent])
		if !(math.Abs(x) < maxInteger) || math.Float64bits(float64(int64(x))*scale) != math.Float64bits(f) {
			return false
		}
		e.ints[i] = int64(x)
	}
	return true
}

// appendNear appends v as valuesNear.
func (e *Encoder) appendNear(dst []byte, v []float64, exponent int) []byte {
	e.ints, e.beside = room(e.ints, len(v)), room(e.beside, len(v))
	scale, last := powers[exponent], int64(0)
	for i, f := range v {
		e.ints[i], e.beside[i] = nearest10(f, scale, last)
		last = e.ints[i]
	}
	e.column = e.AppendInts(e.column[:0], e.ints)
	dst = binary.AppendUvarint(append(dst, valuesNear, byte(exponent)), uint64(len(e.column)))
	return e.AppendInts(append(dst, e.column...), e.beside)
}

// decodeNear decodes valuesNear.
func decodeNear(dst []float64, h *header, n, from, to int) ([]float64, error) {
	exponent := h.u8()
	size := h.size(len(h.src))
	if h.bad || exponent > maxExponent || size > len(h.src)-h.off {
		return dst, h.corrupt("values near decimals")
	}
	at, rows := len(dst), to-from
	// The second column stands behind the first while both are needed.
	x, err := DecodeInts(asInts(dst), h.rest()[:size], n, from, to)
	if err != nil {
		return dst, err
	}
	if x, err = DecodeInts(x, h.rest()[size:], n, from, to); err != nil {
		return dst, err
	}
	dst = asFloats(x)
	f, scale := dst[at:at+rows], powers[exponent]
	for i, beside := range x[at+rows:] {
		f[i] = fromOrdered(ordered(float64(x[at+i])/scale) + beside)
	}
	return dst[:at+rows], nil
}
