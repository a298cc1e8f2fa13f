// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	// chunkSize is the size of a write when the log is busy; larger ones gain nothing.
	chunkSize = 256 << 10
	// maxFreeChunks is what a busy journal reuses; one that is idle keeps a single chunk.
	maxFreeChunks = eagerBytes / chunkSize
)

// chunk is a piece of memory with whole frames in a row. A large record has one to itself.
type chunk struct {
	buf     []byte
	written int // bytes of buf that are in a segment
}

// putLocked copies a record behind those that wait.
func (j *Journal) putLocked(lsn sample.LSN, kind byte, size int, payload [][]byte) {
	n := int(frameSize(size))
	c := j.roomLocked(n)
	at := len(c.buf)
	c.buf = c.buf[:at+n]
	b := c.buf[at:]
	putHeader(b, lsn, kind, size)
	k := frameHeader
	for _, p := range payload {
		k += copy(b[k:], p)
	}
	clear(b[k:])
	if j.mu.bytes == 0 {
		j.mu.since = time.Now()
	}
	j.mu.bytes += int64(n)
}

// roomLocked returns the last chunk that waits, or a new one, with room for n bytes.
func (j *Journal) roomLocked(n int) *chunk {
	if k := len(j.mu.pending); k > 0 {
		if c := j.mu.pending[k-1]; cap(c.buf)-len(c.buf) >= n {
			return c
		}
	}
	var c *chunk
	if k := len(j.mu.free); k > 0 && n <= chunkSize {
		c = j.mu.free[k-1]
		j.mu.free = j.mu.free[:k-1]
	} else {
		c = &chunk{buf: make([]byte, 0, max(n, chunkSize))}
	}
	j.mu.pending = append(j.mu.pending, c)
	return c
}

// releaseLocked takes back a chunk that is written.
func (j *Journal) releaseLocked(c *chunk) {
	if cap(c.buf) == chunkSize && len(j.mu.free) < maxFreeChunks {
		c.buf, c.written = c.buf[:0], 0
		j.mu.free = append(j.mu.free, c)
	}
}

// trimLocked gives the memory of busier times back.
func (j *Journal) trimLocked() {
	if len(j.mu.free) > 1 {
		clear(j.mu.free[1:])
		j.mu.free = j.mu.free[:1]
	}
}
