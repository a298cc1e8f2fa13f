// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// DB is an open store.
type DB struct {
	opts   Options
	meta   storeMeta
	layout layout
	log    *slog.Logger
	lock   io.Closer

	head    *head.Head
	journal *journal.Journal
	floor   *journal.Floor
	blocks  *blockSet
	foreign *foreignSet
	cache   *block.Cache
	sets    *seriesCache
	stamps  stamps
	scans   sync.Pool // of *scanner
	conds   *conditions
	upkeep  *budget.Account // of blocks and of writing them: what gives memory back must not lack it
	memory  *budget.Account // of the head
	parts   partSet

	// seq is the sequencer: under it an LSN is assigned and the work of the shards enqueued, so that both
	// are in one order. It is held for the time of a memory copy, never for that of a disk access.
	seq sync.Mutex

	// maintain serialises flush, checkpoint and retention.
	maintain sync.Mutex
	// checkpoints are the LSNs of the checkpoint files, ascending; guarded by maintain.
	checkpoints []sample.LSN
	// checkpointBytes is the size of the newest of them; guarded by maintain.
	checkpointBytes int64
	// orphan is the name of a part that was given up and may still be there; guarded by maintain.
	orphan string

	retention      atomic.Int64 // ms; 0: for ever
	retentionBytes atomic.Int64
	policies       atomic.Pointer[policies]
	timeRetentions atomic.Uint64 // runs of the retention that removed blocks by age
	sizeRetentions atomic.Uint64 // and by size
	minFree        atomic.Int64
	failures       atomic.Uint64 // of maintenance
	refusals       refusedRows
	flushes        atomic.Uint64 // slots that became blocks
	spills         atomic.Uint64 // parts that were written
	noMemory       atomic.Int64  // when something was last refused for lack of memory, Unix ms
	refused        atomic.Bool   // samples of known series were, since makeWay looked last
	late           atomic.Pointer[LateWindows]
	started        time.Time
	now            func() time.Time     // time.Now; tests of retention set the clock
	gate           atomic.Pointer[Gate] // nil: every series may be made
	tap            Tap                  // nil: none; set before anything is committed
	toldBefore     sample.LSN           // by an earlier run
	lastTurn       <-chan struct{}      // of the last batch that the tap is told of; guarded by seq
	recovery       Recovery
	converted      []string      // ids of foreign blocks that are done; replaced, never changed; guarded by maintain
	foreignAt      foreignCounts // how far the conversion is
	setGen         atomic.Uint64 // of the last SeriesSet made: equal ones are the same set

	stop  context.CancelFunc
	loops sync.WaitGroup // background loops, but for those that have a channel
	done  chan struct{}
	users users

	convertDone chan struct{} // closed when the conversion of foreign blocks has ended
	mergeDone   chan struct{} // closed when the background merges have ended

	unreadable unreadable
	scrubs     scrubCounts
	noRoom     atomic.Uint32 // the writers that last found the disk full
	blind      atomic.Bool   // the disk did not tell last how much is free

	full      fullDisk
	restoring restoring
	merges    merges
	leftovers leftovers
	deletes   deletes
	redo      []redoDelete // of the log, while it is replayed
}

// newDB returns a store that is not open yet.
func newDB(o Options) *DB {
	db := &DB{
		opts: o, log: o.Logger, conds: newConditions(), started: time.Now(), now: o.Now, done: make(chan struct{}), convertDone: make(chan struct{}), mergeDone: make(chan struct{}),
		merges: merges{failed: map[string]bool{}},
		upkeep: o.Budget.Exempt("upkeep"), memory: o.Budget.Exempt("head"), restoring: newRestoring(o.Budget), layout: layout{fs: o.FS, root: path.Join(o.Dir, "tidemark")},
	}
	db.retention.Store(o.Retention.Milliseconds())
	db.retentionBytes.Store(o.RetentionBytes)
	db.policies.Store(newPolicies(o.RetentionPolicies))
	db.minFree.Store(o.MinFree)
	db.full.deletes.Store(o.DeleteOldest)
	db.late.Store(&o.Late)
	return db
}

// Open opens the store in o.Dir, creating it where there is none, and recovers what a crash left. ctx ends the
// recovery early with its error; the directory is then as it was.
func Open(ctx context.Context, o Options) (*DB, error) {
	db, err := Start(ctx, o)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, db.stop)()
	<-db.restoring.over
	if err := db.restoring.err; err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Start is Open for who need not wait until the head is whole: the store takes samples, and answers about times that
// are wholly in blocks, as soon as it knows the series; see Await. ctx is for the time until Start returns.
func Start(ctx context.Context, o Options) (*DB, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("store options: %w", err)
	}
	o = o.withDefaults()
	db := newDB(o)
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("make the data path: %w", err)
	}
	if !o.NoLock {
		lock, err := o.FS.Lock(path.Join(o.Dir, "lock"))
		if err != nil {
			return nil, fmt.Errorf("data path %s: %w", o.Dir, err)
		}
		db.lock = lock
	}
	if err := db.open(ctx); err != nil {
		return nil, errors.Join(err, db.release())
	}
	if err := db.openTap(); err != nil {
		return nil, errors.Join(err, db.release())
	}
	db.watchDisk() // a start on a full disk says so at once
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	db.stop = stop
	db.loops.Add(3)
	db.loops.Go(func() { db.restore(loop) })
	go db.run(loop)
	go db.watchLoop(loop)
	go db.scrubLoop(loop)
	go db.spillLoop(loop)
	go db.convert(loop)
	go db.mergeLoop(loop)
	return db, nil
}

