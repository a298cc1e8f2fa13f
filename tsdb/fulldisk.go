// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// fullDisk is what is known of the blocks that were deleted because the disk was full.
type fullDisk struct {
	deletes   atomic.Bool   // it may be done
	deletions atomic.Uint64 // how many so far

	mu      sync.Mutex
	awaited []awaitedBlock // guarded by mu
	count   int            // guarded by mu; since the condition began
	newest  int64          // guarded by mu; the newest sample that went with them
	last    time.Time      // guarded by mu; when the last one went, by the store's clock
}

// awaitedBlock is a deleted block whose space may not be free yet: queries still read it, or the file system takes its
// time. Meanwhile no other one is deleted in its place.
type awaitedBlock struct {
	*block.Block

	free uint64    // that there was before
	at   time.Time // of the deletion
}

// freeingTakes is how long a file system may take until the space of a deleted file is free.
const freeingTakes = 30 * time.Second

// fullDiskRest is how long no block must have been deleted for want of space until the condition ends.
const fullDiskRest = time.Hour

// SetDeleteOldest changes whether the oldest blocks are deleted where less than MinFree is free on the disk, so that the
// store goes on taking writes.
func (db *DB) SetDeleteOldest(on bool) { db.full.deletes.Store(on) }

// makeRoom deletes the oldest blocks until want bytes are free, and returns how many are. It does nothing while the
// blocks are worked at, or while the store is being restored: a start of its own after a crash would find the rows in the
// log that these blocks have. Then, and while space is about to be free, it says that enough is as long as half of it is: the
// next look is seconds away. The head is never touched.
func (db *DB) makeRoom(free, want uint64) uint64 {
	if !db.full.deletes.Load() || !db.whole() {
		return free
	}
	soon := true
	if db.maintain.TryLock() {
		free, soon = db.deleteOldest(free, want)
		db.maintain.Unlock()
	}
	if soon && free < want && free >= want/2 {
		return want
	}
	return free
}

// deleteOldest is makeRoom under the maintenance lock; soon says that the rest will be free soon.
func (db *DB) deleteOldest(free, want uint64) (now uint64, soon bool) {
	for {
		if free+db.full.awaits(free, db.now()) >= want {
			return free, true
		}
		settled := sample.LSN(0)
		if len(db.checkpoints) > 0 {
			settled = db.checkpoints[0] // a start reads the log from there where the newest one is unreadable
		}
		b, ok := oldest(db.blocks.all(), settled)
		if !ok {
			return free, false
		}
		if err := errors.Join(db.removeLeftovers(), db.dropBlock(b)); err != nil {
			db.log.Error("the disk is full, and the oldest block could not be deleted", "block", b.Meta().ULID, "err", err)
			return free, false
		}
		db.noteFullDisk(b, free)
		now, _, err := db.opts.FS.Usage(db.layout.root)
		if err != nil {
			return free, false
		}
		free = now
	}
}

// oldest returns the block whose newest sample is the oldest, of those whose rows no start finds in the log any more:
// none behind what is settled.
func oldest(blocks []storedBlock, settled sample.LSN) (out storedBlock, ok bool) {
	for _, b := range blocks {
		if m := b.Meta(); m.LSN <= settled && (!ok || m.MaxT < out.Meta().MaxT) {
			out, ok = b, true
		}
	}
	return out, ok
}

// awaits returns how much space deleted blocks will give back that they have not, where so much is free now.
func (d *fullDisk) awaits(free uint64, now time.Time) (n uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.awaited = slices.DeleteFunc(d.awaited, func(b awaitedBlock) bool {
		if free >= b.free+uint64(b.Size())/2 {
			return true
		}
		read := b.Acquire()
		if read {
			b.Release()
		}
		return !read && now.Sub(b.at) > freeingTakes
	})
	for _, b := range d.awaited {
		n += uint64(b.Size())
	}
	return n
}

// noteFullDisk makes known that a block was deleted.
func (db *DB) noteFullDisk(b storedBlock, free uint64) {
	d, m, now := &db.full, b.Meta(), db.now()
	d.deletions.Add(1)
	d.mu.Lock()
	d.awaited = append(d.awaited, awaitedBlock{b.Block, free, now})
	if d.count == 0 || m.MaxT > d.newest {
		d.newest = m.MaxT
	}
	d.count++
	d.last = now
	c := Condition{
		Code:     ConditionFullDisk,
		Effect:   fmt.Sprintf("samples up to %s are gone, with the %d oldest blocks; writes and queries go on", formatTime(d.newest), d.count),
		NextStep: "give the disk more room or shorten the retention; the condition ends an hour after the last deletion",
	}
	d.mu.Unlock()
	db.conds.set(c)
	db.log.Error("the disk is full: the oldest block is deleted", "block", m.ULID, "class", m.Class, "newest", formatTime(m.MaxT),
		"bytes", b.Size(), "free_bytes", free, "min_free_bytes", db.minFree.Load())
}

// restFullDisk ends the condition when no block had to go for a while.
func (db *DB) restFullDisk() {
	d := &db.full
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count == 0 || db.now().Sub(d.last) <= fullDiskRest {
		return
	}
	d.count = 0
	if db.conds.clear(ConditionFullDisk) {
		db.log.Info("no block had to be deleted for want of disk space any more", "for", fullDiskRest)
	}
}
