// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// A checkpoint is written while works go on, so that it has of each series what came up to an LSN of its own, which is the
// epoch or later. A replay begins behind the epoch. What it would do twice it leaves out: what a row is judged by would not
// be what it was the first time.

// LoadedTo returns the highest LSN of a work of which LoadSnapshot has brought rows, at least that of the epoch.
func (h *Head) LoadedTo() sample.LSN { return max(h.loadedTo, sample.LSN(h.order.enqueued.Load())) }

// noteLoadedLocked makes known that a checkpoint has what became of a series up to an LSN after its epoch.
func (s *shard) noteLoadedLocked(local uint32, upTo sample.LSN) error {
	if n := int(local) + 1; n > cap(s.loaded) {
		more := max(n, 2*cap(s.loaded))
		if err := s.head.opts.Account.Reserve(loadedBytes(more - cap(s.loaded))); err != nil {
			return err
		}
		s.loaded = append(make([]sample.LSN, 0, more), s.loaded...)
	}
	if n := int(local) + 1; n > len(s.loaded) {
		s.loaded = s.loaded[:n]
	}
	s.loaded[local] = upTo
	return nil
}

func loadedBytes(n int) int64 { return int64(n) * int64(unsafe.Sizeof(sample.LSN(0))) }

// forgetLoadedLocked ends the replay for a shard.
func (s *shard) forgetLoadedLocked() {
	s.head.opts.Account.Release(loadedBytes(cap(s.loaded)))
	s.loaded = nil
}

// leaveLoaded takes out of a work of the log what a checkpoint has of it.
func (h *Head) leaveLoaded(w *Work) {
	if w.change != nil && w.change.free {
		return // it would not be there
	}
	w.rows.keep(func(shard, i uint32) bool {
		ref := sample.Ref(0)
		if w.change != nil {
			ref = w.change.refs[i]
		} else {
			ref = w.batch.Ref[i]
		}
		loaded, local := h.shards[shard].loaded, h.local(ref.ID())
		return local >= uint32(len(loaded)) || loaded[local] < w.lsn
	})
}

// keep drops the numbers that f does not say stay.
func (p *parts) keep(f func(shard, number uint32) bool) {
	n := uint32(0)
	for s := range len(p.from) - 1 {
		list := p.of(uint32(s))
		p.from[s] = n
		for _, i := range list {
			if f(uint32(s), i) {
				p.list[n] = i
				n++
			}
		}
	}
	p.from[len(p.from)-1] = n
	p.list = p.list[:n]
}
