// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
)

// ErrNoSpace is in the chain of what a journal answers while its disk is full. It recovers by itself.
var ErrNoSpace = errors.New("no room for the log: free disk space, writing resumes by itself")

// ErrClosed is answered after Close.
var ErrClosed = errors.New("the log is closed")

// FullError says that the disk is full. Nothing of the refused call was taken, and nothing acknowledged is
// lost. The journal tries again once a second.
type FullError struct{ Err error }

// Error says what was refused.
func (e *FullError) Error() string { return fmt.Sprintf("%v: %v", ErrNoSpace, e.Err) }

// Unwrap returns ErrNoSpace and the cause.
func (e *FullError) Unwrap() []error { return []error{ErrNoSpace, e.Err} }

// PoisonedError says that a write or a sync of the log failed. What was acknowledged before is on disk; nothing
// more is taken. The journal never syncs again, because a kernel may drop what it could not write and then
// report success. To open the directory anew recovers what the disk holds.
type PoisonedError struct{ Err error }

// Error says what failed and what to do.
func (e *PoisonedError) Error() string {
	return fmt.Sprintf("the log takes no more writes until a restart: %v: check the disk", e.Err)
}

// Unwrap returns the failed operation.
func (e *PoisonedError) Unwrap() error { return e.Err }

// CorruptError names a part of the log that is damaged although it had been synced.
type CorruptError struct {
	File     string
	Off, End int64
	Msg      string
	// Quarantine is the file the bytes were copied to, empty if that was not possible.
	Quarantine string
}

// Error names the place.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: bytes %d to %d: %s", e.File, e.Off, e.End, e.Msg)
}

// VersionError says that a newer version wrote a segment. Nothing was changed.
type VersionError struct {
	File    string
	Version uint32
}

// Error says what to do.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s: log format %d, this version reads up to %d: start the version that wrote it", e.File, e.Version, headerFormat)
}
