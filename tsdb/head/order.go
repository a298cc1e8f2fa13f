// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// order knows which works are applied. Works finish in any order; applied moves over those that have no
// unfinished one before them.
type order struct {
	enqueued atomic.Uint64 // last LSN that was given to a work; written under the sequencer lock
	applied  atomic.Uint64 // all works up to here are applied; written under mu

	mu   sync.Mutex
	done []bool        // guarded by mu; a ring: whether the work of an LSN above applied is finished
	wait chan struct{} // guarded by mu; closed when applied moves; nil while nobody waits
}

func (o *order) start(lsn sample.LSN) {
	o.enqueued.Store(uint64(lsn))
	o.applied.Store(uint64(lsn))
	o.done = make([]bool, 64)
}

// finish notes that the work of lsn is applied in all shards.
func (o *order) finish(lsn sample.LSN) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.applied.Load()
	for uint64(lsn)-at >= uint64(len(o.done)) {
		o.growLocked(at)
	}
	mask := uint64(len(o.done) - 1)
	o.done[uint64(lsn)&mask] = true
	moved := at
	for o.done[(moved+1)&mask] {
		moved++
		o.done[moved&mask] = false
	}
	if moved == at {
		return
	}
	o.applied.Store(moved)
	if o.wait != nil {
		close(o.wait)
		o.wait = nil
	}
}

func (o *order) growLocked(at uint64) {
	old := o.done
	o.done = make([]bool, 2*len(old))
	for i := range uint64(len(old)) {
		lsn := at + i
		o.done[lsn&uint64(len(o.done)-1)] = old[lsn&uint64(len(old)-1)]
	}
}

// await waits until everything up to lsn is applied, or ctx is done.
func (o *order) await(ctx context.Context, lsn sample.LSN) error {
	for o.applied.Load() < uint64(lsn) {
		o.mu.Lock()
		if o.applied.Load() >= uint64(lsn) {
			o.mu.Unlock()
			return nil
		}
		if o.wait == nil {
			o.wait = make(chan struct{})
		}
		wait := o.wait
		o.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
