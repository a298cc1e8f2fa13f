// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// What uses memory up is series: each of them is there until it has been silent for a slot. Samples come and go, because
// they are put aside in parts, but only when a series has some of them together. So a series is refused while there is
// room for it still, and the rest is left to the samples of those that there are; what nothing but time is lost with,
// caches and idle memory of arenas, gives way before any of them is refused.

const (
	// roomPerSeries is how many bytes are left to the samples of each series: as many as spillLeast of the worst kind
	// take, about, in an open chunk.
	roomPerSeries = 80
	// tightShare is which part of the budget must be left for nothing to give way.
	tightShare = 16
	// spillGain is how many bytes for each of its series a shard must hold to be spilled then: a part costs too.
	spillGain = 16
	// memoryRest is how long nothing must have been refused for lack of memory until the condition ends. Where there is
	// room again it ends after roomRest.
	memoryRest = time.Minute
	roomRest   = 3 * time.Second
)

// admitSeries says whether there is room for n bytes of new series and for the samples of all. The error is a
// *budget.ExceededError.
func (db *DB) admitSeries(n int64) error {
	b := db.opts.Budget
	limit := b.Limit()
	if limit <= 0 || !db.whole() {
		return nil // what a start must take is not refused
	}
	if used := b.Used() + n; used > limit/2 && used+db.roomForSamples() > limit {
		return &budget.ExceededError{Account: "series", Limit: limit, Used: used - n, Want: n}
	}
	return nil
}

// roomForSamples is what the samples of the series that there are may take beyond what they take now.
func (db *DB) roomForSamples() (n int64) {
	for _, x := range db.head.Loads() {
		n += max(0, int64(x.Series)*roomPerSeries-x.Bytes)
	}
	return n
}

// liftMemory has nothing refused to the head, for the moment until what it takes gives back more, or is over; restore ends
// that. The maintenance lock is held, and the head is whole.
func (db *DB) liftMemory() (restore func()) {
	db.memory.SetExempt(true)
	return func() { db.memory.SetExempt(false) }
}

// makeWay gives back memory where little of it is left: what nothing but time is lost with, and then samples, also those
// that are few of their series.
func (db *DB) makeWay(ctx context.Context) error {
	refused := db.refused.Swap(false)
	if !refused && !db.tight() {
		return nil
	}
	db.sets.empty()
	db.cache.Resize(0)
	db.cache.Resize(db.opts.BlockCache)
	db.head.Trim()
	if !refused && !db.tight() {
		return nil
	}
	for _, x := range db.head.Loads() {
		if x.Bytes < spillGain*int64(x.Series) {
			continue
		}
		if err := db.spillShard(ctx, x.Shard, 1, 1); err != nil {
			return err
		}
	}
	db.head.Gather()
	db.head.Trim()
	return nil
}

// tight reports whether little memory is left.
func (db *DB) tight() bool {
	limit := db.opts.Budget.Limit()
	return limit > 0 && db.opts.Budget.Used() > limit-limit/tightShare
}

// noteNoMemory raises the condition of a used-up budget if that is what err says.
func (db *DB) noteNoMemory(err error) {
	if _, ok := errors.AsType[*budget.ExceededError](err); ok {
		db.raiseMemory()
	}
}

func (db *DB) raiseMemory() {
	db.noMemory.Store(db.now().UnixMilli())
	if db.conds.set(Condition{
		Code:     ConditionMemory,
		Effect:   "the memory budget is used up: new series are refused and counted, known ones, rules and notifications go on",
		NextStep: "find the series that came new in /api/v1/status/tsdb and stop their source, or raise memory.limit",
	}) {
		db.sets.empty() // what can be found again gives way first
		db.log.Error("the memory budget is used up; new series are refused")
	}
}

// watchMemory ends the condition when nothing is refused any more: at once where there is room again, after a while where
// nobody may have asked.
func (db *DB) watchMemory() {
	last := db.noMemory.Load()
	if last == 0 || !db.conds.has(ConditionMemory) {
		return
	}
	rest := memoryRest
	if limit := db.opts.Budget.Limit(); db.admitSeries(limit/64) == nil {
		rest = roomRest
	}
	if db.now().UnixMilli()-last > rest.Milliseconds() && db.conds.clear(ConditionMemory) {
		db.log.Info("there is memory for new series again")
	}
}
