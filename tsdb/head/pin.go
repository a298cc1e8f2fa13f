// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
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
	p := &Pin{head: h, epoch: sample.LSN(h.order.enqueued.Load())}
	h.pins.mu.Lock()
	defer h.pins.mu.Unlock()
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

// version is the state that a series had for the epochs from <= epoch < to.
type version struct {
	id       uint32 // of the series, local
	older    uint64 // number + 1 of the version before this one, 0 for none; good while that one is in the ring
	from, to sample.LSN
	chunks   uint32 // chunks that were closed
	n        uint16 // samples of the open chunk
	kind     sample.Kind
	gone     bool // the newest sample was deleted
	kept     bool // no chunk was open, but the newest sample was in a closed one or in a part
	lastT    int64
	last     uint64
}

// versions is a ring of versions in the order of to, which is the order of their making. So what no pin needs
// any more is at its front as a rule, and forgetting is moving the front; what many short pins leave behind one that
// stays open goes when the ring is full. Versions are numbered; the number of one that has left the ring means
// nothing.
type versions struct {
	account *budget.Account // charged for the ring, where it has room: an append that is logged must not fail
	charged int64
	ring    []version
	idle    int    // works since the ring was last needed
	front   uint64 // number of the oldest
	next    uint64 // number of the next
}

// full reports whether the ring has to grow for one more.
func (r *versions) full() bool { return int(r.next-r.front) == len(r.ring) }

// compact drops the versions that no open pin needs, wherever they are, and numbers the others anew. open is the
// epochs of the pins, which ascend; link returns where a series keeps the number + 1 of its newest version.
func (r *versions) compact(open []sample.LSN, link func(id uint32) *uint64) {
	mask, next := len(r.ring)-1, r.front
	moved := make([]uint64, r.next-r.front) // number + 1 that stands for each version now, 0 for none
	for i := r.front; i != r.next; i++ {
		v := r.ring[int(i)&mask]
		if v.older > r.front {
			v.older = moved[v.older-1-r.front]
		} else {
			v.older = 0
		}
		if k, _ := slices.BinarySearch(open, v.from); k < len(open) && open[k] < v.to {
			r.ring[int(next)&mask] = v
			next++
			moved[i-r.front] = next
		} else {
			moved[i-r.front] = v.older
		}
		if newest := link(v.id); *newest == i+1 {
			*newest = moved[i-r.front]
		}
	}
	r.next = next
	if 2*int(r.next-r.front) > len(r.ring) {
		r.grow() // the next time is far off
	}
}

func (r *versions) grow() {
	bigger := make([]version, max(64, 2*len(r.ring)))
	for i := r.front; i != r.next; i++ {
		bigger[int(i)&(len(bigger)-1)] = r.ring[int(i)&(len(r.ring)-1)]
	}
	r.ring = bigger
	r.charge()
}

// push adds v and returns its number + 1.
func (r *versions) push(v version) uint64 {
	if r.full() {
		r.grow()
	}
	r.ring[int(r.next)&(len(r.ring)-1)] = v
	r.next++
	r.idle = 0
	return r.next
}

// get returns version number link-1 if it is in the ring and of series id, else nil.
func (r *versions) get(link uint64, id uint32) *version {
	i := link - 1
	if link == 0 || i-r.front >= r.next-r.front {
		return nil
	}
	if v := &r.ring[int(i)&(len(r.ring)-1)]; v.id == id {
		return v
	}
	return nil
}

// keptVersions is how many versions an idle ring may keep room for, 72 KiB; a larger one is kept for idleWorks works,
// because pins usually come one after the other.
const (
	keptVersions = 1024
	idleWorks    = 1024
)

// forget drops the versions that no epoch from oldest on needs.
func (r *versions) forget(oldest sample.LSN) {
	for r.front != r.next && r.ring[int(r.front)&(len(r.ring)-1)].to <= oldest {
		r.front++
	}
	if r.idle++; r.front == r.next && r.idle > idleWorks && len(r.ring) > keptVersions {
		r.ring = nil
		r.charge()
	}
}

const versionBytes = 72 // unsafe.Sizeof(version{})

// charge brings what is charged in line with the ring.
func (r *versions) charge() {
	want := int64(len(r.ring)) * versionBytes
	if want < r.charged {
		r.account.Release(r.charged - want)
		r.charged = want
	} else if r.account.Reserve(want-r.charged) == nil {
		r.charged = want
	}
}
