// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"fmt"
	"time"
)

// UnavailableError is what the store answers while it cannot do what is asked: an Appender has stored nothing of the
// call, and the same call may succeed later. HTTP handlers answer it with 503 and Retry-After.
type UnavailableError struct {
	Condition  string        // the condition's code: read_only, failed_sync, restoring, memory_pressure; empty: it is none of the store
	RetryAfter time.Duration // when to try again; 0: no advice
	Err        error         // the cause, nil if there is none beyond the condition
}

// Error says what is wrong and, through the condition's code, where to read what to do.
func (e *UnavailableError) Error() string {
	if e.Condition == "" {
		return fmt.Sprintf("not yet: %v", e.Err)
	}
	what := "takes no writes"
	if e.Condition == "restoring" {
		what = "is not whole yet"
	}
	if e.Err == nil {
		return fmt.Sprintf("the store %s (condition %s)", what, e.Condition)
	}
	return fmt.Sprintf("the store %s (condition %s): %v", what, e.Condition, e.Err)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// RefusedError is what Resolve answers where a limit on the number of series kept some from being made. The refs of those
// are 0; whatever stands behind them is resolved all the same.
type RefusedError struct {
	Refused []Refusal // in the order of the label sets
	Err     error     // why the call ended before its last label set; nil: it did not
}

// Refusal is a label set for which no series was made.
type Refusal struct {
	Index int    // of the label set in the call
	Why   string // in a few words that are the same for many
}

// Error says how many and why the first.
func (e *RefusedError) Error() string {
	text := fmt.Sprintf("%d new series were refused", len(e.Refused))
	if len(e.Refused) > 0 {
		text += ": " + e.Refused[0].Why
	}
	if e.Err != nil {
		text += "; and " + e.Err.Error()
	}
	return text
}

// Unwrap returns the other error.
func (e *RefusedError) Unwrap() error { return e.Err }