// openWhole opens the store and restores its head, without background work.
func (db *DB) openWhole(ctx context.Context) error {
	if err := db.open(ctx); err != nil {
		return err
	}
	db.restore(ctx)
	return db.restoring.err
}

func (db *DB) open(ctx context.Context) error {
	phase := phasesFrom(time.Now())
	meta, err := db.layout.create(db.opts)
	if err != nil {
		return err
	}
	db.meta = meta
	if err := db.layout.removeTemp(); err != nil {
		return fmt.Errorf("remove unfinished files: %w", err)
	}
	db.cache = block.NewCache(db.opts.BlockCache, db.opts.Budget)
	db.sets = newSeriesCache(db.opts.SeriesCache, db.opts.Budget)
	if db.blocks, err = db.openBlocks(); err != nil {
		return err
	}
	if err := db.openForeign(ctx); err != nil {
		return err
	}
	if err := db.loadDeletes(); err != nil {
		return err
	}
	if err := db.newHead(); err != nil {
		return err
	}
	phase(&db.recovery.Phases.Files)
	from, err := db.loadCheckpoint()
	if err != nil {
		return err
	}
	phase(&db.recovery.Phases.Checkpoint)
	db.restoring.checkpoint = from
	if err := db.lookAtQuarantine(); err != nil {
		return err
	}
	after := max(from, db.head.LoadedTo(), db.parts.newest(), db.deletes.newest())
	for _, b := range db.blocks.all() {
		after = max(after, b.Meta().LSN) // more than the checkpoint's in a restored snapshot
	}
	db.journal, err = journal.Open(journal.Options{
		FS: db.opts.FS, Dir: db.layout.wal(), SegmentBytes: db.opts.SegmentBytes,
		Sync: db.opts.Sync, Logger: db.log, After: after,
	})
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if err := db.survey(ctx); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	phase(&db.recovery.Phases.Series)
	return nil
}

// newHead makes a head that knows what the blocks and the parts hold.
func (db *DB) newHead() error {
	db.head = head.New(head.Options{Shards: db.meta.Shards, SlotMillis: db.meta.SlotMillis, Account: db.memory})
	for _, b := range db.blocks.all() {
		// Else it is none of the log's: converted; or of no slot: kept from a delete; or of more than one, and settled.
		if m := b.Meta(); m.LSN > 0 && m.SlotStart < m.SlotEnd && m.SlotEnd-m.SlotStart <= db.meta.SlotMillis {
			db.head.Flushed(m.SlotStart, m.LSN)
		}
	}
	return db.attachParts()
}

// Close ends the background work, writes a checkpoint so that the next start is quick, and releases the
// directory. Views that are open go on answering until they are closed; all else is refused.
func (db *DB) Close() error {
	if !db.users.close() {
		return nil
	}
	db.stop()
	<-db.done
	db.loops.Wait()
	<-db.convertDone
	<-db.mergeDone
	var err error
	if db.whole() {
		err = db.lastWords()
	}
	if errors.Is(err, errNothingNew) || db.conds.has(ConditionReadOnly) || db.conds.has(ConditionFailedSync) {
		err = nil // a full disk or a failed sync must not fail the stop: the log holds all that was acknowledged
	}
	return errors.Join(err, db.release())
}

// lastWords writes the checkpoint of a stop.
func (db *DB) lastWords() error {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	return db.checkpointLocked(context.Background())
}

// release gives back what open took, in reverse.
func (db *DB) release() error {
	var errs []error
	if db.tap != nil {
		errs = append(errs, db.tap.Close())
	}
	if db.journal != nil {
		errs = append(errs, db.journal.Close())
	}
	if db.sets != nil {
		db.sets.empty()
	}
	if db.head != nil {
		errs = append(errs, db.users.after(db.endHead))
	}
	if db.blocks != nil {
		errs = append(errs, db.blocks.close())
	}
	if db.foreign != nil {
		errs = append(errs, db.foreign.close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}

// endHead gives back what the head takes, and what is queued for it, when nobody uses the store any more: a commit that
// has begun gives back itself what it has not queued.
func (db *DB) endHead() error {
	db.restoring.account.Release(db.restoring.account.Used())
	return db.head.Close()
}

// Conditions returns what is not normal now.
func (db *DB) Conditions() []Condition {
	list := db.conds.list()
	if c, ok := db.restoringCondition(); ok {
		list = append(list, c)
	}
	return list
}

// SetRetention changes how long and how much is kept, from the next maintenance on; 0: no limit.
func (db *DB) SetRetention(d time.Duration, bytes int64) {
	db.retention.Store(d.Milliseconds())
	db.retentionBytes.Store(bytes)
}

// SetLate changes which late samples are taken, from the next commit on.
func (db *DB) SetLate(w LateWindows) { db.late.Store(&w) }

// SetMinFree changes the free disk space, in bytes, below which the store is read-only.
func (db *DB) SetMinFree(bytes int64) { db.minFree.Store(bytes) }

// run is the background loop: flush, checkpoint and retention.
func (db *DB) run(ctx context.Context) {
	defer close(db.done)
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !db.whole() {
			continue
		}
		if err := db.maintainDue(ctx); err != nil && ctx.Err() == nil {
			db.failures.Add(1)
			db.log.Error("maintenance of the store failed; it is tried again", "err", err, "in", maintainEvery)
		}
	}
}

const maintainEvery = 15 * time.Second
