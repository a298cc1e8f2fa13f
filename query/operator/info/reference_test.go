// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package info_test

import (
	"testing"

	"github.com/tidemarkdb/tidemark/query/operator/info"
)

func TestReferenceIsTheTimeThatAllSelectorsLookAt(t *testing.T) {
	t.Parallel()
	const evaluation = -1 // no time of its own
	check := func(expr string, at, offset int64) {
		t.Helper()
		e, err := newParser().ParseExpr(expr)
		if err != nil {
			t.Fatalf("parse %s: %v", expr, err)
		}
		got, gotOffset := info.Reference(e)
		if at == evaluation && got != nil || at != evaluation && (got == nil || *got != at) || gotOffset != offset {
			t.Errorf("%s: reference is %v, offset %d, want %d and %d", expr, got, gotOffset, at, offset)
		}
	}
	check(`m`, evaluation, 0)
	check(`m offset 2m`, evaluation, 120_000)
	check(`m @ 60`, 60_000, 0)
	check(`m @ 60 offset 30s`, 60_000, 30_000)
	check(`rate(m[5m] offset 1m)`, evaluation, 60_000)
	check(`m offset 1m + n offset 1m`, evaluation, 60_000)
	check(`m offset 1m + n`, evaluation, 0)
	check(`m @ 180 offset 1m or n @ 120`, 180_000, 60_000)
	check(`m @ 180 or n`, evaluation, 0)
	check(`m * scalar(n @ 120)`, evaluation, 0)
	check(`(m offset 1m) * scalar(n @ 120)`, evaluation, 60_000)
	check(`vector(1)`, evaluation, 0)
	check(`vector(1) or m @ 120`, evaluation, 0)
	check(`last_over_time(m[10m:1m] offset 6m)`, evaluation, 360_000)
	check(`last_over_time((m offset 1m)[10m:1m] @ 180)`, 180_000, 60_000)
	check(`last_over_time(last_over_time((m offset 1m)[10m:1m] @ 180)[10m:1m] offset 1m)`, 180_000, 60_000)
	check(`last_over_time(last_over_time((m offset 1m)[10m:1m] offset 2m)[10m:1m] @ 300 offset 3m)`, 300_000, 360_000)
	check(`info(m @ 60, {x="y"})`, 60_000, 0)
	check(`sum(m @ 60)`, 60_000, 0)
}
