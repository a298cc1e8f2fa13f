// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"

	"github.com/tidemarkdb/tidemark/tsdb/decbuf"
)

// cursor reads one part of a block.
type cursor struct{ decbuf.Buf }

// newCursor returns a cursor that reads b from off on.
func newCursor(b []byte, off int) *cursor { return &cursor{decbuf.Buf{B: b, Off: off}} }

func (c *cursor) atMost(limit int, what string) int { return int(c.AtMost(uint64(limit), what)) }

// fault returns the fault of a part, which begins at off.
func (c *cursor) fault(b *Block, off int64, part string) error {
	f := c.Fault()
	return b.corrupt(off+int64(f.Off), part+": "+f.Msg)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}
