// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// printSample returns the sample that an iterator stands on as " seconds=value"; false at the end.
func printSample(kind chunkenc.ValueType, it chunkenc.Iterator) (string, bool) {
	show := func(t int64, v any, stale bool) string {
		if stale {
			v = "stale"
		}
		return fmt.Sprintf(" %v=%v", float64(t)/1000, v)
	}
	switch kind {
	case chunkenc.ValFloat:
		t, v := it.At()
		return show(t, v, value.IsStaleNaN(v)), true
	case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
		t, h := it.AtFloatHistogram(nil)
		return show(t, h, value.IsStaleNaN(h.Sum)), true
	default:
		return "", false
	}
}
