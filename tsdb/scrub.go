// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/block"
)

const (
	// scrubRest is how long the scrub waits between two blocks at least, and where there is none.
	scrubRest = time.Minute
	// scrubFloor is how many bytes it reads in a second at least: a small store is through within hours.
	scrubFloor = 4 << 10
)

// errBlockGone ends the scrub of a block that is no block of the store any more.
var errBlockGone = errors.New("the block was replaced")

// scrubLoop reads all blocks again and again, slowly, until ctx ends.
func (db *DB) scrubLoop(ctx context.Context) {
	defer db.loops.Done()
	if db.opts.Scrub < 0 {
		return
	}
	for sleep(ctx, scrubRest) {
		if err := db.scrubPass(ctx, db.scrubPace); err != nil && ctx.Err() == nil {
			db.log.Warn("reading the blocks again to find damage failed; it is begun anew", "err", err)
		}
	}
}

// sleep waits; false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// scrubPace waits for as long as so many bytes take at the rate asked for.
func (db *DB) scrubPace(ctx context.Context, bytes int64) error {
	total := int64(0)
	for _, b := range db.blocks.all() {
		total += b.Size()
	}
	rate := max(float64(total)*db.opts.Scrub/time.Hour.Seconds(), scrubFloor)
	if !sleep(ctx, time.Duration(float64(bytes)/rate*float64(time.Second))) {
		return ctx.Err()
	}
	return nil
}

// scrubPass reads the blocks there are once. What is damaged is told by the condition at once, before a query meets it;
// the condition that a scrub has raised ends with a pass that finds nothing.
func (db *DB) scrubPass(ctx context.Context, pace func(context.Context, int64) error) error {
	found := false
	for _, b := range db.blocks.all() {
		if !b.Acquire() {
			continue
		}
		err := b.Scrub(ctx, block.Check{
			Before: func(ctx context.Context, bytes int64) error {
				if !slices.ContainsFunc(db.blocks.all(), func(x storedBlock) bool { return x.Block == b.Block }) {
					return errBlockGone // its file takes disk as long as it is held
				}
				return pace(ctx, bytes)
			},
			Found: func(d block.Damage) {
				found = true
				if !db.conds.has(ConditionQuarantined) {
					db.scrubRaised.Store(true)
				}
				db.noteUnreadable(d.Err)
			},
		})
		b.Release()
		if err != nil && !errors.Is(err, errBlockGone) {
			return err
		}
	}
	if !found && db.scrubRaised.Swap(false) && db.conds.clear(ConditionQuarantined) {
		db.log.Info("all blocks can be read again")
	}
	return nil
}
