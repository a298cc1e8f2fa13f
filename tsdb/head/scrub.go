// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ScrubSnapshot reads what Snapshot wrote and compares the checksums of its frames, without building a head. The error is
// a *CorruptError, or one of r.
func ScrubSnapshot(r io.Reader) error {
	for off := int64(0); ; {
		var lead [9]byte // size, sum, and the first byte of the payload, which is the kind of the frame
		if _, err := io.ReadFull(r, lead[:]); err != nil {
			return scrubShort(off, err)
		}
		size := binary.LittleEndian.Uint32(lead[:])
		if size == 0 || size > maxFrame {
			return &CorruptError{Off: off, Msg: fmt.Sprintf("a length of %d", size)}
		}
		sum := crc32.New(castagnoli)
		_, _ = sum.Write(lead[:4]) // a hash never fails
		_, _ = sum.Write(lead[8:])
		if _, err := io.CopyN(sum, r, int64(size)-1); err != nil {
			return scrubShort(off, err)
		}
		if want := binary.LittleEndian.Uint32(lead[4:]); sum.Sum32() != want {
			return &CorruptError{Off: off, Msg: fmt.Sprintf("checksum %08x, want %08x", sum.Sum32(), want)}
		}
		if lead[8] == frameEnd {
			return nil
		}
		off += 8 + int64(size)
	}
}

func scrubShort(off int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &CorruptError{Off: off, Msg: "the file ends in a frame"}
	}
	return err
}
