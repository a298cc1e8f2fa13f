// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/head"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Stats is what the store holds and did, as of one moment per part.
type Stats struct {
	Head       head.Stats
	Log        journal.Stats
	Cache      block.CacheStats
	Series     SeriesCacheStats
	Blocks     int
	BlockBytes int64
	MinT, MaxT int64 // of all samples, Unix ms; meaningless while Samples is false
	Samples    bool  // whether there are any
	// Durable and Last are LSNs of the log: up to where it would survive a power cut, and where it ends.
	Durable, Last sample.LSN
	// Flushes counts the head slots that became blocks, Failures the runs of maintenance that failed.
	Flushes, Failures uint64
	// Parts is how many files hold samples of the head, PartBytes what they take; Spills counts those that were written.
	Parts     int
	PartBytes int64
	Spills    uint64
	Merges    MergeStats
	// TimeRetentions and SizeRetentions count the runs of the retention that removed blocks by their age and by size.
	TimeRetentions, SizeRetentions uint64
	// FullDeletions counts the blocks that were deleted because the disk was full.
	FullDeletions uint64
	// Foreign says how far the conversion of another program's blocks is.
	Foreign ForeignStats
}

// Stats returns the counters of the moment.
func (db *DB) Stats() Stats {
	s := Stats{
		Head: db.head.Stats(), Log: db.journal.Stats(), Cache: db.cache.Stats(), Series: db.sets.stats(),
		Durable: db.journal.Synced(), Last: db.journal.Last(),
		Flushes: db.flushes.Load(), Failures: db.failures.Load(), Merges: db.merges.read(), TimeRetentions: db.timeRetentions.Load(), SizeRetentions: db.sizeRetentions.Load(), Foreign: db.foreignStats(),
	}
	s.Parts, s.PartBytes = db.parts.size()
	s.Spills = db.spills.Load()
	s.FullDeletions = db.full.deletions.Load()
	for _, b := range db.blocks.all() {
		s.Blocks++
		s.BlockBytes += b.Size()
	}
	s.MinT, s.Samples = db.OldestSample()
	s.MaxT, _ = db.newestSample()
	return s
}

// Blocks returns the metas of the blocks, by time.
func (db *DB) Blocks() []block.Meta {
	all := db.blocks.all()
	out := make([]block.Meta, len(all))
	for i, b := range all {
		out[i] = b.Meta()
	}
	return out
}

// OldestSample returns the time of the oldest sample of head and blocks.
func (db *DB) OldestSample() (int64, bool) {
	oldest, ok := db.oldestOfHead()
	for _, b := range db.blocks.all() {
		if m := b.Meta(); !ok || m.MinT < oldest {
			oldest, ok = m.MinT, true
		}
	}
	for _, b := range db.foreign.all() {
		if !ok || b.info.MinT < oldest {
			oldest, ok = b.info.MinT, true
		}
	}
	return oldest, ok
}
