// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"fmt"
	"math"
)

// FormatError says what is wrong with the bytes of an index and where.
type FormatError struct {
	Off int64 // from the start of the index
	Msg string
}

// Error names the place and the fault.
func (e *FormatError) Error() string { return fmt.Sprintf("index: byte %d: %s", e.Off, e.Msg) }

// cursor reads a part of an index and remembers the first fault; after it every read gives zero.
type cursor struct {
	b        []byte
	off, end int
	err      error
}

func (c *cursor) fail(msg string) {
	if c.err == nil {
		c.err = &FormatError{Off: int64(c.off), Msg: msg}
	}
	c.off = c.end
}

// uvarint reads a number of at most 32 bits.
func (c *cursor) uvarint() uint32 {
	if c.off < c.end && c.b[c.off] < 0x80 {
		c.off++
		return uint32(c.b[c.off-1])
	}
	v, n := binary.Uvarint(c.b[c.off:c.end])
	if n <= 0 || v > math.MaxUint32 {
		c.fail("malformed number")
		return 0
	}
	c.off += n
	return uint32(v)
}

// below reads a number that must be less than limit.
func (c *cursor) below(limit int, what string) uint32 {
	v := c.uvarint()
	if c.err == nil && int64(v) >= int64(limit) {
		c.fail(fmt.Sprintf("%s %d of %d", what, v, limit))
		return 0
	}
	return v
}

// bytes reads n bytes, which stay part of the index.
func (c *cursor) bytes(n uint32) []byte {
	if c.err != nil || int64(n) > int64(c.end-c.off) {
		c.fail("text beyond the end")
		return nil
	}
	c.off += int(n)
	return c.b[c.off-int(n) : c.off]
}

func (c *cursor) finish(part string) error {
	if c.err == nil && c.off != c.end {
		c.fail("bytes left over")
	}
	if c.err != nil {
		return fmt.Errorf("%s: %w", part, c.err)
	}
	return nil
}

// uvarintAt reads a number that was validated when the index was opened, and returns where the next one is.
func uvarintAt(b []byte, off uint32) (v, next uint32) {
	for shift := 0; ; shift += 7 {
		x := b[off]
		off++
		v |= uint32(x&0x7f) << shift
		if x < 0x80 {
			return v, off
		}
	}
}
