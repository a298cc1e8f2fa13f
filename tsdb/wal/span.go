// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"math/bits"
)

// Span returns the times of the oldest and the newest row of a batch record's payload behind its limits, not ok where it
// has none. It reads no further than to the times.
func (d *Decoder) Span(p []byte) (mint, maxt int64, ok bool, err error) {
	c := newCursor("batch", p)
	c.version(batchFormat)
	if !c.Failed() && p[0] == batchS2 {
		d.plain = c.unpack(d.plain)
	}
	n := c.Count(1)
	c.skip(n) // a Ref each
	switch form := c.Byte(); {
	case form == columnNone && n == 0:
	case form == columnUniform && n > 0:
		mint = c.Varint()
		maxt = mint
	case form == columnFull && n > 0:
		t := c.Varint()
		mint, maxt = t, t
		for range n - 1 {
			t += c.Varint()
			mint, maxt = min(mint, t), max(maxt, t)
		}
	default:
		c.Fail("bad column of times")
	}
	return mint, maxt, n > 0, c.err()
}

// skip moves behind n numbers of variable length, the last byte of each of which has its high bit clear.
func (c *cursor) skip(n int) {
	const high = 0x8080808080808080
	for n >= 8 && c.Left() >= 8 {
		n -= bits.OnesCount64(^binary.LittleEndian.Uint64(c.B[c.Off:]) & high)
		c.Off += 8
	}
	// At most the first seven bytes of a number were passed.
	for ; n > 0; n-- {
		for c.Byte() >= 0x80 && !c.Failed() {
		}
	}
}
