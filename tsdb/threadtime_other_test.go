// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tsdb

import "time"

// threadTime is known on Linux only.
func threadTime() time.Duration { return 0 }
