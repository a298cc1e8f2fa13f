// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import "fmt"

// CorruptError says that encoded bytes do not follow their format.
type CorruptError struct {
	Msg string
	Off int // byte offset within the stream or page, near the fault
}

// Error names the place and the fault.
func (e *CorruptError) Error() string { return fmt.Sprintf("corrupt chunk: byte %d: %s", e.Off, e.Msg) }
