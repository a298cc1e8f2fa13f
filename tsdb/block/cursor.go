// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"math"
)

// cursor reads one part of a block and remembers the first fault; after it every read gives zero.
type cursor struct {
	b   []byte
	off int
	msg string // of the first fault
	bad int    // where it is
}

func (c *cursor) fail(msg string) {
	if c.msg == "" {
		c.msg, c.bad = msg, c.off
	}
	c.off = len(c.b)
}

func (c *cursor) left() int { return len(c.b) - c.off }

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b[c.off:])
	if n <= 0 {
		c.fail("malformed number")
		return 0
	}
	c.off += n
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b[c.off:])
	if n <= 0 {
		c.fail("malformed number")
		return 0
	}
	c.off += n
	return v
}

// atMost reads a number that must not be above limit.
func (c *cursor) atMost(limit int, what string) int {
	v := c.uvarint()
	if v > uint64(limit) {
		c.fail(what + " out of range")
		return 0
	}
	return int(v)
}

// count reads how many entries follow, each of which takes size bytes at least.
func (c *cursor) count(size int) int {
	v := c.uvarint()
	if v > uint64(c.left()/size) {
		c.fail("more entries than bytes")
		return 0
	}
	return int(v)
}

func (c *cursor) u32() uint32 {
	if c.left() < 4 {
		c.fail("cut short")
		return 0
	}
	c.off += 4
	return binary.LittleEndian.Uint32(c.b[c.off-4:])
}

func (c *cursor) float() float64 {
	if c.left() < 8 {
		c.fail("cut short")
		return 0
	}
	c.off += 8
	return math.Float64frombits(binary.LittleEndian.Uint64(c.b[c.off-8:]))
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > c.left() {
		c.fail("cut short")
		return nil
	}
	c.off += n
	return c.b[c.off-n : c.off]
}

func (c *cursor) text() string { return string(c.bytes(c.count(1))) }

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// finish asserts that everything was read.
func (c *cursor) finish() {
	if c.left() > 0 {
		c.fail("bytes left over")
	}
}
