// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Lookup returns the series of ls, if there is one.
func (h *Head) Lookup(ls labels.Labels) (sample.Ref, bool) { return h.dir.lookup(ls) }

// Live reports whether ref names a series.
func (h *Head) Live(ref sample.Ref) bool {
	s := h.shardOf(ref.ID())
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, hd := s.findLocked(ref)
	return hd != nil
}

// Reserve gives ls a Ref. Rows may be committed with it, but Lookup and Select find the series only after Publish.
// The caller holds the sequencer lock and knows that Lookup does not find ls. The error is a
// *budget.ExceededError.
func (h *Head) Reserve(ls labels.Labels) (sample.Ref, error) {
	ref, err := h.reserve(ls, 0)
	if err != nil {
		return 0, fmt.Errorf("reserve series: %w", err)
	}
	return ref, nil
}

func (h *Head) reserve(ls labels.Labels, want sample.Ref) (sample.Ref, error) {
	ref, err := h.dir.reserve(ls, want)
	if err != nil {
		return 0, err
	}
	s := h.shardOf(ref.ID())
	s.mu.Lock()
	defer s.mu.Unlock()
	for local := h.local(ref.ID()); s.headers.len() <= local; {
		if _, err := s.headers.take(); err != nil {
			h.dir.unreserve(ref)
			return 0, err
		}
	}
	*s.headers.at(h.local(ref.ID())) = header{gen: ref.Generation()}
	s.counts.Series++
	return ref, nil
}

// Unreserve forgets a series that Reserve made and that was not published.
func (h *Head) Unreserve(ref sample.Ref) {
	s := h.shardOf(ref.ID())
	s.mu.Lock()
	defer s.mu.Unlock()
	if local, hd := s.findLocked(ref); hd != nil && hd.changed == 0 {
		s.headers.at(local).gen = 0
		s.counts.Series--
		h.dir.unreserve(ref)
	}
}

// Publish makes a reserved series findable. The caller holds the sequencer lock and has logged the series. On
// error, a *budget.ExceededError, the series is gone again: its rows will be StaleRef.
func (h *Head) Publish(ref sample.Ref, _ labels.Labels) error {
	if err := h.dir.publish(ref); err != nil {
		h.Unreserve(ref)
		return fmt.Errorf("publish series: %w", err)
	}
	return nil
}

// Restore makes a series with the Ref it had when it was logged. One that is there already, from a checkpoint,
// stays as it is. A series that the log has not ended, though its id is in use again, was never published; it
// goes.
func (h *Head) Restore(ref sample.Ref, ls labels.Labels) error {
	if ref.Generation() == 0 {
		return fmt.Errorf("restore series: ref %#x has no generation", uint64(ref))
	}
	if have, ok := h.dir.lookup(ls); ok {
		if have == ref {
			return nil
		}
		if have.ID() != ref.ID() {
			return fmt.Errorf("restore series %s: it is there already as %#x, not %#x", ls, uint64(have), uint64(ref))
		}
	}
	if gen := h.dir.generation(ref.ID()); gen >= ref.Generation() {
		return fmt.Errorf("restore series %s: generation %d of its id was there before", ls, gen)
	}
	h.evict(ref.ID())
	if h.garbage.Load() {
		h.Reclaim()
	}
	if _, err := h.reserve(ls, ref); err != nil {
		return fmt.Errorf("restore series %s: %w", ls, err)
	}
	return h.Publish(ref, ls)
}

// evict ends the series that has an id, if there is one.
func (h *Head) evict(id uint32) {
	s := h.shardOf(id)
	s.mu.Lock()
	local := h.local(id)
	if local >= s.headers.len() || s.headers.at(local).gen == 0 {
		s.mu.Unlock()
		return
	}
	s.endLocked(sample.MakeRef(s.headers.at(local).gen, id), 0)
	s.mu.Unlock()
}
