// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !invariants && !race

package invariant

// Enabled reports whether the costly checks are compiled in.
const Enabled = false
