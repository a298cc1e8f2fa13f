// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Codecs of values: the first byte of a column, less patchedFlag. Numbers are on disk.
const (
	valuesRaw     = 0
	valuesConst   = 1
	valuesXOR     = 2
	valuesRef     = 3    // a column of refs
	valuesDiff    = 4    // decimals, less those of a column of refs
	valuesOrdered = 5    // the bits as integers that ascend like the values
	valuesUlp     = 6    // multiples of a power of two
	valuesProduct = 7    // integers multiplied by 10^-e
	valuesNear    = 8    // decimals, and how many doubles the values are beside them
	valuesDecimal = 0x10 // 0x10 + e: integers divided by 10^e, e at most maxExponent
	patchedFlag   = 0x80 // some values stand apart
)

// AppendValues appends v, all of it bit for bit, as a self-describing column and returns the longer slice. refs
// are columns of the same length by which v may be expressed; ValueRef tells whether and by which it is.
func (e *Encoder) AppendValues(dst []byte, v []float64, refs [][]float64) []byte {
	if len(v) == 0 {
		return append(dst, valuesRaw)
	}
	if c := constant(v); c {
		return appendConst(dst, v[0])
	}
	for k, r := range refs {
		if sameBits(v, r) {
			return binary.AppendUvarint(append(dst, valuesRef), uint64(k))
		}
	}
	start := len(dst)
	exponent, ok := e.decimals(v)
	if ok {
		dst = e.appendDecimals(dst, v, exponent, refs)
	}
	if !ok || exponent >= doubtful || len(e.odd) > 0 {
		dst = e.appendDoubles(dst, start, v)
	}
	if len(dst)-start > 8*len(v) {
		dst = appendRaw(dst[:start], v)
	}
	return dst
}

func constant(v []float64) bool {
	first := math.Float64bits(v[0])
	for _, f := range v {
		if math.Float64bits(f) != first {
			return false
		}
	}
	return true
}

func sameBits(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float64bits(a[i]) != math.Float64bits(b[i]) {
			return false
		}
	}
	return true
}

func appendRaw(dst []byte, v []float64) []byte {
	dst = append(dst, valuesRaw)
	for _, f := range v {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
	}
	return dst
}

// appendConst appends one value: its bytes from the highest on, without the zeros at the end.
func appendConst(dst []byte, f float64) []byte {
	dst = append(dst, valuesConst)
	for b := math.Float64bits(f); b != 0; b <<= 8 {
		dst = append(dst, byte(b>>56))
	}
	return dst
}

// DecodeValues appends the rows [from, to) of a column of n rows to dst; 0 <= from <= to <= n. ref answers the
// whole column of n rows that a reference means; it is called only for columns of which ValueRef says so. A
// *CorruptError says that the bytes do not follow the format.
func DecodeValues(dst []float64, src []byte, n, from, to int, ref func(k int) ([]float64, error)) ([]float64, error) {
	h := header{src: src}
	codec := h.u8()
	if codec&patchedFlag != 0 {
		return decodePatched(dst, src, n, from, to)
	}
	switch codec {
	case valuesRaw:
		if h.bad || len(src)-1 != 8*n {
			return dst, h.corrupt("raw values do not fill the column")
		}
		for i := from; i < to; i++ {
			dst = append(dst, math.Float64frombits(binary.LittleEndian.Uint64(src[1+8*i:])))
		}
		return dst, nil
	case valuesConst:
		var b [8]byte
		if len(src) > 9 || len(src) > 1 && src[len(src)-1] == 0 {
			return dst, h.corrupt("constant of too many bytes")
		}
		copy(b[:], src[1:])
		f := math.Float64frombits(binary.BigEndian.Uint64(b[:]))
		at := len(dst)
		dst = asFloats(grow(asInts(dst), to-from))
		fill(dst[at:], f)
		return dst, nil
	case valuesXOR:
		return decodeXOR(dst, &h, n, from, to)
	case valuesRef, valuesDiff:
		return decodeByRef(dst, src, n, from, to, ref)
	case valuesNear:
		return decodeNear(dst, &h, n, from, to)
	}
	return decodeIntegers(dst, codec, &h, n, from, to)
}

