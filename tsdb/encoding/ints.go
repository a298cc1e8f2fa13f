// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"fmt"
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
	if len(x) < 3 || allEqual(x) {
		return 0
	}
	sum := weigh(x)
	switch {
	case sum[2] < sum[1] && sum[2] < sum[0]:
		return 2
	case sum[1] < sum[0]:
		return 1
	}
	return 0
}

func allEqual(x []int64) bool {
	for _, v := range x {
		if v != x[0] {
			return false
		}
	}
	return true
}

// stretch is for how many rows weigh takes a range.
const stretch = 16

// weigh tells about how many bits the residuals of each order take: by octaves, of which the entropy is taken, or by
// their ranges in short stretches, whichever is less.
func weigh(x []int64) (sum [3]int) {
	mid := middle(x)
	var ranges [3]int
	var count [3][octaves]int32
	var steady [3]bool // all the same
	var same [3]int64
	last, delta := x[0], int64(0)
	if len(x) > 1 {
		delta = x[1] - x[0]
		last -= delta // as if it had always been so
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
		if at == 0 {
			steady, same = [3]bool{true, true, true}, hi
		}
		for k := range ranges {
			steady[k] = steady[k] && lo[k] == hi[k] && hi[k] == same[k]
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
		if sum[k] = min(n, ranges[k]); steady[k] {
			sum[k] = 0
		}
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
	p := e.choose(r)
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

// divisorOf returns the greatest number that divides all of r less origin, 0 or 1 if there is none to speak of: of equal
// numbers there is none.
func divisorOf(r []int64, origin int64) uint64 {
	var g uint64
	equal := true
	for _, v := range r {
		equal = equal && v == r[0]
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
	if equal {
		return 1
	}
	return g
}

func divide(r []int64, origin int64, divisor uint64) {
	for i, v := range r {
		r[i] = (v - origin) / int64(divisor)
	}
}

// integers is the head of a column of integers.
type integers struct {
	h              header // what follows is the residual
	form           uint8
	order          int
	divided        bool
	first, delta   int64 // the first row, and what the second is more
	divisor        int64
	rows, from, to int // of the column; asked for
}

func (c *integers) parse(n int) error {
	h := &c.h
	kind := h.u8()
	c.form, c.order, c.divided, c.divisor = kind>>formShift, int(kind&orderMask), kind&divisorFlag != 0, 1
	if c.order > 0 || c.divided {
		c.first = h.varint()
	}
	if c.order > 1 {
		c.delta = h.varint()
	}
	if c.divided {
		c.divisor = int64(h.uvarint())
	}
	if h.bad || c.order > 2 || n < c.order {
		return h.corrupt("head of a column of integers")
	}
	c.rows = n
	return nil
}

// need returns from which row on and how many rows must be decoded for those asked for: sums need all before.
func (c *integers) need() (from, rows int) {
	if c.order == 0 {
		return c.from, c.to - c.from
	}
	return 0, max(c.to, c.order)
}

// residual decodes into x what need says; where differences were taken, from row order on.
func (c *integers) residual(x []int64) error {
	from, _ := c.need()
	if err := decodeResidual(x[c.order:], c.form, c.h.rest(), c.rows-c.order, from); err != nil {
		return fmt.Errorf("residual behind byte %d: %w", c.h.off, err)
	}
	return nil
}

// sum turns the residual into the integers.
func (c *integers) sum(x []int64) {
	sum, divisor := c.first, c.divisor
	switch c.order {
	case 0:
		if c.divided {
			for i := range x {
				x[i] = x[i]*divisor + sum
			}
		}
	case 1:
		x[0] = sum
		x = x[1:]
		for i, d := range x {
			sum += d * divisor
			x[i] = sum
		}
	default:
		delta := c.delta
		x[0], x[1] = sum, sum+delta
		sum += delta
		x = x[2:]
		for i, d := range x {
			delta += d * divisor
			sum += delta
			x[i] = sum
		}
	}
}

// isLine tells whether any row is known without those before it: all differences of some order are the same.
func (c *integers) isLine() bool { return c.order > 0 && c.form == formConst }

// slope returns the difference of a column of which isLine holds.
func (c *integers) slope() (int64, error) {
	d := c.h.varint() * c.divisor
	if c.h.bad {
		return 0, c.h.corrupt("constant")
	}
	return d, c.h.end()
}

// lineAt returns row i of a line, how much more the next is, and how much more than that the one behind it: the
// differences of row i are those of the first row and i times what they grow by.
func (c *integers) lineAt(i, slope int64) (row, delta, grow int64) {
	if c.order == 2 {
		return c.first + i*c.delta + int64(uint64(i)*uint64(i-1)/2)*slope, c.delta + i*slope, slope
	}
	return c.first + i*slope, slope, 0
}

// line fills in the rows asked for of a column of which isLine holds.
func (c *integers) line(x []int64) error {
	slope, err := c.slope()
	if err != nil {
		return err
	}
	row, delta, grow := c.lineAt(int64(c.from), slope)
	for k := range x {
		x[k] = row
		row += delta
		delta += grow
	}
	return nil
}

// IntEnds returns the first and the last of the rows [from, to) of a column of n rows, from < to. It may use scratch, which
// has room for n.
func IntEnds(scratch []int64, src []byte, n, from, to int) (first, last int64, err error) {
	c := integers{h: header{src: src}, from: from, to: to}
	if err := c.parse(n); err != nil {
		return 0, 0, err
	}
	if c.isLine() {
		slope, err := c.slope()
		first, _, _ = c.lineAt(int64(from), slope)
		last, _, _ = c.lineAt(int64(to-1), slope)
		return first, last, err
	}
	x, err := DecodeInts(scratch[:0], src, n, from, to)
	if err != nil {
		return 0, 0, err
	}
	return x[0], x[len(x)-1], nil
}

// DecodeInts appends the rows [from, to) of a column of n rows to dst; 0 <= from <= to <= n. A *CorruptError
// says that the bytes do not follow the format.
func DecodeInts(dst []int64, src []byte, n, from, to int) ([]int64, error) {
	c := integers{h: header{src: src}, from: from, to: to}
	if err := c.parse(n); err != nil {
		return dst, err
	}
	base := len(dst)
	if c.isLine() {
		dst = grow(dst, to-from)
		if err := c.line(dst[base:]); err != nil {
			return dst[:base], err
		}
		return dst, nil
	}
	_, rows := c.need()
	dst = grow(dst, rows)
	x := dst[base:]
	if err := c.residual(x); err != nil {
		return dst[:base], err
	}
	c.sum(x)
	return trim(dst, base, &c), nil
}

// trim removes the rows behind base that were decoded without being asked for.
func trim[T any](dst []T, base int, c *integers) []T {
	if c.order > 0 && c.from > 0 {
		copy(dst[base:], dst[base+c.from:base+c.to])
	}
	return dst[:base+c.to-c.from]
}

// grow makes dst n longer.
func grow(dst []int64, n int) []int64 {
	if len(dst)+n <= cap(dst) {
		return dst[:len(dst)+n]
	}
	return append(dst, make([]int64, n)...)
}
