// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// Maintain does what is due: slots that are over become blocks, blocks beyond the retention go, and a checkpoint
// is written when a block was, or when the log since the last one is long.
func (db *DB) Maintain(ctx context.Context) error {
	if err := db.enterWhole(ctx); err != nil {
		return err
	}
	defer db.users.leave()
	return db.maintainDue(ctx)
}

func (db *DB) maintainDue(ctx context.Context) (err error) {
	defer func() { db.noteRoom(roomForMaintenance, err) }()
	db.maintain.Lock()
	defer db.maintain.Unlock()
	flushed, err := db.flushDue(ctx)
	if rerr := db.applyRetention(); rerr != nil {
		err = errors.Join(err, rerr)
	}
	if flushed == 0 && !db.checkpointDue() || ctx.Err() != nil {
		return err
	}
	// Also where a slot or a block failed: without checkpoints the log would grow for as long as it does.
	if flushed > 0 {
		err = errors.Join(err, db.dropIdleSeries(ctx))
	}
	if cerr := db.checkpointLocked(ctx); !errors.Is(cerr, errNothingNew) {
		err = errors.Join(err, cerr)
	}
	return err
}

// Flush turns every slot of the head into a block, due or not.
func (db *DB) Flush(ctx context.Context) error {
	if err := db.enterWhole(ctx); err != nil {
		return err
	}
	defer db.users.leave()
	db.maintain.Lock()
	defer db.maintain.Unlock()
	for _, slot := range db.head.Slots() {
		if err := db.flushSlot(ctx, slot.Start); err != nil {
			return err
		}
	}
	if err := db.checkpointLocked(ctx); err != nil && !errors.Is(err, errNothingNew) {
		return err
	}
	return nil
}

// checkpointDue reports whether the log behind the last checkpoint is long. The maintenance lock is held.
func (db *DB) checkpointDue() bool {
	return db.journal.BytesSince(db.lastCheckpoint()) >= min(mostLog, max(leastLog, db.checkpointBytes))
}

func (db *DB) lastCheckpoint() sample.LSN {
	if n := len(db.checkpoints); n > 0 {
		return db.checkpoints[n-1]
	}
	return 0
}

// flushDue writes the blocks of the slots that are over and returns how many. A slot is over half a slot after
// its end, by the newest sample or, when samples stopped, by the clock: so long late scrapes still find it.
func (db *DB) flushDue(ctx context.Context) (int, error) {
	newest, ok := db.head.MaxTime()
	if !ok {
		return 0, nil
	}
	now := db.now()
	edge := max(newest, min(now.UnixMilli(), newest+2*db.meta.SlotMillis)) - db.meta.SlotMillis/2
	n := 0
	var errs []error
	for _, slot := range db.head.Slots() {
		if slot.Start+db.meta.SlotMillis > edge || now.Sub(slot.LastAppend) < lateRest && slot.InOrder == 0 {
			continue
		}
		if err := db.flushSlot(ctx, slot.Start); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// lateRest is how long a slot that holds only late samples must have rested before it becomes a block, so that a
// backfill makes a few blocks, not one for each of its requests.
const lateRest = 5 * time.Minute

// flushSlot writes one slot as a block and drops its rows from the head. A crash between the two is healed by
// the block's LSN: the replay skips the rows the block holds.
func (db *DB) flushSlot(ctx context.Context, slot int64) error {
	pin, lsn, err := db.pin(ctx)
	if err != nil {
		return err
	}
	defer pin.Close()
	if err := db.Durable(ctx, lsn); err != nil {
		return fmt.Errorf("flush slot %s: %w", formatTime(slot), err)
	}
	start := time.Now()
	meta, err := block.Write(db.opts.FS, db.layout.blocks(), block.Meta{
		SlotStart: slot, SlotEnd: slot + db.meta.SlotMillis, LSN: lsn,
	}, db.slotSource(ctx, pin, slot))
	if errors.Is(err, block.ErrEmpty) {
		db.dropSlot(slot, lsn)
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the block of slot %s: %w", formatTime(slot), err)
	}
	b, err := db.openBlock(meta.ULID)
	if err != nil {
		return fmt.Errorf("open the block of slot %s: %w", formatTime(slot), err)
	}
	db.blocks.add(storedBlock{Block: b})
	db.dropSlot(slot, lsn)
	db.flushes.Add(1)
	db.log.Info("head slot became a block", "slot", formatTime(slot), "block", meta.ULID, "series", meta.Series,
		"samples", meta.Floats+meta.Histograms, "bytes", b.Size(), "took", time.Since(start))
	return nil
}

// dropSlot lets the head forget the rows of a slot. Ending the chunks that are still open takes a little memory, for
// the moment until the drop gives back much more: without it the rows would stay, and become a block again and again.
func (db *DB) dropSlot(slot int64, lsn sample.LSN) {
	defer db.liftMemory()()
	db.head.DropSlot(slot, lsn)
	db.removeParts(slot, lsn)
}

// openBlock opens a block that was just written. One that cannot be opened goes: what is deleted from now on would
// not be deleted from it, and the next try writes it again.
func (db *DB) openBlock(id string) (*block.Block, error) {
	name := block.Path(db.layout.blocks(), id)
	b, err := block.Open(db.opts.FS, name, db.cache, block.Options{Account: db.upkeep})
	if err == nil {
		return b, nil
	}
	if rerr := db.opts.FS.Remove(name); rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	return nil, errors.Join(err, db.opts.FS.SyncDir(db.layout.blocks()))
}

// dropIdleSeries lets the series leave the head that have no sample in it and got none for a slot. The record is
// in the log before they go, so that a replay frees them at the same place.
func (db *DB) dropIdleSeries(ctx context.Context) error {
	newest, ok := db.head.MaxTime()
	if !ok {
		return nil
	}
	idle := db.head.Idle(newest - db.meta.SlotMillis)
	if len(idle) == 0 {
		return nil
	}
	defer db.head.Reclaim()
	for len(idle) > 0 {
		run := idle[:min(freeBatch, len(idle))]
		idle = idle[len(run):]
		if err := db.journal.Admit(ctx, 10*len(run)); err != nil {
			return db.unavailable(err)
		}
		if err := db.free(ctx, run); err != nil {
			return err
		}
	}
	return nil
}

// freeBatch is how many series leave under one hold of the sequencer.
const freeBatch = 1000

func (db *DB) free(ctx context.Context, refs []sample.Ref) error {
	db.seq.Lock()
	defer db.seq.Unlock()
	refs, err := db.head.StillIdle(ctx, refs)
	if err != nil || len(refs) == 0 {
		return err
	}
	lsn, err := db.journal.Append(wal.KindFree, wal.AppendFree(nil, refs))
	if err != nil {
		return db.unavailable(err)
	}
	db.head.Free(refs, lsn)
	return nil
}

// newestSample returns the time of the newest sample of head and blocks.
func (db *DB) newestSample() (int64, bool) {
	newest, ok := db.head.MaxTime()
	for _, b := range db.blocks.all() {
		if m := b.Meta(); !ok || m.MaxT > newest {
			newest, ok = m.MaxT, true
		}
	}
	for _, b := range db.foreign.all() {
		if !ok || b.info.MaxT > newest {
			newest, ok = b.info.MaxT, true
		}
	}
	return newest, ok
}

func formatTime(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
