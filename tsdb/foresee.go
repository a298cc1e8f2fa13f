// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"

	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Foresee returns what would become of a row of b if it were committed now, alone. While the head is being restored
// nobody can tell, and the answer is Accepted. Samples of scrapes that are older than what a scrape may begin a series
// with are TooOld, whatever Commit says of them: see oldestScraped.
func (db *DB) Foresee(b *sample.Batch, row int) sample.Reason {
	if db.users.enter() != nil {
		return sample.Accepted // Commit will say it
	}
	defer db.users.leave()
	lim := db.limits()
	if b.FlagsAt(row)&sample.Scraped != 0 && b.T[row] < db.oldestScraped(lim) {
		return sample.TooOld
	}
	if !db.whole() {
		return sample.Accepted
	}
	r := head.Row{Ref: b.Ref[row], T: b.T[row], V: b.V[row], Flags: b.FlagsAt(row)}
	if b.KindAt(row) != sample.Float {
		r.H, r.FH = b.H[row], b.FH[row]
	}
	return db.head.Check(r, lim)
}

// ForeseeExemplar returns what would become of an exemplar: Accepted, Same, OutOfOrder, or Invalid.
func (db *DB) ForeseeExemplar(e sample.Exemplar) sample.Reason {
	if db.users.enter() != nil {
		return sample.Accepted
	}
	defer db.users.leave()
	if !db.whole() {
		return sample.Accepted
	}
	err := db.head.CheckExemplar(e)
	switch {
	case err == nil, errors.Is(err, head.ErrExemplarSeries):
		return sample.Accepted
	case errors.Is(err, head.ErrSameExemplar):
		return sample.Same
	case errors.Is(err, head.ErrExemplarOrder):
		return sample.OutOfOrder
	}
	return sample.Invalid
}

// oldestScraped is the oldest time that a target may give a sample of its own: without a window for late samples it must
// not begin a series long before the others either. Prometheus takes it back to half a block before its newest sample.
func (db *DB) oldestScraped(lim head.Limits) int64 {
	if newest, ok := db.head.MaxTime(); ok && lim.MinScrape == head.NoLate {
		return max(lim.MinT, newest-db.meta.SlotMillis/2)
	}
	return lim.MinT
}

// DurableLazy is Durable for those who are in no hurry: their waits alone sync ten times a second at most.
func (db *DB) DurableLazy(ctx context.Context, lsn sample.LSN) error {
	return db.unavailable(db.journal.DurableLazy(ctx, lsn))
}
