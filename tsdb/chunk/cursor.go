// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import "encoding/binary"

// cursor reads bytes in order. Its first error sticks: reads after it return zero, and err says what and where
// it was.
type cursor struct {
	b   []byte
	off int
	err error
}

func (c *cursor) left() int { return len(c.b) - c.off }

func (c *cursor) fail(msg string) {
	if c.err == nil {
		c.err = &CorruptError{Msg: msg, Off: c.off}
	}
	c.off = len(c.b)
}

func (c *cursor) u8() byte {
	if c.off >= len(c.b) {
		c.fail("ends too early")
		return 0
	}
	c.off++
	return c.b[c.off-1]
}

func (c *cursor) u64() uint64 {
	if c.left() < 8 {
		c.fail("ends too early")
		return 0
	}
	c.off += 8
	return binary.BigEndian.Uint64(c.b[c.off-8:])
}

func (c *cursor) uvarint() uint64 {
	if c.off < len(c.b) && c.b[c.off] < 0x80 { // the common case, inlined
		c.off++
		return uint64(c.b[c.off-1])
	}
	return c.longUvarint()
}

func (c *cursor) longUvarint() uint64 {
	u, n := binary.Uvarint(c.b[c.off:])
	if n <= 0 {
		c.fail("number ends too early or is too long")
		return 0
	}
	c.off += n
	return u
}

func (c *cursor) varint() int64 { return unzigzag(c.uvarint()) }

// count reads a number of things that take at least size bytes each, and refuses more than can follow.
func (c *cursor) count(size int) int {
	n := c.uvarint()
	if n > uint64(c.left()/size) {
		c.fail("more items than the bytes can hold")
		return 0
	}
	return int(n)
}

// bytes reads a size and so many bytes, which it does not copy.
func (c *cursor) bytes() []byte {
	n := c.count(1)
	c.off += n
	return c.b[c.off-n : c.off]
}

func zigzag(x int64) uint64   { return uint64(x<<1) ^ uint64(x>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
