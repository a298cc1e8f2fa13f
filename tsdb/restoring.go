// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// restoring is the state of a store from its start until its head is whole: the series are known, and so are the times
// that the rows of the log are of; the rows themselves are being applied. What is committed meanwhile is logged, and
// queued behind them in the order of the log. What the head may lack is not answered.
type restoring struct {
	over chan struct{} // closed when the head is whole, or will not be before the next start
	err  error         // why it will not be; set before over is closed

	waits bool     // commits are queued; guarded by DB.seq; false for ever once the head is whole
	from  int64    // before it the head will hold nothing, and blocks change no more; guarded by DB.seq
	queue []queued // guarded by DB.seq; ascending, without gaps

	account    *budget.Account // of the queue
	start      time.Time
	checkpoint sample.LSN    // that is loaded
	last       sample.LSN    // of the log when it was opened: what follows is in the queue
	at         atomic.Uint64 // the record of the log that was read last
}

// queued is a record of the log that came while the head was being restored.
type queued struct {
	lsn     sample.LSN
	kind    byte
	payload []byte
	charged int64 // to the account of the queue
}

const (
	// queueMost is how much may wait for the head, where that is less than queueShare of the memory there is: some
	// seconds of a million samples each.
	queueMost  = 64 << 20
	queueShare = 8
	// queuedBytes is what a record in the queue takes beside its payload, queuedSeries what a new series takes in the
	// head, which refuses nothing while it is restored.
	queuedBytes  = 64
	queuedSeries = 512

	retryRestoring = 5 * time.Second
)

func newRestoring(b *budget.Account) restoring {
	most := int64(queueMost)
	if limit := b.Limit(); limit > 0 {
		most = min(most, max(limit/queueShare, 1))
	}
	return restoring{over: make(chan struct{}), account: b.Child("queue", most), waits: true, from: maxTime, start: time.Now()}
}

// whole reports whether the head holds all that was ever committed, as it then does until Close.
func (db *DB) whole() bool {
	select {
	case <-db.restoring.over:
		return db.restoring.err == nil
	default:
		return false
	}
}

// Restored returns a channel that is closed when the head is whole, or when it is known that it will not be before the
// next start. Await tells which.
func (db *DB) Restored() <-chan struct{} { return db.restoring.over }

// Restoring returns how many records of the log are to be applied before the head is whole, and how many are; zero when
// it is.
func (db *DB) Restoring() (done, all int) {
	if db.whole() {
		return 0, 0
	}
	return db.restoring.counts()
}

// Await waits until a View of [mint, maxt] is answered: at once but for a store that is being restored, and there where
// blocks hold all of the range. When ctx is over before, the error is a *sample.UnavailableError that says how far the
// store is; where ctx was cancelled, its cause.
func (db *DB) Await(ctx context.Context, _, maxt int64) error {
	if db.whole() {
		return nil
	}
	db.seq.Lock()
	lacks := db.restoring.lacksLocked(maxt)
	db.seq.Unlock()
	if !lacks {
		return nil
	}
	select {
	case <-db.restoring.over:
		return db.restoring.outcome()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return context.Cause(ctx)
		}
		return db.restoring.unavailable()
	}
}

// Whole returns nil where the head is whole, or a *sample.UnavailableError that says how far it is.
func (db *DB) Whole() error {
	select {
	case <-db.restoring.over:
		return db.restoring.outcome()
	default:
		return db.restoring.unavailable()
	}
}

// outcome is what came of it; it is over.
func (x *restoring) outcome() error {
	if x.err == nil {
		return nil
	}
	return &sample.UnavailableError{Condition: ConditionRestoring, Err: fmt.Errorf("the log could not be applied, and is not before the next start: %w", x.err)}
}

// enterWhole is users.enter for what needs the whole store.
func (db *DB) enterWhole(ctx context.Context) error {
	if err := db.Await(ctx, minTime, maxTime); err != nil {
		return err
	}
	return db.users.enter()
}

// lacksLocked reports whether samples up to maxt may be missing still.
func (x *restoring) lacksLocked(maxt int64) bool { return x.waits && maxt >= x.from }

// unavailable is the answer to who cannot wait.
func (x *restoring) unavailable() error {
	return &sample.UnavailableError{Condition: ConditionRestoring, RetryAfter: retryRestoring, Err: errors.New(x.progress())}
}

// counts returns how many records of the log are applied, or about to be, and how many there are.
func (x *restoring) counts() (done, all int) {
	at := min(sample.LSN(x.at.Load()), x.last)
	return int(at - min(at, x.checkpoint)), int(x.last - min(x.last, x.checkpoint))
}

// progress says how far the store is.
func (x *restoring) progress() string {
	done, all := x.counts()
	if done >= all {
		return "the log is read, and what was written since the start is being applied"
	}
	return fmt.Sprintf("%d of %d records of the log are read, %d %%", done, all, 100*done/all)
}

// restoringCondition is the state as one of the store's conditions, not ok once it is over.
func (db *DB) restoringCondition() (Condition, bool) {
	if db.whole() {
		return Condition{}, false
	}
	select {
	case <-db.restoring.over:
		return Condition{
			Code: ConditionRestoring, Since: db.started, NextStep: "look at the log for the cause, and start again; tidectl tsdb verify tells what is damaged",
			Effect: "samples are taken and kept; what is not wholly in blocks is not answered: " + db.restoring.outcome().Error(),
		}, true
	default:
	}
	effect := "samples are taken and kept; queries over times that are not wholly in blocks wait, rules do, alerts keep their state: "
	return Condition{
		Code: ConditionRestoring, Since: db.started, Effect: effect + db.restoring.progress(),
		NextStep: "none: it ends by itself; how long it takes is what the log holds behind the last checkpoint",
	}, true
}

