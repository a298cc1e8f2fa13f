// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"
	"fmt"
	"io"
)

// NewerVersionError says that a checkpoint has a version that this program does not know. It is sound.
type NewerVersionError struct{ Version byte }

// Error says what to do.
func (e *NewerVersionError) Error() string {
	return fmt.Sprintf("checkpoint format %d, this version reads up to %d: start the version that wrote it", e.Version, snapshotVersion)
}

// maxLead bounds the frame that CheckVersion reads: that of version 2 takes at most 56 bytes.
const maxLead = 64 << 10

// CheckVersion returns a *NewerVersionError where a checkpoint is of a version that this program does not know. It reads
// the first frame, which begins with kind and version in every version for ever. Damage is for LoadSnapshot to find.
func CheckVersion(r io.Reader) error {
	var lead [8]byte
	if _, err := io.ReadFull(r, lead[:]); err != nil {
		return nil
	}
	size := binary.LittleEndian.Uint32(lead[:])
	if size < 2 || size > maxLead {
		return nil
	}
	frame := make([]byte, size)
	if _, err := io.ReadFull(r, frame); err != nil || frameSum(lead[:4], frame) != binary.LittleEndian.Uint32(lead[4:]) {
		return nil
	}
	if frame[0] == frameHead && frame[1] > snapshotVersion {
		return &NewerVersionError{Version: frame[1]}
	}
	return nil
}
