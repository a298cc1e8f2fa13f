// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
)

// span is a part of a section that covers neighbouring series, of all times: a chunk of exemplars, or a stripe of
// version 1.
type span struct {
	off        int64
	size, crc  uint32
	first      uint32 // id of its first series
	series     uint32
	minT, maxT int64 // of what it holds; minT above maxT where that is nothing
}

// appendSpans adds the directory of spans: of each its size and checksum, how many series it has, doubled, plus one
// where it has times, and then these, from those of the span before.
func appendSpans(dst []byte, spans []span) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(spans)))
	last := int64(0)
	for _, s := range spans {
		dst = binary.AppendUvarint(dst, uint64(s.size))
		dst = binary.LittleEndian.AppendUint32(dst, s.crc)
		if s.minT > s.maxT {
			dst = binary.AppendUvarint(dst, uint64(s.series)<<1)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(s.series)<<1|1)
		dst = binary.AppendVarint(dst, s.minT-last)
		dst = binary.AppendUvarint(dst, uint64(s.maxT-s.minT))
		last = s.minT
	}
	return dst
}

// parseSpans reads the directory of a block of n series whose spans are in area.
func parseSpans(b []byte, n int, area section) ([]span, *cursor) {
	c := newCursor(b, 0)
	spans := make([]span, 0, c.Count(6))
	off, series, last := area.off, 0, int64(0)
	for range cap(spans) {
		s := span{off: off, first: uint32(series), minT: math.MaxInt64, maxT: math.MinInt64}
		s.size = uint32(c.atMost(maxStripe, "size"))
		s.crc = c.LE32()
		k := c.Uvarint()
		if k>>1 == 0 || k>>1 > uint64(n-series) {
			c.Fail("series out of range")
		}
		s.series = uint32(k >> 1)
		if k&1 != 0 {
			s.minT = last + c.Varint()
			s.maxT = s.minT + int64(c.Uvarint())
			if s.maxT < s.minT {
				c.Fail("times out of range")
			}
			last = s.minT
		}
		if c.Failed() {
			return nil, c
		}
		off += int64(s.size)
		series += int(s.series)
		spans = append(spans, s)
	}
	if c.Finish(); !c.Failed() && (series != n || off != area.off+area.size) {
		c.Fail(fmt.Sprintf("%d series in spans, %d in the index; or spans end at %d", series, n, off))
	}
	return spans, c
}

// findSpan returns the index of the span that holds a series.
func findSpan(spans []span, id uint32) int {
	return sort.Search(len(spans), func(i int) bool { return spans[i].first > id }) - 1
}
