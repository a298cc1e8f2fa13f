// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

var _ sample.Appender = (*DB)(nil)

// createBatch is how many series are created under one hold of the sequencer: about 3 ms.
const createBatch = 1000

// records lends buffers for log records.
var records = sync.Pool{New: func() any { return new([]byte) }}

// Resolve gets or creates the series of ls; see sample.Appender.
func (db *DB) Resolve(ls []labels.Labels, refs []sample.Ref) error {
	return db.resolve(ls, refs, db.gate.Load())
}

func (db *DB) resolve(ls []labels.Labels, refs []sample.Ref, g *Gate) error {
	if err := db.users.enter(); err != nil {
		return err
	}
	defer db.users.leave()
	if len(ls) != len(refs) {
		return fmt.Errorf("resolve: %d label sets, room for %d refs", len(ls), len(refs))
	}
	clear(refs)
	var a *admission // made when it is needed
	for from := 0; from < len(ls); {
		var ok bool
		if refs[from], ok = db.head.Lookup(ls[from]); ok {
			from++
			continue
		}
		to := min(from+createBatch, len(ls))
		a = a.begin(from, g, db.head.Index())
		if err := db.create(ls[from:to], refs[from:to], a); err != nil {
			if _, full := errors.AsType[*budget.ExceededError](err); full {
				db.lookUp(ls[from:], refs[from:])
			}
			return a.with(err)
		}
		from = to
	}
	return a.with(nil)
}

// lookUp fills the refs that are 0 of those series that exist.
func (db *DB) lookUp(ls []labels.Labels, refs []sample.Ref) {
	for i := range refs {
		if refs[i] == 0 {
			refs[i], _ = db.head.Lookup(ls[i])
		}
	}
}

// create resolves ls, creating the series that do not exist. The record that names a series is in the log
// before the series can be found, so no sample record of it can come first.
func (db *DB) create(ls []labels.Labels, refs []sample.Ref, a *admission) error {
	size := 0
	for i, l := range ls {
		if err := checkLabels(l); err != nil {
			ls, refs = ls[:i], refs[:i]
			return errors.Join(db.createValid(ls, refs, size, a), err)
		}
		size += int(l.ByteSize())
	}
	return db.createValid(ls, refs, size, a)
}

func (db *DB) createValid(ls []labels.Labels, refs []sample.Ref, size int, a *admission) error {
	if len(ls) == 0 {
		return nil
	}
	if err := db.mayCreate(ls, size); err != nil {
		return err
	}
	charged, err := db.chargeQueue(size + (64+queuedSeries)*len(ls))
	if err != nil {
		return err
	}
	defer func() { db.restoring.account.Release(charged) }()
	var newRefs []sample.Ref
	var newLabels []labels.Labels
	pending := make(map[uint64]int, len(ls)) // hash of labels -> index of one reserved in this call
	db.seq.Lock()
	defer db.seq.Unlock()
	var reserveErr error
	for i, l := range ls {
		if ref, ok := db.head.Lookup(l); ok {
			refs[i] = ref
			continue
		}
		h := l.Hash()
		if k, ok := pending[h]; ok && labels.Equal(newLabels[k], l) {
			refs[i] = newRefs[k]
			continue
		}
		ref, err := db.reserve(i, l, a)
		if err != nil {
			reserveErr = err
			break
		}
		if ref == 0 {
			continue
		}
		refs[i] = ref
		pending[h] = len(newRefs)
		newRefs, newLabels = append(newRefs, ref), append(newLabels, l)
	}
	if len(newRefs) == 0 {
		return reserveErr
	}
	rec := wal.AppendSeries(nil, newRefs, newLabels)
	lsn, err := db.journal.Append(wal.KindSeries, rec)
	if err != nil {
		for _, ref := range newRefs {
			db.head.Unreserve(ref)
		}
		clear(refs)
		return db.unavailable(err)
	}
	for i, ref := range newRefs {
		if err := db.head.Publish(ref, lsn); err != nil {
			reserveErr = errors.Join(reserveErr, fmt.Errorf("create series %s: %w", newLabels[i], err))
			db.noteNoMemory(err)
			if at := slices.Index(refs, ref); at >= 0 {
				clear(refs[at:]) // it is gone again
			}
		}
	}
	if x := &db.restoring; x.waits {
		x.queue = append(x.queue, queued{lsn, wal.KindSeries, rec, charged})
		charged = 0
	} else {
		db.head.Skip(lsn)
	}
	return reserveErr
}

// mayCreate says why no series can be made now, of so many bytes of labels together.
func (db *DB) mayCreate(ls []labels.Labels, size int) error {
	if err := db.writable(); err != nil {
		return err
	}
	if err := db.journal.Admit(context.Background(), size+64*len(ls)); err != nil {
		return db.unavailable(err)
	}
	if err := db.admitSeries(int64(size)); err != nil {
		db.noteNoMemory(err)
		return fmt.Errorf("create series %s: %w", ls[0], err)
	}
	return nil
}

// reserve reserves label set i of a batch, or returns 0 where the gate refuses it.
func (db *DB) reserve(i int, ls labels.Labels, a *admission) (sample.Ref, error) {
	if !a.admits(i, ls) {
		return 0, nil
	}
	ref, err := db.head.Reserve(ls)
	if err != nil {
		db.noteNoMemory(err)
		return 0, fmt.Errorf("create series %s: %w", ls, err)
	}
	a.took()
	return ref, nil
}

