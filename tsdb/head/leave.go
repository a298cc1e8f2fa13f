// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// leaveRun is how many series are given back under one hold of a lock: 100 to 200 us.
const leaveRun = 512

// releaseEnded empties the headers of the series that no pin sees, and appends their ids to gone, which nobody is given
// before the directory has them back. Series that came together leave together: where all of a page of memory have, it
// goes too. It holds the lock for some series at a time; h.maintain keeps others from it.
func (s *shard) releaseEnded(drops uint32, epoch sample.LSN, gone []uint32) []uint32 {
	leaving := s.leaving(drops, epoch)
	slices.Sort(leaving)
	for run := range slices.Chunk(leaving, leaveRun) {
		s.mu.Lock()
		for _, local := range run {
			s.emptySeriesLocked(local)
			delete(s.ended, local)
			gone = append(gone, s.id(local))
		}
		s.mu.Unlock()
	}
	vacateAll(s, &s.headers, leaving)
	vacateAll(s, &s.footers, leaving)
	return gone
}

// leaving returns the series that have left and that no pin sees.
func (s *shard) leaving(drops uint32, epoch sample.LSN) (out []uint32) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for local, e := range s.ended {
		if e.lsn <= epoch && e.drops <= drops {
			out = append(out, local)
		}
	}
	return out
}

// vacateAll gives back the pages of memory of a shard's table of which all records are zero again, among those of the
// records given, which ascend.
func vacateAll[T comparable](s *shard, t *table[T], used []uint32) {
	next := uint32(0)
	for _, local := range used {
		if local < next {
			continue
		}
		s.mu.Lock()
		next = vacate(t, local)
		s.mu.Unlock()
	}
}
