// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"github.com/tidemarkdb/tidemark/tsdb/arena"
)

// gatherRun is how many series are looked at under one hold of a lock: 100 to 200 us.
const gatherRun = 1024

// gatherShare is which part of what is in use must be lost between blocks for it to be worth moving them.
const gatherShare = 8

// Gather moves streams and labels together where they lie scattered: streams of one size are few once most of them have
// grown, or have been put aside, and labels when many series have left. It holds no lock for long.
func (h *Head) Gather() {
	for _, s := range h.shards {
		s.gather()
	}
	h.dir.gather()
}

// Trim gives all idle memory for streams and labels to the operating system, for when memory is short.
func (h *Head) Trim() {
	for _, s := range h.shards {
		s.mu.Lock()
		s.bytes.Trim()
		s.mu.Unlock()
	}
	h.dir.mu.Lock()
	defer h.dir.mu.Unlock()
	h.dir.bytes.Trim()
}

// worthGathering reports whether much of an arena could be given back, and has it choose what to move.
func worthGathering(a *arena.Arena) bool {
	st := a.Stats()
	return st.Committed-st.InUse > st.InUse/gatherShare && a.Sift() > st.InUse/gatherShare/2
}

func (s *shard) gather() {
	s.mu.Lock()
	s.bytes.Rest()
	worth := worthGathering(s.bytes)
	s.mu.Unlock()
	if !worth {
		return
	}
	s.eachRunOf(gatherRun, func(from, to uint32) {
		for local := from; local < to; local++ {
			s.gatherSeriesLocked(s.headers.at(local), s.footers.at(local))
		}
	})
}

func (s *shard) gatherSeriesLocked(hd *header, ft *footer) {
	if hd.open != 0 {
		hd.open = s.bytes.Move(hd.open)
	}
	moved := false
	for link := &ft.closed; *link != 0; link = &s.chunkAt(*link).older {
		if to := s.bytes.Move(*link); to != *link {
			*link, moved = to, true
		}
	}
	if moved {
		s.rejumpLocked(ft)
	}
}

func (d *directory) gather() {
	d.mu.Lock()
	worth := worthGathering(d.bytes)
	d.mu.Unlock()
	if !worth {
		return
	}
	for from, end := uint32(0), uint32(1); from < end; from += gatherRun {
		d.mu.Lock()
		end = d.entries.len()
		for id := from; id < min(from+gatherRun, end); id++ {
			if e := d.entries.at(id); e.labels != 0 {
				e.labels = d.bytes.Move(e.labels)
			}
		}
		d.mu.Unlock()
	}
}
