// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// watchDisk raises and clears the conditions that depend on what there is: too little free space, a log
// that found no space or failed to sync, memory that was used up.
func (db *DB) watchDisk() {
	if last := db.noMemory.Load(); last > 0 && db.now().UnixMilli()-last > memoryRest.Milliseconds() && db.conds.clear(ConditionMemory) {
		db.log.Info("there is memory for new series again")
	}
	if err := db.journal.Err(); err != nil {
		_ = db.unavailable(err) // raises the condition
		return
	}
	free, _, err := db.opts.FS.Usage(db.layout.root)
	if err != nil {
		db.log.Warn("cannot tell how much disk is free", "dir", db.layout.root, "err", err)
		return
	}
	switch {
	case min(free, math.MaxInt64) < uint64(db.minFree.Load()):
		db.raiseReadOnly(fmt.Sprintf("%d MiB of disk are free, less than the %d MiB kept in reserve", free>>20, db.minFree.Load()>>20))
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

// memoryRest is how long nothing must have been refused for lack of memory until the condition ends.
const memoryRest = time.Minute

// noteNoMemory raises the condition of a used-up budget if that is what err says.
func (db *DB) noteNoMemory(err error) {
	if _, ok := errors.AsType[*budget.ExceededError](err); ok {
		db.raiseMemory()
	}
}

func (db *DB) raiseMemory() {
	db.sets.empty() // what can be found again gives way first
	db.noMemory.Store(db.now().UnixMilli())
	if db.conds.set(Condition{
		Code:     ConditionMemory,
		Effect:   "the memory budget is used up: new series are refused and counted, known ones, rules and notifications go on",
		NextStep: "find the series that came new in /api/v1/status/tsdb and stop their source, or raise memory.limit",
	}) {
		db.log.Error("the memory budget is used up; new series are refused")
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

// noteUnreadable raises the condition of a block with an unreadable part. Its other parts keep answering.
func (db *DB) noteUnreadable(err error) {
	name := "a block"
	if corrupt, ok := errors.AsType[*block.CorruptError](err); ok {
		name = corrupt.File
	}
	if foreign, ok := errors.AsType[*ForeignDamage](err); ok {
		name = "block " + foreign.Block
	}
	if db.conds.set(Condition{
		Code:     ConditionQuarantined,
		Effect:   fmt.Sprintf("answers over a part of %s lack its samples and carry a warning: %v", name, err),
		NextStep: "restore the block from a backup; the rest of it keeps answering",
	}) {
		db.log.Error("a part of a block is unreadable", "err", err)
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
