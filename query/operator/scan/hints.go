// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// hinted is what a source and its views say who give histograms with the counter reset hints that are to be seen.
// Those of our own have to be worked out, with column.SetHints.
type hinted interface{ KeepsResetHints() bool }

func keepsHints(v any) bool {
	k, ok := v.(hinted)
	return ok && k.KeepsResetHints()
}

// OpenView opens the view for a query that reads samples of [mint, maxt]. It holds what the selectors of this package
// read beside those, so that the first histogram of a range has a counter reset hint.
func OpenView(src column.Source, mint, maxt int64) (column.View, error) {
	if !keepsHints(src) {
		mint = column.HintStart(mint)
	}
	return src.View(mint, maxt)
}
