// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"fmt"
	"math"
)

// CorruptError says where a payload is not what its format demands. The journal's checksums make it a mistake of
// the writer, or a newer one.
type CorruptError struct {
	Record string // kind of record
	Off    int    // of the payload
	Msg    string
}

// Error names the place.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s record: byte %d: %s", e.Record, e.Off, e.Msg)
}

// cursor reads a payload. The first mistake sticks, and everything read after it is zero.
type cursor struct {
	record string
	p      []byte
	off    int
	err    error
}

func (c *cursor) fail(msg string) {
	if c.err == nil {
		c.err = &CorruptError{Record: c.record, Off: c.off, Msg: msg}
		c.off = len(c.p)
	}
}

func (c *cursor) left() int { return len(c.p) - c.off }

// version reads the format of the record, which is its first byte.
func (c *cursor) version(most byte) {
	if v := c.u8(); c.err == nil && (v == 0 || v > most) {
		c.off--
		c.fail(fmt.Sprintf("format %d, this version reads up to %d: start the version that wrote it", v, most))
	}
}

func (c *cursor) u8() byte {
	if c.left() < 1 {
		c.fail("cut short")
		return 0
	}
	b := c.p[c.off]
	c.off++
	return b
}

func (c *cursor) uvarint() uint64 {
	if c.off < len(c.p) && c.p[c.off] < 0x80 {
		c.off++
		return uint64(c.p[c.off-1])
	}
	v, n := binary.Uvarint(c.p[c.off:])
	if n <= 0 {
		c.fail("bad number")
		return 0
	}
	c.off += n
	return v
}

func (c *cursor) varint() int64 {
	v := c.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (c *cursor) u32() uint32 {
	v := c.uvarint()
	if v > math.MaxUint32 {
		c.fail("number exceeds 32 bits")
		return 0
	}
	return uint32(v)
}

func (c *cursor) i32() int32 {
	v := c.varint()
	if v != int64(int32(v)) {
		c.fail("number exceeds 32 bits")
		return 0
	}
	return int32(v)
}

func (c *cursor) float() float64 { return math.Float64frombits(c.u64()) }

func (c *cursor) u64() uint64 {
	b := c.bytes(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// count reads how many things of at least each bytes follow. What cannot be is refused before memory is taken.
func (c *cursor) count(each int) int {
	n := c.uvarint()
	if n > uint64(c.left()/each) {
		c.fail("count exceeds the record")
		return 0
	}
	return int(n)
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > c.left() {
		c.fail("cut short")
		return nil
	}
	c.off += n
	return c.p[c.off-n : c.off : c.off]
}

func (c *cursor) str() string { return string(c.bytes(c.count(1))) }

// done returns the mistake, one of which is a payload that goes on.
func (c *cursor) done() error {
	if c.err == nil && c.left() > 0 {
		c.fail("bytes after the end")
	}
	return c.err
}
