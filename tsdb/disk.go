// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// watchEvery is how often the disk is looked at. At 200 MB/s it fills by less between two looks than is kept free.
const watchEvery = 2 * time.Second

// watchLoop makes the store read-only, lets it go on, and ends conditions whose cause has gone, within seconds.
func (db *DB) watchLoop(ctx context.Context) {
	defer db.loops.Done()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			db.watchDisk()
			db.recheck()
		}
	}
}

// The writers of files that are tried again by themselves; bits.
const (
	roomForSpills = 1 << iota
	roomForMaintenance
)

// noteRoom notes whether a writer has found room on the disk. One that has not makes the store read-only until it has,
// because what it puts on disk makes room in memory and in the log.
func (db *DB) noteRoom(writer uint32, err error) {
	if !fsx.IsFull(err) || errors.Is(err, journal.ErrNoSpace) { // the log says itself when it has found room
		db.noRoom.And(^writer)
		return
	}
	db.noRoom.Or(writer)
	db.raiseReadOnly(err.Error())
}

// watchDisk raises and clears the conditions that depend on what there is: too little free space, a log
// that found no space or failed to sync, memory that was used up.
func (db *DB) watchDisk() {
	db.watchMemory()
	if err := db.journal.Err(); err != nil {
		_ = db.unavailable(err) // raises the condition
		return
	}
	free, _, err := db.opts.FS.Usage(db.layout.root)
	if err != nil {
		if !db.blind.Swap(true) {
			db.log.Warn("cannot tell how much disk is free", "dir", db.layout.root, "err", err)
		}
		return
	}
	db.blind.Store(false)
	db.restFullDisk()
	if want := uint64(db.minFree.Load()); free < want {
		free = db.makeRoom(free, want)
	}
	switch {
	case min(free, math.MaxInt64) < uint64(db.minFree.Load()):
		db.raiseReadOnly(fmt.Sprintf("%d MiB of disk are free, less than the %d MiB kept in reserve", free>>20, db.minFree.Load()>>20))
	case db.noRoom.Load() != 0: // the free space is not for us
	case db.conds.clear(ConditionReadOnly):
		db.log.Info("the disk has room again; the store takes writes", "free_bytes", free)
	}
}

func (db *DB) raiseReadOnly(cause string) {
	if db.conds.set(Condition{
		Code:     ConditionReadOnly,
		Effect:   "writes are answered 503 and senders keep their samples; queries, rules and notifications go on: " + cause,
		NextStep: "free disk space under " + db.layout.root + ", or lower the retention; writing resumes by itself within seconds",
	}) {
		db.log.Error("the store is read-only", "cause", cause)
	}
}

func (db *DB) raiseFailedSync(err error) {
	if db.conds.set(Condition{
		Code:     ConditionFailedSync,
		Effect:   "the disk failed to keep the log: nothing more is acknowledged; queries go on",
		NextStep: "check the disk and its messages in the kernel log, then restart: the store recovers all that was acknowledged",
	}) {
		db.log.Error("the log could not be synced; the store takes no more writes until a restart", "err", err)
	}
}

// DiskBytes is what the store takes on disk: blocks, parts of the head, log and checkpoints.
func (db *DB) DiskBytes() int64 {
	_, total := db.parts.size()
	total += db.journal.DiskBytes()
	for _, b := range db.blocks.all() {
		total += b.Size()
	}
	names, err := db.opts.FS.List(db.layout.checkpoints())
	if err != nil {
		return total
	}
	for _, n := range names {
		if info, err := db.opts.FS.Stat(db.layout.path("checkpoint", n)); err == nil {
			total += info.Size
		}
	}
	return total
}