// decodeIntegers decodes the codecs that turn values into integers.
func decodeIntegers(dst []float64, codec uint8, h *header, n, from, to int) ([]float64, error) {
	var unit int64
	ok := true
	switch codec {
	case valuesOrdered:
	case valuesUlp:
		unit = h.varint()
		ok = unit >= minUnit && unit <= maxUnit
	case valuesProduct:
		unit = int64(h.u8())
		ok = unit <= maxExponent
	default:
		ok = codec >= valuesDecimal && codec <= valuesDecimal+maxExponent
	}
	if h.bad || !ok {
		return dst, h.corrupt("codec of values")
	}
	c := integers{h: header{src: h.rest()}, from: from, to: to}
	if err := c.parse(n); err != nil {
		return dst, err
	}
	at, body := len(dst), c.h.off
	if c.isLine() {
		dst = asFloats(grow(asInts(dst), to-from))
		f := dst[at:]
		if err := c.line(asInts(f)); err != nil {
			return dst[:at], err
		}
		turn(f, asInts(f), codec, int(unit))
		return dst, nil
	}
	if c.form == formSparse && c.order == 1 {
		room := patchRooms.Get().(*patchRoom)
		defer patchRooms.Put(room)
		p, err := c.h.patches(formSparse, n-1, room)
		if err != nil {
			return dst, err
		}
		if p.base == 0 {
			dst = asFloats(grow(asInts(dst), to-from))
			c.steps(dst[at:], &p, codec, int(unit))
			return dst, nil
		}
		c.h.off = body
	}
	_, rows := c.need()
	dst = asFloats(grow(asInts(dst), rows))
	f := dst[at:]
	x := asInts(f)
	if err := c.residual(x); err != nil {
		return dst[:at], err
	}
	switch {
	case codec == valuesDecimal && c.order == 1:
		c.sumWholes(f, x)
	case codec > valuesDecimal && c.order == 1:
		c.sumDecimals(f, x, powers[codec-valuesDecimal])
	default:
		c.sum(x)
		turn(f, x, codec, int(unit))
	}
	return trim(dst, at, &c), nil
}

// sumWholes is sum and turn in one for differences of whole numbers.
func (c *integers) sumWholes(f []float64, x []int64) {
	sum, divisor := c.first, c.divisor
	x[0] = 0
	for i := range f {
		sum += x[i] * divisor
		f[i] = float64(sum)
	}
}

// sumDecimals is sum and turn in one for differences of decimals.
func (c *integers) sumDecimals(f []float64, x []int64, scale float64) {
	sum, divisor := c.first, c.divisor
	x[0] = 0
	for i := range f {
		sum += x[i] * divisor
		f[i] = float64(sum) / scale
	}
}

// turn turns integers into values. f and x are the same memory.
func turn(f []float64, x []int64, codec uint8, unit int) {
	switch codec {
	case valuesOrdered:
		for i, v := range x {
			f[i] = fromOrdered(v)
		}
	case valuesUlp, valuesProduct:
		scale := 1 / powers[min(uint(unit), maxExponent)]
		if codec == valuesUlp {
			scale = math.Ldexp(1, unit)
		}
		for i, v := range x {
			f[i] = float64(v) * scale
		}
	case valuesDecimal:
		for i, v := range x {
			f[i] = float64(v)
		}
	default:
		scale := powers[codec-valuesDecimal]
		for i, v := range x {
			f[i] = float64(v) / scale
		}
	}
}

