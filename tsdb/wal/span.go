// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal

// BatchSpan returns the times of the oldest and the newest row of a batch record's payload behind its limits, not ok
// where it has none. It reads no further than to the times.
func BatchSpan(p []byte) (mint, maxt int64, ok bool, err error) {
	c := newCursor("batch", p)
	c.version(batchFormat)
	if !c.Failed() && p[0] == batchS2 {
		c.unpack(nil)
	}
	n := c.Count(1)
	for range n { // a Ref each
		c.Varint()
	}
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
