// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Options are the settings of a store. The zero value of each field but Dir is its default.
type Options struct {
	// Dir is the data path. It may hold a Prometheus data directory too: only <Dir>/tidemark and <Dir>/lock
	// are ever written.
	Dir string
	// FS is the file system; nil: the operating system's.
	FS fsx.FS

	// Retention is how long samples are kept, measured from min(now, newest sample); 0: for ever.
	Retention time.Duration
	// RetentionBytes is how much disk blocks, log and checkpoints may take together, the oldest blocks going
	// first; 0: no limit.
	RetentionBytes int64
	// RetentionPolicies are how long series are kept that they match, instead of Retention; the first one that matches
	// counts. At most MaxRetentionPolicies.
	RetentionPolicies []RetentionPolicy
	// MaxFuture is how far ahead of now a sample may be; 0: 10 minutes, negative: no limit.
	MaxFuture time.Duration
	// Late says which samples older than the newest of their series are taken.
	Late LateWindows
	// NoLock opens the directory without taking its lock file.
	NoLock bool

	// Sync says when a commit counts as durable: journal.Durable (default) or journal.Process.
	Sync journal.Mode
	// SegmentBytes is the size of a log segment, at least 64 KiB; 0: 64 MiB.
	SegmentBytes int64
	// MinFree is the free disk space in bytes below which the store is read-only; 0: no such limit.
	MinFree int64
	// DeleteOldest deletes the oldest blocks where less than MinFree is free, instead; the store is read-only only once
	// none is left.
	DeleteOldest bool

	// Foreign reads what another program left in Dir, to be queried in place and converted; nil: it is not looked at.
	Foreign Foreign
	// ForeignInPlace leaves what was found as it is: it is queried and not converted.
	ForeignInPlace bool
	// DeleteForeign deletes the originals once they are converted; false: they stay as they are.
	DeleteForeign bool

	// Slot is the length of a head slot and of the blocks cut from it; 0: 2 h. It and Shards are fixed when
	// the store is created; what is given later is ignored.
	Slot time.Duration
	// UndoFor is how long a delete can be undone, until the next merge at least; 0: 24 hours, negative: not at all.
	UndoFor time.Duration
	// Scrub is which part of the bytes of all files is read again within an hour, to find what the disk has lost before
	// somebody asks for it; 0: 1 %, negative: none.
	Scrub float64
	// ScrubBytes is how many bytes are read so, instead of a part of all; 0: Scrub counts.
	ScrubBytes int64
	// MaxBlock is the longest time that a merged block is of; 0: a tenth of the retention, at most 31 days.
	MaxBlock time.Duration
	// Shards is the number of parts of the head that are locked apart, a power of two; 0: 16.
	Shards int

	// Tap makes what is told of all that is committed; nil: nobody is. It is called during Start, and closed with the store.
	Tap func(*DB) (Tap, error)
	// Budget is charged for what the store holds in memory; nil: not accounted.
	Budget *budget.Account
	// BlockCache is the size in bytes of the cache of block stripes; 0: 64 MiB.
	BlockCache int64
	// SeriesCache is the size in bytes of the cache of series selections; 0: 64 MiB.
	SeriesCache int64
	// Now tells the time; nil: time.Now. Tests of what takes long set it.
	Now func() time.Time
	// Logger takes one line per change of state; nil: silent.
	Logger *slog.Logger

	// restoreStep is called before each record that is applied during the start, by tests that look at every moment.
	restoreStep func(lsn sample.LSN)
	// checkpointStep is called before each frame of a checkpoint, by tests that write meanwhile.
	checkpointStep func()
}

// LateWindows are how far behind the newest sample of the store a sample may be that is older than the newest of
// its series; AllRetention: as far as samples are kept.
type LateWindows struct {
	Push   *time.Duration // of pushed samples; nil: AllRetention
	Scrape time.Duration  // of scraped ones; 0: not at all, as in Prometheus
}

// AllRetention as a late window reaches as far back as samples are kept.
const AllRetention = time.Duration(math.MaxInt64)

const (
	defaultMaxFuture    = 10 * time.Minute
	defaultSlot         = 2 * time.Hour
	defaultShards       = 16
	defaultScrub        = 0.01
	defaultSegmentBytes = 64 << 20
	defaultBlockCache   = 64 << 20
	defaultSeriesCache  = 64 << 20
	minSegmentBytes     = 64 << 10
	// After so many bytes of log a checkpoint is written: as many as it has itself, so that a restart has at most as much to
	// replay as to load and the disk gets twice what is logged; but never after less than leastLog, nor more than mostLog,
	// which is 7 M samples. A checkpoint holds the series and the chunks that are open, some 70 bytes a series.
	leastLog, mostLog = 8 << 20, 32 << 20
)

func (o Options) validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("no data path given"))
	}
	if o.Retention < 0 || o.RetentionBytes < 0 {
		errs = append(errs, errors.New("retention must not be negative; 0 keeps for ever"))
	}
	errs = append(errs, checkPolicies(o.RetentionPolicies))
	if o.Late.Scrape < 0 || (o.Late.Push != nil && *o.Late.Push < 0) {
		errs = append(errs, errors.New("the window for late samples must not be negative"))
	}
	if o.SegmentBytes != 0 && o.SegmentBytes < minSegmentBytes {
		errs = append(errs, fmt.Errorf("log segments of %d bytes are too small: at least %d", o.SegmentBytes, minSegmentBytes))
	}
	if o.Slot < 0 || (o.Slot > 0 && o.Slot < time.Second) {
		errs = append(errs, fmt.Errorf("a slot of %s is too short: at least 1s", o.Slot))
	}
	if o.Shards < 0 || o.Shards&(o.Shards-1) != 0 {
		errs = append(errs, fmt.Errorf("%d shards: must be a power of two", o.Shards))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = fsx.OS()
	}
	if o.MaxFuture == 0 {
		o.MaxFuture = defaultMaxFuture
	}
	if o.Slot == 0 {
		o.Slot = defaultSlot
	}
	if o.UndoFor == 0 {
		o.UndoFor = undoFor
	}
	if o.Scrub == 0 {
		o.Scrub = defaultScrub
	}
	if o.Shards == 0 {
		o.Shards = defaultShards
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	if o.BlockCache == 0 {
		o.BlockCache = defaultBlockCache
	}
	if o.SeriesCache == 0 {
		o.SeriesCache = defaultSeriesCache
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