// checkLabels says whether l can name a series: sorted, no duplicates, no empty values, valid UTF-8.
func checkLabels(l labels.Labels) error {
	if l.IsEmpty() {
		return errors.New("a series without labels cannot be stored")
	}
	prev := ""
	var err error
	l.Range(func(x labels.Label) {
		switch {
		case err != nil:
		case x.Name == "" || x.Name < prev:
			err = fmt.Errorf("series %s: label %q out of order", l, x.Name)
		case x.Name == prev:
			err = fmt.Errorf("series %s: label %q twice", l, x.Name)
		case x.Value == "":
			err = fmt.Errorf("series %s: label %q has no value", l, x.Name)
		case !utf8.ValidString(x.Name) || !utf8.ValidString(x.Value):
			err = fmt.Errorf("series %s: label %q is not valid UTF-8", l, x.Name)
		}
		prev = x.Name
	})
	return err
}

// Commit applies b as one atomic step; see sample.Appender.
func (db *DB) Commit(ctx context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	*r = sample.Result{Reason: r.Reason[:0]}
	if err := db.users.enter(); err != nil {
		return 0, err
	}
	defer db.users.leave()
	if b.Len() == 0 && len(b.Exemplars) == 0 && len(b.Meta) == 0 {
		return db.journal.Last(), nil
	}
	if err := db.writable(); err != nil {
		return 0, err
	}
	lim := db.limits()
	buf, _ := records.Get().(*[]byte)
	defer records.Put(buf)
	*buf = wal.AppendBatch(wal.AppendLimits((*buf)[:0], wal.Limits(lim)), b)
	if err := db.journal.Admit(ctx, len(*buf)); err != nil {
		return 0, db.unavailable(err)
	}
	if !db.whole() {
		if lsn, ok, err := db.queueBatch(b, *buf, lim, r); ok || err != nil {
			return lsn, err
		}
	}
	w := db.head.Prepare(b, lim)
	var late lateRows
	db.findLate(b, &late)
	db.seq.Lock()
	lsn, err := db.journal.Append(wal.KindBatch, *buf)
	if err != nil {
		db.seq.Unlock()
		w.Discard()
		return 0, db.unavailable(err)
	}
	db.countLate(b, &late)
	db.head.Enqueue(w, lsn)
	turn := db.takeTurnLocked()
	db.seq.Unlock()
	db.head.Apply(w, r)
	if slices.Contains(r.Reason, sample.OverLimit) {
		db.refused.Store(true)
		db.raiseMemory()
	}
	db.refusals.addAll(b, r)
	db.tell(turn, lsn, b, r)
	return lsn, nil
}

// Durable waits until everything up to lsn survives a crash; see sample.Appender.
func (db *DB) Durable(ctx context.Context, lsn sample.LSN) error {
	if err := db.journal.Durable(ctx, lsn); err != nil {
		return db.unavailable(err)
	}
	return nil
}

// limits are the bounds that rows of a batch committed now are held to. They are logged with the batch, so
// that a replay decides as the first run did.
func (db *DB) limits() head.Limits {
	now := db.now().UnixMilli()
	lim := head.Limits{MinT: math.MinInt64, MaxT: math.MaxInt64}
	if db.opts.MaxFuture > 0 {
		lim.MaxT = now + db.opts.MaxFuture.Milliseconds()
	}
	newest, ok := db.head.MaxTime()
	if !ok {
		newest = now
	}
	if keep := db.policies.Load().longest(db.retention.Load()); keep < math.MaxInt64 {
		lim.MinT = before(min(now, newest), keep)
	}
	late := db.late.Load()
	lim.MinPush, lim.MinScrape = lim.MinT, head.NoLate
	if late.Push != nil {
		lim.MinPush = oldestLate(newest, *late.Push, lim.MinT)
	}
	if late.Scrape > 0 {
		lim.MinScrape = oldestLate(newest, late.Scrape, lim.MinT)
	}
	return lim
}

// oldestLate is the oldest time at which a late sample is taken.
func oldestLate(newest int64, window time.Duration, oldest int64) int64 {
	switch window {
	case 0:
		return head.NoLate
	case AllRetention:
		return oldest
	}
	return max(oldest, before(newest, window.Milliseconds()))
}

// before is the time d ms before t, or the first one there is.
func before(t, d int64) int64 {
	if t < math.MinInt64+d {
		return math.MinInt64
	}
	return t - d
}

// writable says whether the store takes writes.
func (db *DB) writable() error {
	if db.conds.has(ConditionReadOnly) {
		return &sample.UnavailableError{Condition: ConditionReadOnly, RetryAfter: retryReadOnly}
	}
	return nil
}

const retryReadOnly = 30 * time.Second

// unavailable turns an error of the log into what callers are answered, and raises its condition.
func (db *DB) unavailable(err error) error {
	var poisoned *journal.PoisonedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &poisoned):
		db.raiseFailedSync(err)
		return &sample.UnavailableError{Condition: ConditionFailedSync, Err: err}
	case errors.Is(err, journal.ErrNoSpace):
		db.raiseReadOnly(err.Error())
		return &sample.UnavailableError{Condition: ConditionReadOnly, RetryAfter: retryReadOnly, Err: err}
	}
	return err
}
