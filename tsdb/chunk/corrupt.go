// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"fmt"

	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
)

// CorruptError says that encoded bytes do not follow their format.
type CorruptError struct {
	Msg string
	Off int // byte offset within the stream or page, near the fault
}

// Error names the place and the fault.
func (e *CorruptError) Error() string { return fmt.Sprintf("corrupt chunk: byte %d: %s", e.Off, e.Msg) }

// faultOf returns the fault of c as a *CorruptError.
func faultOf(c *decbuf.Buf) error {
	if f := c.Fault(); f != nil {
		return &CorruptError{Msg: f.Msg, Off: f.Off}
	}
	return nil
}

func zigzag(x int64) uint64   { return uint64(x<<1) ^ uint64(x>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
