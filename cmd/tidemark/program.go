// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"
)

// When the pages of the program are given back: once it has started, and then once in a while. What it does every minute
// takes some thousand of them, which come back at a microsecond each.
const (
	programFirst = 2 * time.Second
	programEvery = time.Minute
)

// trimProgram gives the pages of the program back that are not in use, until ctx ends. Of the resident memory of an idle
// server they were more than all else together.
func trimProgram(ctx context.Context) {
	wait := time.NewTimer(programFirst)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if releaseProgram() != nil {
			return // it is a saving, and this system does not have it
		}
		wait.Reset(programEvery)
	}
}
