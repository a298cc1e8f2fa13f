// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Tap is told of every batch that the store has committed: once it is applied, so that it is known what was accepted of
// it, and in the order of the log. After a crash it is told again of what it does not have: the log keeps a batch until
// the tap has it. So nothing that was acknowledged is missing there, though acknowledgements do not wait for it.
type Tap interface {
	// Wants reports whether it is to be told. What is committed meanwhile it is never told of otherwise.
	Wants() bool
	// Told returns the LSN up to which it has been told, and has it still. It is called once, before anything else.
	Told() sample.LSN
	// Accepted tells of the batch of a record of the log. It must not keep the batch, nor change it. One call ends before
	// the next one begins.
	Accepted(lsn sample.LSN, b *sample.Batch, r *sample.Result)
	// Keep returns when what it was told of outlives a loss of power. A tap that cannot have it so says that itself, and
	// does not keep the store from going on; the error is that of ctx.
	Keep(ctx context.Context) error
	// Close is called when nothing more is told.
	Close() error
}

// openTap opens the tap. The series are known by now, and nothing has been applied.
func (db *DB) openTap() error {
	if db.opts.Tap == nil {
		return nil
	}
	t, err := db.opts.Tap(db)
	if err != nil {
		return fmt.Errorf("open what the store tells of its samples: %w", err)
	}
	db.tap, db.toldBefore = t, t.Told()
	return nil
}

// LabelsOf returns the labels of a series; ok is false where it has left the store.
func (db *DB) LabelsOf(ref sample.Ref) (ls labels.Labels, ok bool) { return db.head.LabelsOf(ref) }

// Lookup returns the series with these labels; ok is false where there is none.
func (db *DB) Lookup(ls labels.Labels) (ref sample.Ref, ok bool) { return db.head.Lookup(ls) }

// Description returns what was said last of the family of series with a metric name; not ok where nothing was. Its Ref is
// not set.
func (db *DB) Description(metric string) (m sample.Metadata, ok bool) {
	d, ok := db.head.Description(metric)
	return sample.Metadata{Type: string(d.Type), Unit: d.Unit, Help: d.Help}, ok
}

// LastLSN returns the number of the last record of the log.
func (db *DB) LastLSN() sample.LSN { return db.journal.Last() }

// turn is the place of a batch among those that the tap is told of.
type turn struct {
	before <-chan struct{} // closed when its turn has come; nil: it has
	done   chan<- struct{}
}

// takeTurnLocked gives the batch its turn that was appended to the log last; nil where the tap does not want to know. The
// caller holds the sequencer lock, and must call tell.
func (db *DB) takeTurnLocked() *turn {
	if db.tap == nil || !db.tap.Wants() {
		return nil
	}
	done := make(chan struct{})
	t := &turn{before: db.lastTurn, done: done}
	db.lastTurn = done
	return t
}

// tell tells the tap of a batch that is applied, in its turn. What comes before it in the log is applied too by now, so
// it waits for the tap alone.
func (db *DB) tell(t *turn, lsn sample.LSN, b *sample.Batch, r *sample.Result) {
	if t == nil {
		return
	}
	if t.before != nil {
		<-t.before
	}
	db.tap.Accepted(lsn, b, r)
	close(t.done)
}

// tellAgain tells the tap of a batch out of the log, or of the queue of a start.
func (db *DB) tellAgain(lsn sample.LSN, b *sample.Batch, r *sample.Result) {
	if db.tap != nil && lsn > db.toldBefore && db.tap.Wants() {
		db.tap.Accepted(lsn, b, r)
	}
}

// keepTold returns when the tap has all that is applied now. What a checkpoint holds is not told again after a crash.
func (db *DB) keepTold(ctx context.Context) error {
	if db.tap == nil || !db.tap.Wants() {
		return nil
	}
	db.seq.Lock()
	last := db.lastTurn
	db.seq.Unlock()
	if last != nil {
		select {
		case <-last:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return db.tap.Keep(ctx)
}
