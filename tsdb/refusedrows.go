// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// RefusedRows counts the rows that were not stored, those that only Prometheus' interface was told about included.
type RefusedRows struct {
	Floats, Histograms uint64
}

// refusedRows counts by reason.
type refusedRows [sample.Reasons]struct{ floats, histograms atomic.Uint64 }

func (c *refusedRows) add(r sample.Reason, k sample.Kind) {
	if k == sample.Float {
		c[r].floats.Add(1)
	} else {
		c[r].histograms.Add(1)
	}
}

// addAll counts what of a batch was not stored; for most batches that is nothing, and known without looking.
func (c *refusedRows) addAll(b *sample.Batch, r *sample.Result) {
	if r.Floats+r.Histograms == b.Len() {
		return
	}
	for i, reason := range r.Reason {
		if !reason.Stored() {
			c.add(reason, b.KindAt(i))
		}
	}
}

// CountRefused counts a row that a caller does not try to store, because Foresee said that it would be refused.
func (db *DB) CountRefused(r sample.Reason, k sample.Kind) { db.refusals.add(r, k) }

// Refused returns how many rows were refused for a reason since the store was opened.
func (db *DB) Refused(r sample.Reason) RefusedRows {
	return RefusedRows{db.refusals[r].floats.Load(), db.refusals[r].histograms.Load()}
}
