// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// Recovery tells what Open found.
type Recovery struct {
	Checkpoint sample.LSN // the checkpoint it started from, 0 for none
	Records    int        // log records replayed after it
	Samples    int        // rows in them
	Unknown    int        // rows of series the log does not name: lost to corruption
	Lost       int        // series with rows in parts of the head that the log does not name: the same
	Took       time.Duration
	Log        journal.Recovery
}

// Recovery returns what Open found.
func (db *DB) Recovery() Recovery { return db.recovery }

// recover brings the head from the checkpoint at LSN from, which is loaded, to the last durable record. Rows of a
// slot that a block holds already only move the validation state of their series.
func (db *DB) recover(ctx context.Context, from sample.LSN, start time.Time) error {
	db.recovery.Checkpoint = from
	if err := db.replay(ctx, from); err != nil {
		return fmt.Errorf("replay the log: %w", err)
	}
	db.recovery.Lost = db.head.Registered()
	db.head.Recovered()
	db.noteLostRecords()
	if err := db.completeDeletes(ctx, db.redo); err != nil {
		return err
	}
	db.redo = nil
	db.floor = db.journal.NewFloor("checkpoint", db.keepFrom())
	db.recovery.Took = time.Since(start)
	if r := db.recovery; r.Checkpoint > 0 || r.Records > 0 {
		db.log.Info("store recovered", "checkpoint", r.Checkpoint, "records", r.Records, "samples", r.Samples,
			"unknown", r.Unknown, "torn_bytes", r.Log.TornBytes, "lost_records", r.Log.LostRecords, "took", r.Took)
	}
	return nil
}

// keepFrom is the first LSN the log must keep: that after the older of the two checkpoints kept, so that one
// unreadable checkpoint loses nothing.
func (db *DB) keepFrom() sample.LSN {
	if len(db.checkpoints) < 2 {
		return 1
	}
	return db.checkpoints[0] + 1
}

const checkpointSuffix = ".ckpt"

func (db *DB) checkpointPath(lsn sample.LSN) string {
	return path.Join(db.layout.checkpoints(), fmt.Sprintf("%020d%s", lsn, checkpointSuffix))
}

