// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package invariant is how the storage says that it has found a mistake of its own.
//
// It knows one word, Failf, and one switch, Enabled. Nothing that a user, a disk or a peer can cause may end
// here: bad input and failed I/O are errors. Cheap checks run always: test the condition first, then call
// Failf, so that a hot path builds no arguments. Checks that walk a structure, poison memory or keep books of
// their own stand under `if invariant.Enabled`, which is a constant: the build tags race (set by go test
// -race) and invariants turn it on, and without them the compiler drops the code.
package invariant

import "fmt"

// Failf panics with a *Violation. The message says which rule was broken and with which values.
func Failf(format string, args ...any) {
	panic(&Violation{Msg: fmt.Sprintf(format, args...)})
}

// Violation is the value Failf panics with, so that a test can tell our own mistake from any other panic.
type Violation struct{ Msg string }

// Error returns the message with a prefix that tells whose fault it is.
func (v *Violation) Error() string { return "invariant broken (a bug in Tidemark): " + v.Msg }
