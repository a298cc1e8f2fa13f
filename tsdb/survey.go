// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// survey reads the log behind the checkpoint, which is loaded, for what must be known before the store is used: which
// series there are, and of which times there are rows to come. What the log lacks is noted.
func (db *DB) survey(ctx context.Context) error {
	x := &db.restoring
	if oldest, ok := db.oldestOfHead(); ok {
		x.from = oldest
	}
	if db.deletes.lost || slices.ContainsFunc(db.deletes.list, func(d deletion) bool { return d.Undoing }) {
		x.from = minTime
	}
	y := &surveyor{db: db, next: x.checkpoint + 1, spans: newSpanCrew()}
	db.head.StartAt(x.checkpoint)
	rec, err := db.journal.Replay(y.next, func(lsn sample.LSN, kind byte, payload []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := y.record(lsn, kind, payload); err != nil {
			return fmt.Errorf("log record %d: %w", lsn, err)
		}
		return nil
	})
	if cerr := y.spans.end(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	oldest, newest := y.spans.span()
	x.from = min(x.from, oldest)
	if newest > minTime {
		db.head.Expect(newest)
	}
	x.last = db.journal.Last()
	db.recovery.Checkpoint, db.recovery.Log, db.recovery.Lost = x.checkpoint, rec, db.head.Registered()
	db.noteLostRecords()
	db.head.StartAt(x.checkpoint)
	return nil
}

// surveyor takes the records of the log as far as they say which series there are.
type surveyor struct {
	db    *DB
	next  sample.LSN
	spans *spanCrew
}

func (y *surveyor) record(lsn sample.LSN, kind byte, payload []byte) error {
	h, x := y.db.head, &y.db.restoring
	if lsn != y.next {
		h.StartAt(lsn - 1) // what was there is damaged
	}
	y.next = lsn + 1
	switch kind {
	case wal.KindSeries:
		if err := wal.DecodeSeries(payload, h.Restore); err != nil {
			return err
		}
	case wal.KindFree:
		refs, err := wal.DecodeFree(payload)
		if err != nil {
			return err
		}
		h.Free(refs, lsn)
		return nil
	case wal.KindBatch:
		y.spans.put(lsn, payload)
	case wal.KindDelete:
		d, err := wal.DecodeDelete(payload)
		if err != nil {
			return err
		}
		x.from = min(x.from, d.MinT)
	default:
		return fmt.Errorf("kind %d, which this version does not know: start the newer version again", kind)
	}
	h.Skip(lsn)
	return nil
}

// oldestOfHead returns the time of the oldest sample of the head.
func (db *DB) oldestOfHead() (oldest int64, ok bool) {
	for _, slot := range db.head.Slots() {
		if !ok || slot.MinT < oldest {
			oldest, ok = slot.MinT, true
		}
	}
	return oldest, ok
}
