// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math/bits"
)

// The first byte of a column of integers.
const (
	orderMask   = 3 // how many times differences were taken: 0-2
	divisorFlag = 4 // the residual is divided
	formShift   = 3
)

// AppendInts appends x as a self-describing column and returns the longer slice.
func (e *Encoder) AppendInts(dst []byte, x []int64) []byte {
	first := e.bestOrder(x)
	return e.appendOrder(dst, x, first)
}

// bestOrder guesses from the number of bits in each residual.
func (e *Encoder) bestOrder(x []int64) int {
	if len(x) < 3 {
		return 0
	}
	sum := weigh(x)
	switch {
	case sum[2] < sum[1] && sum[2] < sum[0]:
		return 2
	case sum[1] <= sum[0]:
		return 1
	}
	return 0
}

// guess returns about how many bits x takes.
func guess(x []int64) int {
	s := weigh(x)
	return min(s[0], s[1], s[2])
}

// stretch is for how many rows weigh takes a range.
const stretch = 16

// weigh tells about how many bits the residuals of each order take: by octaves, of which the entropy is taken, or by
// their ranges in short stretches, whichever is less.
func weigh(x []int64) (sum [3]int) {
	mid := middle(x)
	var ranges [3]int
	var count [3][octaves]int32
	last, delta := x[0], int64(0)
	if len(x) > 1 {
		delta = x[1] - x[0]
	}
	for at := 0; at < len(x); at += stretch {
		var lo, hi [3]int64
		part := x[at:min(at+stretch, len(x))]
		for i, v := range part {
			d := v - last
			dd := d - delta
			count[0][bits.Len64(zigzag(v-mid))]++
			count[1][bits.Len64(zigzag(d))]++
			count[2][bits.Len64(zigzag(dd))]++
			last, delta = v, d
			if i == 0 {
				lo, hi = [3]int64{v, d, dd}, [3]int64{v, d, dd}
				continue
			}
			lo[0], hi[0] = min(lo[0], v), max(hi[0], v)
			lo[1], hi[1] = min(lo[1], d), max(hi[1], d)
			lo[2], hi[2] = min(lo[2], dd), max(hi[2], dd)
		}
		for k := range ranges {
			ranges[k] += len(part)*log2(uint64(hi[k]-lo[k])+1) + 8*64
		}
	}
	for k := range sum {
		n := len(x) * log2(uint64(len(x)))
		for c, m := range count[k] {
			if m > 0 {
				n += int(m) * (64*max(c-1, 0) - log2(uint64(m)))
			}
		}
		sum[k] = min(n, ranges[k])
	}
	return sum
}

// log2 returns about 64 times the binary logarithm of u, and that of 2^64 for 0.
func log2(u uint64) int {
	if u == 0 {
		return 64 * 64
	}
	n := bits.Len64(u) - 1
	return 64*n + int(u<<(63-n)>>57&63)
}

// appendOrder appends x by its differences of that order.
func (e *Encoder) appendOrder(dst []byte, x []int64, order int) []byte {
	r := append(e.orders[0][:0], x...)
	for range order {
		for i := range r[1:] {
			r[i] = r[i+1] - r[i]
		}
		r = r[:len(r)-1]
	}
	e.orders[0] = r
	var origin int64
	if order == 0 && len(x) > 0 {
		origin = x[0]
	}
	divisor := divisorOf(r, origin)
	if divisor > 1 {
		divide(r, origin, divisor)
	}
	p := e.choose(r, true)
	kind := byte(order) | p.form<<formShift
	if divisor > 1 {
		kind |= divisorFlag
	}
	dst = append(dst, kind)
	if order > 0 || divisor > 1 {
		dst = binary.AppendVarint(dst, x[0])
	}
	if order > 1 {
		dst = binary.AppendVarint(dst, x[1]-x[0])
	}
	if divisor > 1 {
		dst = binary.AppendUvarint(dst, divisor)
	}
	return e.appendResidual(dst, r, &p)
}

// divisorOf returns the greatest number that divides all of r less origin, 0 or 1 if there is none to speak of.
func divisorOf(r []int64, origin int64) uint64 {
	var g uint64
	for _, v := range r {
		d := uint64(v - origin)
		if v < origin {
			d = -d
		}
		if d >= 1<<62 {
			return 1
		}
		for d != 0 {
			g, d = d, g%d
		}
		if g == 1 {
			return 1
		}
	}
	return g
}

func divide(r []int64, origin int64, divisor uint64) {
	for i, v := range r {
		r[i] = (v - origin) / int64(divisor)
	}
}

// DecodeInts appends the rows [from, to) of a column of n rows to dst; 0 <= from <= to <= n. A *CorruptError
// says that the bytes do not follow the format.
func DecodeInts(dst []int64, src []byte, n, from, to int) ([]int64, error) {
	h := header{src: src}
	kind := h.u8()
	order := int(kind & orderMask)
	var first, delta int64
	divisor := uint64(1)
	if order > 0 || kind&divisorFlag != 0 {
		first = h.varint()
	}
	if order > 1 {
		delta = h.varint()
	}
	if kind&divisorFlag != 0 {
		divisor = h.uvarint()
	}
	if h.bad || order > 2 || n < order {
		return dst, h.corrupt("head of a column of integers")
	}
	fail := func(err error) error {
		if c, ok := err.(*CorruptError); ok { //nolint:errorlint // made here, and not wrapped
			c.Off += h.off
		}
		return err
	}
	base := len(dst)
	if order == 0 {
		dst = grow(dst, to-from)
		x := dst[base:]
		if err := decodeResidual(x, kind>>formShift, h.rest(), n, from); err != nil {
			return dst[:base], fail(err)
		}
		if kind&divisorFlag != 0 {
			for i := range x {
				x[i] = x[i]*int64(divisor) + first
			}
		}
		return dst, nil
	}
	// Sums need all rows before.
	dst = grow(dst, max(to, order))
	x := dst[base:]
	if err := decodeResidual(x[order:], kind>>formShift, h.rest(), n-order, 0); err != nil {
		return dst[:base], fail(err)
	}
	x[0] = first
	sum := first
	if order == 1 {
		for i, d := range x[1:] {
			sum += d * int64(divisor)
			x[i+1] = sum
		}
	} else {
		sum += delta
		x[1] = sum
		for i, d := range x[2:] {
			delta += d * int64(divisor)
			sum += delta
			x[i+2] = sum
		}
	}
	if from > 0 {
		copy(x, x[from:to])
	}
	return dst[:base+to-from], nil
}

// grow makes dst n longer.
func grow(dst []int64, n int) []int64 {
	if len(dst)+n <= cap(dst) {
		return dst[:len(dst)+n]
	}
	return append(dst, make([]int64, n)...)
}
