// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// loadCursor takes fields off the front of b. After the first that is not there or out of range it is bad, and
// gives zeros.
type loadCursor struct {
	b   []byte
	bad bool
}

func (c *loadCursor) fail() {
	c.b, c.bad = nil, true
}

func (c *loadCursor) u8() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *loadCursor) u64() uint64 {
	if len(c.b) < 8 {
		c.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(c.b)
	c.b = c.b[8:]
	return v
}

func (c *loadCursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *loadCursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

// upTo is uvarint with a largest value.
func (c *loadCursor) upTo(limit uint64) uint64 {
	v := c.uvarint()
	if v > limit {
		c.fail()
		return 0
	}
	return v
}

// count is the number of things of at least one byte each that follow.
func (c *loadCursor) count() uint64 { return c.upTo(uint64(len(c.b))) }

// bytes are good until the next frame.
func (c *loadCursor) bytes() []byte {
	n := c.count()
	if n > uint64(len(c.b)) { // the length took bytes too
		c.fail()
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *loadCursor) text() string { return string(c.bytes()) }

func (c *loadCursor) kind() sample.Kind { return sample.Kind(c.upTo(uint64(sample.FloatHistogram))) }
