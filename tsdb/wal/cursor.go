// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"fmt"
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
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

// cursor reads a payload.
type cursor struct {
	decbuf.Buf
	record string
}

func newCursor(record string, p []byte) *cursor { return &cursor{decbuf.Buf{B: p}, record} }

// version reads the format of the record, which is its first byte.
func (c *cursor) version(most byte) byte {
	v := c.Byte()
	if !c.Failed() && (v == 0 || v > most) {
		c.Off--
		c.Fail(fmt.Sprintf("format %d, this version reads up to %d: start the version that wrote it", v, most))
	}
	return v
}

func (c *cursor) u32() uint32 { return uint32(c.AtMost(math.MaxUint32, "32 bit number")) }

func (c *cursor) i32() int32 {
	v := c.Varint()
	if v != int64(int32(v)) {
		c.Fail("32 bit number out of range")
		return 0
	}
	return int32(v)
}

// err returns the mistake.
func (c *cursor) err() error {
	if f := c.Fault(); f != nil {
		return &CorruptError{Record: c.record, Off: f.Off, Msg: f.Msg}
	}
	return nil
}

// done returns the mistake, one of which is a payload that goes on.
func (c *cursor) done() error {
	c.Finish()
	return c.err()
}
