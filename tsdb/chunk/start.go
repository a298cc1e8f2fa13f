// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
)

// MaxSTBytes is the most bytes that one AppendST adds: two numbers of at most ten bytes.
const MaxSTBytes = 20

// STState is the writer's side of a stream of start timestamps. The zero value is that of an empty stream. 24
// bytes without pointers.
type STState struct {
	st, delta int64 // the last start timestamp, and how far it was from the one before
	n         int64 // the sample it came with, from 1; 0: none yet
}

// AppendST notes that sample n (from 0) of a chunk has the start timestamp st, 0 for none, and returns the
// longer stream. It writes only changes: a chunk without start timestamps has an empty stream and need not
// call it, one with a constant start pays for its first sample. Samples that were not told have the start of
// the one before. Calls go up in n.
func AppendST(buf []byte, s *STState, n int, st int64) []byte {
	if st == s.st {
		return buf
	}
	gap := uint64(int64(n) + 1 - s.n) // at least 1
	delta := st - s.st
	if delta == s.delta {
		buf = binary.AppendUvarint(buf, gap<<1)
	} else {
		buf = binary.AppendVarint(binary.AppendUvarint(buf, gap<<1|1), delta)
	}
	*s = STState{st: st, delta: delta, n: int64(n) + 1}
	return buf
}

// DecodeST sets the start timestamps of the block's rows from row on, which are the samples from, from+1, ...
// of the chunk. An empty stream, or one that ends early, leaves the last start in force.
func DecodeST(stream []byte, from int, dst *column.Block, row int) error {
	if len(stream) == 0 {
		return nil
	}
	if err := dst.UseST(); err != nil {
		return err
	}
	rows := dst.ST[row:]
	c, s := decbuf.Buf{B: stream}, STState{}
	at := 0 // the next of rows to be set
	for c.Left() > 0 && at < len(rows) {
		before := s.st
		if s.step(&c); c.Failed() {
			return faultOf(&c)
		}
		at = fill(rows, at, int(s.n)-1-from, before)
	}
	fill(rows, at, len(rows), s.st)
	return nil
}

// fill sets s[from:to], as far as it exists, to x and returns where it stopped.
func fill(s []int64, from, to int, x int64) int {
	for ; from < min(to, len(s)); from++ {
		s[from] = x
	}
	return from
}

// maxGap bounds how far apart two changes may be, so that the sum of gaps cannot overflow: more samples than a
// chunk ever holds.
const maxGap = 1 << 32

func (s *STState) step(c *decbuf.Buf) {
	u := c.Uvarint()
	if u&1 != 0 {
		s.delta = c.Varint()
	}
	if gap := u >> 1; gap == 0 || gap > maxGap {
		c.Fail("start timestamps out of order")
	}
	s.n += int64(u >> 1)
	s.st += s.delta
}
