// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Tap is told of every batch that the store has committed, after it can be seen, by whoever committed it. It must not
// keep the batch, nor change it.
type Tap interface {
	Accepted(b *sample.Batch, r *sample.Result)
	// Await waits until what it was told of outlives the process. No acknowledgement comes before that; a tap that cannot
	// keep its promise says so itself, and does not keep the store from giving its own.
	Await(ctx context.Context)
}

// SetTap makes t the one that is told. It is called before the first commit.
func (db *DB) SetTap(t Tap) { db.tap.Store(&t) }

// LabelsOf returns the labels of a series; ok is false where it has left the store.
func (db *DB) LabelsOf(ref sample.Ref) (ls labels.Labels, ok bool) { return db.head.LabelsOf(ref) }

// tell tells the tap of a batch.
func (db *DB) tell(b *sample.Batch, r *sample.Result) {
	if t := db.tap.Load(); t != nil {
		(*t).Accepted(b, r)
	}
}
