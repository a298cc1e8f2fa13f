// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package bucket

import (
	"math"

	"github.com/prometheus/prometheus/util/almost"
)

// tolerance is the relative difference of two counts that is taken for a matter of rounding.
const tolerance = 1e-12

// forced says where counts that fall from one bucket to the next had to be raised.
type forced struct {
	happened  bool
	low, high float64 // the least and greatest of the bounds
	diff      float64 // the greatest difference
}

// raise makes counts, in ascending order of bounds, ascend.
func raise(uppers, counts []float64) forced {
	f := forced{low: math.Inf(1), high: math.Inf(-1)}
	prev := counts[0]
	for i := 1; i < len(counts); i++ {
		count := counts[i]
		if d := count - prev; d > 0 && count > 1e-290 && prev >= 0 && d > 4*tolerance*count {
			prev = count // far from equal, the usual case
			continue
		}
		switch {
		case count == prev:
		case almost.Equal(prev, count, tolerance):
			counts[i] = prev
		case count < prev:
			counts[i] = prev
			f.happened = true
			f.low, f.high = min(f.low, uppers[i]), max(f.high, uppers[i])
			f.diff = max(f.diff, prev-count)
		default:
			prev = count
		}
	}
	return f
}

// invalid returns the estimate for a q that is no quantile.
func invalid(q float64) (v float64, is bool) {
	switch {
	case math.IsNaN(q):
		return math.NaN(), true
	case q < 0:
		return math.Inf(-1), true
	case q > 1:
		return math.Inf(1), true
	}
	return 0, false
}

// quantile returns the q-quantile of the observations counted by buckets whose bounds ascend up to +Inf and whose
// counts ascend, as promql.BucketQuantile has it.
func quantile(q float64, uppers, counts []float64) float64 {
	last := len(counts) - 1
	if last < 1 || counts[last] == 0 {
		return math.NaN()
	}
	rank := q * counts[last]
	b, end := 0, last
	for b < end {
		if m := (b + end) >> 1; counts[m] >= rank {
			end = m
		} else {
			b = m + 1
		}
	}
	if b == last {
		return uppers[last-1]
	}
	var start, below float64
	switch {
	case b > 0:
		start, below = uppers[b-1], counts[b-1]
	case uppers[0] <= 0:
		return uppers[0]
	}
	return start + float64((uppers[b]-start)*((rank-below)/(counts[b]-below)))
}