// loadCheckpoint loads the newest checkpoint that can be read and returns its LSN, 0 if there is none.
func (db *DB) loadCheckpoint() (sample.LSN, error) {
	names, err := db.opts.FS.List(db.layout.checkpoints())
	if err != nil {
		return 0, fmt.Errorf("list the checkpoints: %w", err)
	}
	for _, n := range names {
		digits, ok := strings.CutSuffix(n, checkpointSuffix)
		lsn, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil {
			db.checkpoints = append(db.checkpoints, sample.LSN(lsn))
		}
	}
	slices.Sort(db.checkpoints)
	for i, lsn := range slices.Backward(db.checkpoints) {
		err := db.loadCheckpointFile(lsn)
		if err == nil {
			return lsn, nil
		}
		if !damaged(err) {
			return 0, fmt.Errorf("read checkpoint %d: %w", lsn, err)
		}
		if err := db.quarantine(db.checkpointPath(lsn), err); err != nil {
			return 0, err
		}
		db.checkpoints = db.checkpoints[:i]
		if err := db.head.Close(); err != nil {
			return 0, fmt.Errorf("drop a half loaded head: %w", err)
		}
		if err := db.newHead(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func (db *DB) loadCheckpointFile(lsn sample.LSN) error {
	f, err := db.opts.FS.Open(db.checkpointPath(lsn))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	size, err := f.Size()
	if err != nil {
		return err
	}
	return db.head.LoadSnapshot(bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20))
}

// Checkpoint writes the head as it is now into a file, so that a restart need not replay the log before it.
// Ingestion goes on meanwhile.
func (db *DB) Checkpoint(ctx context.Context) error {
	if err := db.users.enter(); err != nil {
		return err
	}
	defer db.users.leave()
	db.maintain.Lock()
	defer db.maintain.Unlock()
	return db.checkpointLocked(ctx)
}

// errNothingNew says that the newest checkpoint is up to date.
var errNothingNew = errors.New("nothing changed since the last checkpoint")

func (db *DB) checkpointLocked(ctx context.Context) error {
	// A start takes from the log what of a delete is not in the files beside the blocks.
	if err := db.saveMarks(); err != nil {
		return err
	}
	pin, lsn, err := db.pin(ctx)
	if err != nil {
		return err
	}
	defer pin.Close()
	if n := len(db.checkpoints); n > 0 && db.checkpoints[n-1] == lsn || lsn == 0 {
		return errNothingNew
	}
	// What the checkpoint holds must not be newer than the log: after a power cut the log would give the
	// same LSNs out again.
	if err := db.Durable(ctx, lsn); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	err = fsx.Publish(db.opts.FS, db.checkpointPath(lsn), func(w io.Writer) error {
		if err := db.head.Snapshot(pin, w); err != nil {
			return err
		}
		// It knows series that came since the pin and that will not be logged again: their records must not
		// be lost either.
		return db.Durable(ctx, db.journal.Last())
	})
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	db.checkpoints = append(db.checkpoints, lsn)
	for len(db.checkpoints) > 2 {
		if err := db.opts.FS.Remove(db.checkpointPath(db.checkpoints[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old checkpoint: %w", err)
		}
		db.checkpoints = db.checkpoints[1:]
	}
	db.floor.Set(db.keepFrom())
	return nil
}

// replay applies the log after from. One goroutine decodes, the others apply; the shards' queues keep the order.
func (db *DB) replay(ctx context.Context, from sample.LSN) error {
	p := &replayer{db: db, works: make(chan replayWork, 64), free: make(chan *sample.Batch, 128), next: from + 1}
	for range max(1, runtime.GOMAXPROCS(0)-1) {
		p.wg.Add(1)
		go p.apply()
	}
	db.head.StartAt(from)
	rec, err := db.journal.Replay(from+1, func(lsn sample.LSN, kind byte, payload []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return p.record(lsn, kind, payload)
	})
	close(p.works)
	p.wg.Wait()
	if last := db.journal.Last(); err == nil && last >= p.next {
		db.head.StartAt(last) // the log goes on above what it holds
	}
	db.recovery.Log, db.recovery.Records, db.recovery.Samples = rec, p.records, p.samples
	db.recovery.Unknown = p.unknown
	return err
}

type replayWork struct {
	work  *head.Work
	batch *sample.Batch
}

type replayer struct {
	db    *DB
	works chan replayWork
	free  chan *sample.Batch
	wg    sync.WaitGroup

	next             sample.LSN // that the next record should have
	records, samples int

	mu      sync.Mutex
	unknown int // guarded by mu
}

func (p *replayer) apply() {
	defer p.wg.Done()
	var r sample.Result
	for w := range p.works {
		p.db.head.Apply(w.work, &r)
		stale := 0
		for _, reason := range r.Reason {
			if reason == sample.StaleRef {
				stale++
			}
		}
		if stale > 0 {
			p.mu.Lock()
			p.unknown += stale
			p.mu.Unlock()
		}
		w.batch.Reset()
		select {
		case p.free <- w.batch:
		default:
		}
	}
}

func (p *replayer) record(lsn sample.LSN, kind byte, payload []byte) error {
	p.records++
	if lsn != p.next {
		// A gap: what was there is damaged, and counted as lost. The head's order goes on behind it.
		if err := p.db.head.WaitApplied(context.Background(), p.next-1); err != nil {
			return err
		}
		p.db.head.StartAt(lsn - 1)
	}
	p.next = lsn + 1
	switch kind {
	case wal.KindSeries:
		err := wal.DecodeSeries(payload, func(ref sample.Ref, l labels.Labels) error {
			return p.db.head.Restore(ref, l)
		})
		p.db.head.Skip(lsn)
		return p.place(lsn, err)
	case wal.KindBatch:
		return p.place(lsn, p.batch(lsn, payload))
	case wal.KindFree:
		refs, err := wal.DecodeFree(payload)
		if err != nil {
			return p.place(lsn, err)
		}
		p.db.head.Free(refs, lsn)
		return nil
	case wal.KindDelete:
		d, err := wal.DecodeDelete(payload)
		if err != nil {
			return p.place(lsn, err)
		}
		p.db.redo = append(p.db.redo, redoDelete{lsn, d})
		p.db.head.Delete(d.Refs, d.MinT, d.MaxT, lsn)
		return nil
	}
	return fmt.Errorf("record %d is of kind %d, which this version does not know: start the newer version again", lsn, kind)
}

func (p *replayer) batch(lsn sample.LSN, payload []byte) error {
	var b *sample.Batch
	select {
	case b = <-p.free:
	default:
		b = &sample.Batch{}
	}
	lim, rest, err := wal.DecodeLimits(payload)
	if err != nil {
		return err
	}
	if err := wal.DecodeBatch(rest, b); err != nil {
		return err
	}
	p.samples += b.Len()
	w := p.db.head.Prepare(b, head.Limits(lim))
	p.db.head.Enqueue(w, lsn)
	p.works <- replayWork{w, b}
	return nil
}

func (p *replayer) place(lsn sample.LSN, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("log record %d: %w", lsn, err)
}
