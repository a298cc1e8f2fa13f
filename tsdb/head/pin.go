// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Pin holds one state of the head still: that after the works up to its epoch, and no later one. It costs
// memory in proportion to the series that are appended to while it is open. A Pin is safe for concurrent use
// until Close.
type Pin struct {
	head   *Head
	epoch  sample.LSN
	drops  uint32 // number of the last drop that the pin does not see; rows dropped later are still its own
	slots  uint32 // how many of them dropped slots
	closed atomic.Bool
}

// pins are the open pins. Their epochs and drop numbers never fall from one to the next.
type pins struct {
	mu   sync.Mutex
	open []*Pin // guarded by mu; in the order of their making
	// slotDrops is how many of the drops took slots, so that series may have left by them; guarded by mu.
	slotDrops uint32

	// What the shards ask without the lock; both are exact for works enqueued before or after, see guard.
	newest atomic.Uint64 // epoch of the newest open pin, 0 for none
	oldest atomic.Uint64 // epoch of the oldest open pin, MaxUint64 for none
}

// Pin pins the state after the last enqueued work. The caller holds the sequencer lock, and afterwards, without
// it, waits for WaitApplied(Epoch()) before it reads.
func (h *Head) Pin() *Pin {
	h.pins.mu.Lock()
	defer h.pins.mu.Unlock()
	p := &Pin{head: h, epoch: sample.LSN(h.order.enqueued.Load())}
	p.drops, p.slots = h.drops.Load(), h.pins.slotDrops
	h.pins.open = append(h.pins.open, p)
	h.pins.noteLocked()
	return p
}

// Epoch returns the LSN of the last work that the pin sees.
func (p *Pin) Epoch() sample.LSN { return p.epoch }

// Close lets the head go on without the pinned state. Closing twice is allowed.
func (p *Pin) Close() {
	if p.closed.Swap(true) {
		return
	}
	h := p.head
	h.pins.mu.Lock()
	i := slices.Index(h.pins.open, p)
	if i >= 0 {
		h.pins.open = slices.Delete(h.pins.open, i, i+1)
	}
	h.pins.noteLocked()
	h.pins.mu.Unlock()
	// Where another is at it, what this pin held is given back the next time.
	if i == 0 && h.garbage.Load() && h.maintain.TryLock() {
		defer h.maintain.Unlock()
		h.reclaimLocked()
	}
}

func (ps *pins) noteLocked() {
	newest, oldest := uint64(0), uint64(math.MaxUint64)
	if n := len(ps.open); n > 0 {
		newest, oldest = uint64(ps.open[n-1].epoch), uint64(ps.open[0].epoch)
	}
	ps.newest.Store(newest)
	ps.oldest.Store(oldest)
}

// at returns the open pin of an epoch, nil if there is none.
func (ps *pins) at(epoch sample.LSN) *Pin {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.open {
		if p.epoch == epoch {
			return p
		}
	}
	return nil
}

// reclaimable returns what no open pin can see any more: rows dropped by a drop of at most this number, series
// that ended at an LSN of at most this one.
func (h *Head) reclaimable() (drops uint32, ended sample.LSN) {
	h.pins.mu.Lock()
	defer h.pins.mu.Unlock()
	drops, ended = h.drops.Load(), sample.LSN(math.MaxUint64)
	if len(h.pins.open) > 0 {
		drops, ended = h.pins.open[0].drops, h.pins.open[0].epoch
	}
	return drops, ended
}

// epochs returns the epochs of the open pins, which ascend.
func (ps *pins) epochs() []sample.LSN {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	out := make([]sample.LSN, 0, len(ps.open))
	for _, p := range ps.open {
		out = append(out, p.epoch)
	}
	return out
}
