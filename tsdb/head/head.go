// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/index"
	"github.com/tidemarkdb/tidemark/tsdb/invariant"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Options are the settings of a head. The zero value of each field is its default.
type Options struct {
	// Shards is how many parts are locked apart, a power of two; 0: 16. It must be the same when the log is
	// replayed.
	Shards int
	// SlotMillis is the length of a slot in ms; 0: 2 h. It must not change while the log holds samples.
	SlotMillis int64
	// Account is charged for all memory; nil: not accounted.
	Account *budget.Account
}

const (
	defaultShards     = 16
	defaultSlotMillis = 2 * 60 * 60 * 1000
)

func (o Options) withDefaults() Options {
	if o.Shards == 0 {
		o.Shards = defaultShards
	}
	if o.SlotMillis <= 0 {
		o.SlotMillis = defaultSlotMillis
	}
	if o.Shards < 0 || o.Shards&(o.Shards-1) != 0 {
		invariant.Failf("%d shards: not a power of two", o.Shards)
	}
	return o
}

// Head is the mutable part of the store.
type Head struct {
	opts    Options
	dir     directory
	shards  []*shard
	shift   uint8 // 1<<shift shards
	order   order
	pins    pins
	members members
	works   sync.Pool // of *Work
	copies  sync.Pool // of *Reader

	// drops is the number of calls of DropSlot that are complete, dropping of those that have begun. garbage
	// tells that something was dropped that is not given back yet. maintain is held by who drops or gives back.
	drops, dropping atomic.Uint32
	garbage         atomic.Bool
	maintain        sync.Mutex

	// flushed tells the LSN up to which a block holds the rows of a slot. It is complete before the first
	// Enqueue and only read from then on.
	flushed map[int64]sample.LSN

	// loadedTo is the highest LSN of a row that a checkpoint has of works after its epoch, while the log is replayed; 0 for
	// none and afterwards. It is guarded by the sequencer.
	loadedTo sample.LSN
	// snapshotRun is the constant of that name; tests have smaller ones.
	snapshotRun uint32

	maxT atomic.Int64
	// spilledTo is the time of the newest row of a part that ever was.
	spilledTo atomic.Int64
}

// New returns an empty head that expects LSN 1 next.
func New(o Options) *Head {
	o = o.withDefaults()
	h := &Head{opts: o, shift: uint8(bits.TrailingZeros(uint(o.Shards))), flushed: map[int64]sample.LSN{}, snapshotRun: snapshotRun}
	h.dir.open(o.Account)
	h.shards = make([]*shard, o.Shards)
	for i := range h.shards {
		h.shards[i] = newShard(h, uint32(i))
	}
	h.pins.oldest.Store(math.MaxUint64)
	h.maxT.Store(math.MinInt64)
	h.spilledTo.Store(math.MinInt64)
	h.works.New = func() any { return &Work{head: h} }
	h.copies.New = func() any { return &Reader{} }
	h.order.start(0)
	return h
}

// Close gives back all memory. No other method may run or be called any more.
func (h *Head) Close() error {
	err := h.dir.close()
	for _, s := range h.shards {
		err = errors.Join(err, s.close())
	}
	if err != nil {
		return fmt.Errorf("close head: %w", err)
	}
	return nil
}

// StartAt makes lsn+1 the LSN that is expected next. It belongs to the time before the first Enqueue.
func (h *Head) StartAt(lsn sample.LSN) { h.order.start(lsn) }

// Index returns the label index of the head.
func (h *Head) Index() *index.Mem { return h.dir.index }

// Seed returns what keys the hashes of the head's series.
func (h *Head) Seed() index.Seed { return h.dir.seed }

// Applied returns the LSN up to which every work is applied.
func (h *Head) Applied() sample.LSN { return sample.LSN(h.order.applied.Load()) }

// WaitApplied waits until every work up to lsn is applied, or ctx is done.
func (h *Head) WaitApplied(ctx context.Context, lsn sample.LSN) error {
	return h.order.await(ctx, lsn)
}

// MaxTime returns the time of the newest sample that was ever accepted, and false before there was one.
func (h *Head) MaxTime() (int64, bool) {
	t := h.maxT.Load()
	return t, t != math.MinInt64
}

func (h *Head) noteMaxTime(t int64) { raise(&h.maxT, t) }

// raise makes v at least t.
func raise(v *atomic.Int64, t int64) {
	for {
		old := v.Load()
		if t <= old || v.CompareAndSwap(old, t) {
			return
		}
	}
}

// readLock takes the locks of all shards, in their order, for a look at series of any of them.
func (h *Head) readLock() {
	for _, s := range h.shards {
		s.mu.RLock()
	}
}

func (h *Head) readUnlock() {
	for _, s := range h.shards {
		s.mu.RUnlock()
	}
}

func (h *Head) shardOf(id uint32) *shard { return h.shards[id&uint32(len(h.shards)-1)] }

// local returns the place of series id in the table of its shard.
func (h *Head) local(id uint32) uint32 { return id >> (h.shift & 31) }

// slotOf returns the start of the slot that t is in: the largest multiple of SlotMillis that is not above t.
func (h *Head) slotOf(t int64) int64 {
	slot := t - t%h.opts.SlotMillis
	if slot > t {
		slot -= h.opts.SlotMillis
	}
	return slot
}

// bound takes the times that are not in a whole slot out of limits: there is no start, or no end, to name it by.
func (h *Head) bound(lim Limits) Limits {
	lim.MinT = max(lim.MinT, math.MinInt64+h.opts.SlotMillis)
	lim.MaxT = min(lim.MaxT, math.MaxInt64-h.opts.SlotMillis)
	return lim
}

// slotEnd returns the last ms of the slot that starts at start.
func (h *Head) slotEnd(start int64) int64 {
	if start > math.MaxInt64-h.opts.SlotMillis {
		return math.MaxInt64
	}
	return start + h.opts.SlotMillis - 1
}