// decodeByRef decodes the codecs that need another column.
func decodeByRef(dst []float64, src []byte, n, from, to int, ref func(k int) ([]float64, error)) ([]float64, error) {
	h := header{src: src, off: 1}
	k := h.size(math.MaxInt32)
	if h.bad || ref == nil {
		return dst, h.corrupt("reference without a column")
	}
	other, err := ref(k)
	if err != nil {
		return dst, err
	}
	if len(other) != n {
		return dst, h.corrupt("reference to a column of another length")
	}
	if src[0] == valuesRef {
		if err := h.end(); err != nil {
			return dst, err
		}
		return append(dst, other[from:to]...), nil
	}
	exponent := h.u8()
	if h.bad || exponent > maxExponent {
		return dst, h.corrupt("exponent of a difference")
	}
	at := len(dst)
	ints, err := DecodeInts(asInts(dst), h.rest(), n, from, to)
	if err != nil {
		return dst, err
	}
	dst = asFloats(ints)
	f, x, scale := dst[at:], ints[at:], powers[exponent]
	for i, o := range other[from:to] {
		d, ok := decimal(o, scale)
		if !ok {
			return dst[:at], h.corrupt("reference to a column of other decimals")
		}
		f[i] = float64(x[i]+d) / scale
	}
	return dst, nil
}

// ValueRef tells which of the refs a column of values needs in order to be decoded, if any.
func ValueRef(src []byte) (k int, ok bool) {
	if len(src) < 2 || src[0] != valuesRef && src[0] != valuesDiff {
		return 0, false
	}
	u, w := binary.Uvarint(src[1:])
	return int(u), w > 0 && u <= math.MaxInt32
}

// ordered maps the bits of a value to an integer such that both ascend together.
func ordered(f float64) int64 {
	b := int64(math.Float64bits(f))
	return b ^ int64(uint64(b>>63)>>1)
}

func fromOrdered(x int64) float64 {
	return math.Float64frombits(uint64(x ^ int64(uint64(x>>63)>>1)))
}

// Units of valuesUlp: the exponents of two that a double can have.
const (
	minUnit = -1074
	maxUnit = 1023
)

// ulps writes v to e.ints as multiples of the greatest power of two that divides all.
func (e *Encoder) ulps(v []float64) (unit int, ok bool) {
	unit = math.MaxInt
	for _, f := range v {
		b := math.Float64bits(f) &^ (1 << 63)
		exp, m := int(b>>52), b&(1<<52-1)
		switch exp {
		case 0x7ff:
			return 0, false
		case 0:
			exp = 1
		default:
			m |= 1 << 52
		}
		if m != 0 {
			unit = min(unit, exp-1075+bits.TrailingZeros64(m))
		}
	}
	if unit > maxUnit {
		return 0, false
	}
	e.ints = e.ints[:0]
	scale := math.Ldexp(1, unit)
	for _, f := range v {
		x := f / scale
		if !(math.Abs(x) < 1<<62) || math.Float64bits(float64(int64(x))*scale) != math.Float64bits(f) {
			return 0, false
		}
		e.ints = append(e.ints, int64(x))
	}
	return unit, true
}

// doubtful is the exponent from which on any double of its size may look like a decimal.
const doubtful = 12

// appendDoubles appends values in the shortest of the ways that do not need decimals, and cuts off what is there from
// start on, unless that is shorter still.
func (e *Encoder) appendDoubles(dst []byte, start int, v []float64) []byte {
	shorter := func(t []byte) {
		if len(dst) == start || len(t) < len(dst)-start {
			dst = append(dst[:start], t...)
		}
	}
	e.ints = room(e.ints, len(v))
	for i, f := range v {
		e.ints[i] = ordered(f)
	}
	e.trial = e.AppendInts(append(e.trial[:0], valuesOrdered), e.ints)
	shorter(e.trial)
	if unit, ok := e.ulps(v); ok {
		e.trial = binary.AppendVarint(append(e.trial[:0], valuesUlp), int64(unit))
		e.trial = e.AppendInts(e.trial, e.ints)
		shorter(e.trial)
	}
	if exponent, ok := e.products(v); ok {
		e.trial = e.AppendInts(append(e.trial[:0], valuesProduct, byte(exponent)), e.ints)
		shorter(e.trial)
	} else if exponent, ok := nearExponent(v); ok {
		e.trial = e.appendNear(e.trial[:0], v, exponent)
		shorter(e.trial)
	}
	e.trial = appendXOR(e.trial[:0], v, len(dst)-start)
	shorter(e.trial)
	return dst
}
