// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import "github.com/prometheus/prometheus/model/histogram"

// BucketRun is N buckets that lie side by side in two histograms: from the A-th of one and the B-th of the other on.
type BucketRun struct{ A, B, N int }

// LocateBuckets appends where the buckets of spans b are among those of spans a; false: not all of them are.
func LocateBuckets(runs []BucketRun, a, b []histogram.Span) ([]BucketRun, bool) {
	i, fromA, atA := -1, 0, 0 // the span of a, its first bucket and where that is
	end := 0                  // of that span
	indexB, atB := 0, 0
	for _, s := range b {
		indexB += int(s.Offset)
		n := int(s.Length)
		if n == 0 {
			continue
		}
		for i < 0 || indexB >= end {
			if i >= 0 {
				atA += int(a[i].Length)
			}
			if i++; i == len(a) {
				return runs, false
			}
			fromA = end + int(a[i].Offset)
			end = fromA + int(a[i].Length)
		}
		if indexB < fromA || indexB+n > end {
			return runs, false
		}
		runs = append(runs, BucketRun{atA + indexB - fromA, atB, n})
		indexB += n
		atB += n
	}
	return runs, true
}
