// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// loadedTimes is a stripe of times in memory, its checksum verified. Columns are parsed when they are first asked
// for, by whoever comes first, and stay parsed.
type loadedTimes struct {
	b      []byte
	off    []uint32 // where each column begins, and the end of the last
	rows   []uint32 // of each column
	bases  []uint32 // how many columns before is the one that it is a part of; 0: it is none
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
	bases := c.ints(int(cols), "bases of columns")
	if c.Failed() {
		return nil, c
	}
	l.rows, l.bases = make([]uint32, len(rows)), make([]uint32, len(rows))
	l.off = make([]uint32, 0, len(sizes)+1)
	off := int64(c.Off)
	l.size = int64(len(b)) + int64(len(sizes))*20 + 128
	for i, size := range sizes {
		if size < 0 || size > int64(len(b))-off || rows[i] < 1 || rows[i] > maxPageRows || bases[i] < 0 || bases[i] > math.MaxUint32 {
			c.Fail("column of times beyond the end, with more rows than a page may have, or a part of nothing")
			return nil, c
		}
		l.off = append(l.off, uint32(off))
		l.rows[i], l.bases[i] = uint32(rows[i]), uint32(bases[i])
		l.size += columnMemory(b[off:off+size], int(rows[i]), bases[i])
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

// baseOf returns how many columns before the i-th is the one that it must be parsed with; 0: none, or it is parsed.
func (l *loadedTimes) baseOf(i uint32) uint32 {
	if l.bases[i] > 0 && l.parsed[i].Load() == nil {
		return l.bases[i]
	}
	return 0
}

// column returns the i-th column; base is the one that it is a part of, if baseOf says so. The message says what is wrong
// with it, and at is where in the stripe.
func (l *loadedTimes) column(i uint32, base *encoding.Times) (t *encoding.Times, at int64, msg string) {
	if t = l.parsed[i].Load(); t != nil {
		return t, 0, ""
	}
	at = int64(l.off[i])
	parsed, err := l.parse(i, base)
	if err != nil {
		return nil, at, err.Error()
	}
	l.parsed[i].Store(&parsed)
	return &parsed, 0, ""
}

func (l *loadedTimes) parse(i uint32, base *encoding.Times) (encoding.Times, error) {
	b := l.b[l.off[i]:l.off[i+1]]
	n := int(l.rows[i])
	if base == nil {
		if got := encoding.TimesLen(b); got != n {
			return encoding.Times{}, &encoding.CorruptError{Msg: fmt.Sprintf("column of %d times, not %d", got, n)}
		}
		return encoding.ParseTimes(b)
	}
	rows, err := encoding.DecodeInts(make([]int64, 0, n), b, n, 0, n)
	if err != nil {
		return encoding.Times{}, err
	}
	return base.Pick(rows)
}
