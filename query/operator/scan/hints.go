// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// hintReach is how far before a range the predecessor of its first histogram is looked for, in milliseconds.
const hintReach = 5 * 60 * 1000

// before returns the time from which samples are decoded that are wanted from mint on.
func before(mint int64) int64 { return max(mint, math.MinInt64+hintReach) - hintReach }

// keepsHints tells whether the counter reset hints of the view's histograms are those to be seen.
func keepsHints(v column.View) bool {
	k, ok := v.(interface{ KeepsResetHints() bool })
	return ok && k.KeepsResetHints()
}

func setHints(*column.Block) {}
