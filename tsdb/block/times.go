// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// loadedTimes is a stripe of times in memory, its checksum verified. Columns are parsed when they are first asked
// for, by whoever comes first, and stay parsed.
type loadedTimes struct {
	b      []byte
	off    []uint32 // where each column begins, and the end of the last
	rows   []uint32 // of each column
	parsed []atomic.Pointer[encoding.Times]
	size   int64
}

// bytes counts the columns as if all were parsed.
func (l *loadedTimes) bytes() int64 { return l.size }

// parseTimeStripe finds the columns in a stripe that has cols of them.
func parseTimeStripe(b []byte, cols uint32) (*loadedTimes, *cursor) {
	c := newCursor(b, 0)
	l := &loadedTimes{b: b}
	sizes := c.ints(int(cols), "sizes of columns")
	rows := c.ints(int(cols), "rows of columns")
	if c.Failed() {
		return nil, c
	}
	l.rows = make([]uint32, len(rows))
	l.off = make([]uint32, 0, len(sizes)+1)
	off := int64(c.Off)
	l.size = int64(len(b)) + int64(len(sizes))*16 + 128
	for i, size := range sizes {
		if size < 0 || size > int64(len(b))-off || rows[i] < 1 || rows[i] > maxPageRows {
			c.Fail("column of times beyond the end, or with more rows than a page may have")
			return nil, c
		}
		l.off = append(l.off, uint32(off))
		l.rows[i] = uint32(rows[i])
		l.size += encoding.TimesMemory(b[off:off+size], int(rows[i]))
		off += size
	}
	if off != int64(len(b)) {
		c.Fail("columns of times do not fill the stripe")
		return nil, c
	}
	l.off = append(l.off, uint32(off))
	l.parsed = make([]atomic.Pointer[encoding.Times], len(sizes))
	return l, c
}

// column returns the i-th column. The message says what is wrong with it, and at is where in the stripe.
func (l *loadedTimes) column(i uint32) (t *encoding.Times, at int64, msg string) {
	if t = l.parsed[i].Load(); t != nil {
		return t, 0, ""
	}
	at = int64(l.off[i])
	parsed, err := encoding.ParseTimes(l.b[l.off[i]:l.off[i+1]])
	if err != nil {
		return nil, at, err.Error()
	}
	if parsed.Len() != int(l.rows[i]) {
		return nil, at, fmt.Sprintf("column of %d times, not %d", parsed.Len(), l.rows[i])
	}
	l.parsed[i].Store(&parsed)
	return &parsed, 0, ""
}
