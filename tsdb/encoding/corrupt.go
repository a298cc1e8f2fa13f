// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import "fmt"

// CorruptError says that a column does not follow its format.
type CorruptError struct {
	Msg string
	Off int // byte offset within the column, near the fault
}

// Error names the place and the fault.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt column: byte %d: %s", e.Off, e.Msg)
}
