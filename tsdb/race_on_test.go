// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build race

package tsdb

// raceFactor is how much longer everything may take.
const raceFactor = 5
