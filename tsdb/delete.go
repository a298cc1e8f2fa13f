// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

// Delete removes the samples in [mint, maxt] of the series that match all of ms, as of now: what is written later
// is not touched. Samples of blocks are masked by a file beside the block until CleanTombstones rewrites it;
// samples of the head go at once, in the order of the log. When it returns nil the deletion survives a crash;
// on error a part of it may be done, and calling it again does the rest.
func (db *DB) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	if maxt < mint {
		return fmt.Errorf("delete: the end %s is before the start %s", formatTime(maxt), formatTime(mint))
	}
	if err := db.users.enter(); err != nil {
		return err
	}
	defer db.users.leave()
	if err := db.writable(); err != nil {
		return err
	}
	// No slot may become a block between the two halves: its samples would escape both.
	db.maintain.Lock()
	defer db.maintain.Unlock()
	lsn, err := db.deleteFromHead(ctx, mint, maxt, ms)
	if err != nil {
		return err
	}
	for _, b := range db.blocks.acquire(mint, maxt) {
		err := db.deleteFromBlock(ctx, b, interval{mint, maxt}, ms)
		b.Release()
		if err != nil {
			return fmt.Errorf("delete from block %s: %w", b.Meta().ULID, err)
		}
	}
	for _, b := range db.foreign.acquire(mint, maxt) {
		err := db.deleteFromForeign(ctx, b, interval{mint, maxt}, ms)
		b.leave()
		if err != nil {
			return fmt.Errorf("delete from block %s: %w", b.info.ID, err)
		}
	}
	return db.Durable(ctx, lsn)
}

func (db *DB) deleteFromHead(ctx context.Context, mint, maxt int64, ms []*labels.Matcher) (sample.LSN, error) {
	pin, lsn, err := db.pin(ctx)
	if err != nil {
		return 0, err
	}
	refs, err := db.matching(ctx, pin, ms)
	pin.Close()
	if err != nil || len(refs) == 0 {
		return lsn, err
	}
	rec := wal.AppendDelete(nil, wal.Delete{Refs: refs, MinT: mint, MaxT: maxt})
	if err := db.journal.Admit(ctx, len(rec)); err != nil {
		return 0, db.unavailable(err)
	}
	db.seq.Lock()
	lsn, err = db.journal.Append(wal.KindDelete, rec)
	if err == nil {
		db.stamps.begin()
		db.head.Delete(refs, mint, maxt, lsn)
	}
	db.seq.Unlock()
	if err != nil {
		return 0, db.unavailable(err)
	}
	return lsn, nil
}

// matching returns the series of the head that match, those too whose samples are all in blocks: without its newest
// sample a series must take one of that time again.
func (db *DB) matching(ctx context.Context, pin *head.Pin, ms []*labels.Matcher) ([]sample.Ref, error) {
	ids, err := db.head.Index().Select(budget.NewTask(ctx, nil), ms)
	if err != nil {
		return nil, fmt.Errorf("select series of the head: %w", err)
	}
	refs := make([]sample.Ref, 0, len(ids))
	for _, id := range ids {
		refs = append(refs, pin.Ref(id))
	}
	// An id may have gone to another series before its Ref was asked for. That one is in the second answer only if
	// it matches, too.
	again, err := db.head.Index().Select(budget.NewTask(ctx, nil), ms)
	if err != nil {
		return nil, fmt.Errorf("select series of the head: %w", err)
	}
	return slices.DeleteFunc(refs, func(ref sample.Ref) bool {
		_, ok := slices.BinarySearch(again, ref.ID())
		return !ok
	}), nil
}

// takeFromViews puts in, which shows less, in place of a block. Views are opened under the sequencer lock: who sees the
// new stamp sees the new blocks, and the other way round.
func (db *DB) takeFromViews(out storedBlock, in ...storedBlock) {
	db.seq.Lock()
	defer db.seq.Unlock()
	db.stamps.begin()
	db.blocks.replace([]storedBlock{out}, in...)
}

func (db *DB) deleteFromBlock(ctx context.Context, b storedBlock, iv interval, ms []*labels.Matcher) error {
	ids, err := b.Index().Select(budget.NewTask(ctx, nil), ms)
	if err != nil || len(ids) == 0 {
		return err
	}
	dead := b.dead.with(ids, iv)
	if err := saveTombstones(db.opts.FS, block.Path(db.layout.blocks(), b.Meta().ULID), dead); err != nil {
		return err
	}
	db.takeFromViews(b, storedBlock{b.Block, dead})
	return nil
}

// CleanTombstones rewrites the blocks that have deleted samples without them, which frees their disk space.
func (db *DB) CleanTombstones(ctx context.Context) error {
	if err := db.users.enter(); err != nil {
		return err
	}
	defer db.users.leave()
	db.maintain.Lock()
	defer db.maintain.Unlock()
	for _, b := range db.blocks.all() {
		if len(b.dead) == 0 {
			continue
		}
		if err := db.rewrite(ctx, b); err != nil {
			return fmt.Errorf("rewrite block %s: %w", b.Meta().ULID, err)
		}
	}
	return nil
}

// rewrite replaces a block by one without its deleted samples. The new one names the old one as its parent, so
// that a crash between the two leaves no doubt which of them counts.
func (db *DB) rewrite(ctx context.Context, old storedBlock) error {
	if !old.Acquire() {
		return nil
	}
	defer old.Release()
	meta := old.Meta()
	meta, err := block.Write(db.opts.FS, db.layout.blocks(), block.Meta{
		SlotStart: meta.SlotStart, SlotEnd: meta.SlotEnd, Slot: meta.Slot, LSN: meta.LSN, Level: meta.Level, Parents: []string{meta.ULID},
	}, db.rewriteSource(ctx, old))
	if errors.Is(err, block.ErrEmpty) {
		if err := db.passCheckpoints(ctx, meta.LSN); err != nil {
			return err
		}
		return db.blocks.delete(db.layout, old)
	}
	if err != nil {
		return err
	}
	b, err := db.openBlock(meta.ULID)
	if err != nil {
		return err
	}
	db.blocks.replace([]storedBlock{old}, storedBlock{Block: b})
	return db.blocks.delete(db.layout, old)
}

// passCheckpoints sees to it that no start, not even one from the older checkpoint, reads rows up to lsn again that
// left the head. Before, it is the block of these rows that keeps them from coming back; without another block in
// its place it must not go.
func (db *DB) passCheckpoints(ctx context.Context, lsn sample.LSN) error {
	for len(db.checkpoints) < 2 || db.checkpoints[0] <= lsn {
		if err := db.logNothing(ctx); err != nil {
			return err
		}
		if err := db.checkpointLocked(ctx); err != nil {
			return err
		}
	}
	return nil
}

// logNothing logs a record that changes nothing, so that a checkpoint has an LSN of its own.
func (db *DB) logNothing(ctx context.Context) error {
	rec := wal.AppendFree(nil, nil)
	if err := db.journal.Admit(ctx, len(rec)); err != nil {
		return db.unavailable(err)
	}
	db.seq.Lock()
	defer db.seq.Unlock()
	lsn, err := db.journal.Append(wal.KindFree, rec)
	if err != nil {
		return db.unavailable(err)
	}
	db.head.Skip(lsn)
	return nil
}
