// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// foreignCounts say how far the conversion is.
type foreignCounts struct {
	blocks, bytes         atomic.Int64 // found at the start
	converted, read, made atomic.Int64 // blocks, their bytes, and those of the blocks they became
}

// ForeignStats says how far the conversion of foreign blocks is.
type ForeignStats struct {
	Blocks, Bytes int64 // to be converted, and queried in place until then
	Found         int64 // when the store was opened
	Converted     int64 // since then
	Read, Made    int64 // bytes of those, and of the store's blocks they became
}

func (db *DB) foreignStats() ForeignStats {
	c := &db.foreignAt
	s := ForeignStats{Found: c.blocks.Load(), Converted: c.converted.Load(), Read: c.read.Load(), Made: c.made.Load()}
	for _, b := range db.foreign.all() {
		s.Blocks++
		s.Bytes += b.info.Bytes
	}
	return s
}

const (
	convertRetry = time.Minute      // after an error
	convertPoll  = 15 * time.Second // for disk space
)

var (
	errNoRoom  = errors.New("not enough disk space")
	errChanged = errors.New("samples were deleted meanwhile")
)

// convert turns the foreign blocks into the store's own, one at a time, the newest first: it is queried most, and the
// oldest may go by their age before their turn comes. It ends when there is none left that can be.
func (db *DB) convert(ctx context.Context) {
	defer close(db.convertDone)
	if db.opts.ForeignInPlace || db.Await(ctx, minTime, maxTime) != nil {
		return
	}
	broken := map[string]bool{}
	for ctx.Err() == nil {
		b, ok := db.nextForeign(broken)
		if !ok {
			break
		}
		err := db.convertBlock(ctx, b)
		wait := time.Duration(0)
		switch {
		case err == nil, errors.Is(err, errChanged):
		case errors.Is(err, errNoRoom):
			wait = convertPoll
		case damaged(err):
			broken[b.info.ID] = true
			db.noteUnreadable(err)
			db.log.Error("a foreign block is damaged and stays as it is; it is queried in place", "block", b.info.ID, "err", err)
		case ctx.Err() == nil:
			db.failures.Add(1)
			db.log.Error("a foreign block could not be converted; it is tried again", "block", b.info.ID, "err", err, "in", convertRetry)
			wait = convertRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	db.conds.clear(ConditionConversion)
	if ctx.Err() == nil && len(db.foreign.all()) == 0 {
		db.removeOriginals()
	}
}

// nextForeign returns the newest foreign block that is not known to be broken.
func (db *DB) nextForeign(broken map[string]bool) (storedForeign, bool) {
	for _, b := range slices.Backward(db.foreign.all()) {
		if !broken[b.info.ID] {
			return b, true
		}
	}
	return storedForeign{}, false
}

// convertBlock makes a block of the store out of a foreign one. Queries read the foreign one until the other takes its
// place in one step. A crash before that leaves it as it was, and what was written goes at the next start.
func (db *DB) convertBlock(ctx context.Context, b storedForeign) error {
	if !b.foreignBlock.acquire() {
		return nil
	}
	defer b.leave()
	if err := db.roomFor(b); err != nil {
		return err
	}
	start := time.Now()
	from := newForeignCopy(b, db.finalNow())
	first, last := floor(b.info.MinT, db.meta.SlotMillis), floor(b.info.MaxT, db.meta.SlotMillis)
	meta, err := block.Write(db.opts.FS, db.layout.blocks(), block.Meta{
		SlotStart: first, SlotEnd: last + db.meta.SlotMillis, Slot: db.meta.SlotMillis, Parents: []string{b.info.ID},
	}, block.Source{Series: from.series(ctx, db.upkeep), Metadata: b.descriptions(""), Account: db.upkeep})
	if fsx.IsFull(err) {
		return db.pauseConversion("the disk is full")
	}
	if err != nil && !errors.Is(err, block.ErrEmpty) {
		return err
	}
	made := meta.ULID
	if err != nil {
		made = "" // nothing of it is left
	}
	size, err := db.adopt(b, made, from.tombstones())
	if err != nil {
		return err
	}
	c := &db.foreignAt
	c.read.Add(b.info.Bytes)
	c.made.Add(size)
	db.log.Info("a foreign block is converted", "block", b.info.ID, "number", c.converted.Add(1), "of", c.blocks.Load(),
		"newest", formatTime(b.info.MaxT), "bytes", b.info.Bytes, "as", size, "took", time.Since(start))
	return nil
}

// finalNow returns which deletes cannot be undone as of now.
func (db *DB) finalNow() func(sample.LSN) bool {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	now := deletes{list: db.deletes.list}
	return now.final
}

// adopt puts the block that was made of a foreign one in its place, empty where it has no samples: on disk first, with
// what is hidden of it, then in the views.
func (db *DB) adopt(b storedForeign, id string, dead tombstones) (int64, error) {
	db.maintain.Lock()
	defer db.maintain.Unlock()
	now, ok := db.foreign.find(b.info.ID)
	if !ok || now.deletes != b.deletes {
		if id != "" {
			if err := db.opts.FS.Remove(block.Path(db.layout.blocks(), id)); err != nil {
				return 0, err
			}
		}
		return 0, errChanged // or beyond the retention
	}
	var made []storedBlock
	size := int64(0)
	if id != "" {
		x, err := db.openBlock(id)
		if err != nil {
			return 0, err
		}
		made = append(made, storedBlock{Block: x, dead: dead})
		size = x.Size()
	}
	if err := db.concludeWith(b, made); err != nil {
		for _, x := range made {
			err = errors.Join(err, db.blocks.delete(db.layout, x))
		}
		return 0, err
	}
	db.seq.Lock()
	for _, x := range made {
		db.blocks.add(x)
	}
	db.foreign.replace(b.info.ID)
	db.seq.Unlock()
	db.forgetForeign(b)
	return size, nil
}

// concludeWith writes what is hidden of the blocks that were made, and then that the foreign one is done with.
func (db *DB) concludeWith(b storedForeign, made []storedBlock) error {
	for _, x := range made {
		if len(x.dead) == 0 {
			continue
		}
		if err := saveTombstones(db.opts.FS, x.Name(), x.dead); err != nil {
			return err
		}
	}
	return db.conclude(b)
}

// roomFor sees to it that converting a block leaves the disk its reserve. What it becomes is smaller than it is.
func (db *DB) roomFor(b storedForeign) error {
	free, _, err := db.opts.FS.Usage(db.layout.root)
	if err != nil {
		return err
	}
	if reserve := db.minFree.Load(); int64(min(free, math.MaxInt64)) < reserve+b.info.Bytes {
		return db.pauseConversion(fmt.Sprintf("%d MiB of disk are free; the next block takes up to %d MiB and %d MiB are kept in reserve",
			free>>20, b.info.Bytes>>20, reserve>>20))
	}
	if db.conds.clear(ConditionConversion) {
		db.log.Info("the disk has room again; the conversion of foreign blocks goes on")
	}
	return nil
}

func (db *DB) pauseConversion(cause string) error {
	if db.conds.set(Condition{
		Code:     ConditionConversion,
		Effect:   "the data of Prometheus is queried in place and not converted: " + cause,
		NextStep: "free disk space under " + db.layout.root + ", or set prometheus_originals to delete; the conversion goes on by itself",
	}) {
		db.log.Warn("the conversion of foreign blocks pauses", "cause", cause)
	}
	return errNoRoom
}

// removeOriginals deletes, where the store is told to, what all foreign blocks were made of. None is left.
func (db *DB) removeOriginals() {
	if db.opts.Foreign == nil || !db.opts.DeleteForeign || len(db.unreadable.allGaps()) > 0 {
		return
	}
	db.maintain.Lock()
	ids := db.converted
	db.maintain.Unlock()
	if len(ids) == 0 {
		return
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, db.opts.Foreign.Remove(db.opts.Dir, id))
	}
	errs = append(errs, db.opts.Foreign.RemoveRest(db.opts.Dir))
	if err := errors.Join(errs...); err != nil {
		db.log.Warn("the originals of converted blocks could not be removed; the next start tries again", "err", err)
	}
}

// dropForeign takes the foreign blocks that are wholly before edge out of the store.
func (db *DB) dropForeign(edge int64) error {
	for _, b := range db.foreign.all() {
		if b.info.MaxT >= edge {
			continue
		}
		if err := db.conclude(b); err != nil {
			return err
		}
		db.log.Info("foreign block is beyond the retention", "block", b.info.ID, "newest", formatTime(b.info.MaxT))
		db.seq.Lock()
		db.stamps.begin()
		db.foreign.replace(b.info.ID)
		db.seq.Unlock()
		db.forgetForeign(b)
	}
	return nil
}

// snapshotForeign copies the foreign blocks into a data path, as the other program's own, and what is deleted of them.
func (db *DB) snapshotForeign(ctx context.Context, to layout) error {
	blocks := db.foreign.acquire(minTime, maxTime)
	defer func() {
		for _, b := range blocks {
			b.leave()
		}
	}()
	for _, b := range blocks {
		if err := b.Copy(ctx, path.Dir(to.root)); err != nil {
			return err
		}
		if len(b.dead) == 0 {
			continue
		}
		if err := to.fs.MkdirAll(to.foreign()); err != nil {
			return err
		}
		if err := saveTombstones(to.fs, to.foreignTombstones(b.info.ID), b.dead); err != nil {
			return err
		}
	}
	return nil
}
