// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// PanicError is a mistake of the engine that ended one query. The server goes on.
type PanicError struct {
	Value any
	Stack []byte
}

// Error has Prometheus' words for it, which are those of the panic itself unless it is one of the language.
func (e *PanicError) Error() string {
	if _, ok := e.Value.(runtime.Error); ok {
		return fmt.Sprintf("unexpected error: %v", e.Value)
	}
	return fmt.Sprint(e.Value)
}

// Unwrap returns the error that was panicked with, if it was one.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// panicError makes an error of what recover returned.
func panicError(r any) error { return &PanicError{Value: r, Stack: debug.Stack()} }
