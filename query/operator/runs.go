// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import "iter"

// runItems is how many items a loop works on between two looks at the query: tens of microseconds, or a millisecond
// where each is a miss of the caches.
const runItems = 1 << 14

// Runs yields the parts of 0 to n-1, from and the end, that a loop works on between two looks at whether the query
// goes on. It ends early when that stops: who is not sure to be asked again asks Check afterwards.
func (e *Env) Runs(n int) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		for from := 0; from < n && e.Check() == nil; from += runItems {
			if !yield(from, min(from+runItems, n)) {
				return
			}
		}
	}
}