// chargeQueue charges n bytes for what is to be queued: none where the head is whole. What is not queued after all is
// released by the caller.
func (db *DB) chargeQueue(n int) (int64, error) {
	if db.whole() {
		return 0, nil
	}
	x := &db.restoring
	if err := x.account.Reserve(int64(n)); err != nil {
		return 0, &sample.UnavailableError{Condition: ConditionRestoring, RetryAfter: retryRestoring, Err: fmt.Errorf("%s; too much waits for it: %w", x.progress(), err)}
	}
	return int64(n), nil
}

// queueBatch logs a batch and queues it; not ok where the head is whole by now, and nothing was done.
func (db *DB) queueBatch(b *sample.Batch, payload []byte, lim head.Limits, r *sample.Result) (lsn sample.LSN, ok bool, err error) {
	q := queued{kind: wal.KindBatch, payload: bytes.Clone(payload)}
	if q.charged, err = db.chargeQueue(len(payload) + queuedBytes); err != nil {
		return 0, false, err
	}
	oldest := int64(maxTime)
	for _, t := range b.T {
		if t >= lim.MinT && t <= lim.MaxT { // others will be refused
			oldest = min(oldest, t)
		}
	}
	x := &db.restoring
	db.seq.Lock()
	defer db.seq.Unlock()
	if !x.waits {
		x.account.Release(q.charged)
		return 0, false, nil
	}
	if q.lsn, err = db.journal.Append(q.kind, q.payload); err != nil {
		x.account.Release(q.charged)
		return 0, false, db.unavailable(err)
	}
	x.queue = append(x.queue, q)
	if oldest < x.from {
		x.from = oldest
		db.stamps.begin() // answers over these times that were kept are not good any more
	}
	for i := range b.T {
		if b.KindAt(i) == sample.Float {
			r.Floats++
		} else {
			r.Histograms++
		}
	}
	r.Exemplars = len(b.Exemplars)
	return q.lsn, true, nil
}

// restore makes the head whole.
func (db *DB) restore(ctx context.Context) {
	x := &db.restoring
	phase := phasesFrom(time.Now())
	x.err = db.applyAll(ctx)
	phase(&db.recovery.Phases.Rows)
	if r := &db.recovery; x.err == nil {
		r.Took = time.Since(x.start)
		if r.Checkpoint > 0 || r.Records > 0 {
			db.log.Info("store recovered", "checkpoint", r.Checkpoint, "records", r.Records, "samples", r.Samples,
				"unknown", r.Unknown, "torn_bytes", r.Log.TornBytes, "lost_records", r.Log.LostRecords, "took", r.Took,
				"files", r.Phases.Files, "load", r.Phases.Checkpoint, "series", r.Phases.Series, "rows", r.Phases.Rows)
		}
	} else if ctx.Err() == nil {
		db.log.Error("the store cannot be restored", "err", x.err)
	}
	close(x.over)
}

// applyAll applies the rows of the log behind the checkpoint, and then what was queued, until there is nothing more. Rows
// of a slot that a block holds already only move the validation state of their series.
func (db *DB) applyAll(ctx context.Context) error {
	x := &db.restoring
	p, err := db.replay(ctx, x.checkpoint+1, func(put func(sample.LSN, byte, []byte) error) error {
		return db.journal.Reread(x.checkpoint+1, x.last, put)
	})
	if err != nil {
		return fmt.Errorf("replay the log: %w", err)
	}
	if x.last >= p.next {
		db.head.StartAt(x.last) // the log goes on above what it holds
	}
	x.at.Store(uint64(x.last))
	db.recovery.Records, db.recovery.Samples, db.recovery.Unknown = p.records, p.samples, p.unknown
	db.head.Recovered()
	db.maintain.Lock()
	err = db.completeDeletes(ctx, db.redo)
	db.redo = nil
	db.floor = db.journal.NewFloor("checkpoint", db.keepFrom())
	db.maintain.Unlock()
	if err != nil {
		return err
	}
	for {
		queue := db.takeQueued()
		if len(queue) == 0 {
			return nil
		}
		if err := db.applyQueue(ctx, queue); err != nil {
			return fmt.Errorf("apply what came during the start: %w", err)
		}
	}
}

// applyQueue applies records that were queued, and gives back what they take.
func (db *DB) applyQueue(ctx context.Context, queue []queued) error {
	_, err := db.replay(ctx, queue[0].lsn, func(put func(sample.LSN, byte, []byte) error) error {
		for _, q := range queue {
			if err := put(q.lsn, q.kind, q.payload); err != nil {
				return err
			}
		}
		return nil
	})
	for _, q := range queue {
		db.restoring.account.Release(q.charged)
	}
	return err
}

// takeQueued returns what has been queued since the last call. Where that is nothing, the head is whole: what is
// committed from then on is applied at once.
func (db *DB) takeQueued() []queued {
	x := &db.restoring
	db.seq.Lock()
	defer db.seq.Unlock()
	q := x.queue
	x.queue = nil
	if x.waits = len(q) > 0; !x.waits {
		db.memory.SetExempt(false)
	}
	return q
}
