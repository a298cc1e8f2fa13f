// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"fmt"
)

// ErrEmpty is returned by Write when the source has neither a sample nor an exemplar. No file is left.
var ErrEmpty = errors.New("block without samples")

// CorruptError says which bytes of a block are not what was written.
type CorruptError struct {
	File string
	Off  int64 // in the file
	Msg  string
}

// Error names the file, the place and the fault.
func (e *CorruptError) Error() string { return fmt.Sprintf("%s: byte %d: %s", e.File, e.Off, e.Msg) }

// NewerVersionError says that a block needs a newer Tidemark than this one. The file is sound.
type NewerVersionError struct {
	File    string
	Version uint16 // of the format; 0 where the version is known but a feature is not
	Feature uint64 // bits of mandatory features that are not known
	Writer  string // the version of Tidemark that wrote the file, which can read it
}

// Error names the version that can read the file.
func (e *NewerVersionError) Error() string {
	what := fmt.Sprintf("block format %d, this version reads up to %d", e.Version, formatVersion)
	if e.Feature != 0 {
		what = fmt.Sprintf("block feature %#x, which this version does not know", e.Feature)
	}
	return fmt.Sprintf("%s: %s: start Tidemark %s or later", e.File, what, e.Writer)
}
