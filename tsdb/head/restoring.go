// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import "github.com/tidemarkdb/tidemark/tsdb/sample"

// A store that starts again brings its head back in two steps. First the registry: the checkpoint, and of the log
// behind it the records of series that came and left, in their order. From then on every Ref of the log, and every new
// one, means what it will mean, so that series may be reserved and published. Then the rows: the log is applied from
// the checkpoint on, but for those records. Series that have left are not there any more when their rows come; those
// are StaleRef, and nothing is missing, since a series leaves only when blocks hold its samples.

// Registered ends the first step; StartAt comes next. It returns how many series have rows in parts but are not in the
// log, which lost them: they cannot be read, and their ids are never given out again with their generations.
func (h *Head) Registered() (lost int) {
	h.Reclaim()
	for _, s := range h.shards {
		s.mu.Lock()
		if r := s.recovering; r != nil {
			lost += s.loseUnknownLocked(r)
		}
		s.mu.Unlock()
	}
	return lost
}

// loseUnknownLocked makes parts leave the series out that are not there, and returns how many those are.
func (s *shard) loseUnknownLocked(r *recoveredParts) (lost int) {
	for local, gen := range r.gens {
		if gen == 0 || uint32(local) < s.headers.len() && s.headers.at(uint32(local)).gen == gen {
			continue
		}
		for _, x := range s.parts {
			x.exclude(uint32(local))
		}
		for _, covered := range r.covered {
			if local < len(covered) {
				covered[local] = coversNone
			}
		}
		r.gens[local] = 0
		s.head.dir.burn(s.id(uint32(local)), gen)
		lost++
	}
	return lost
}

// Expect makes known that a row of time t is in the log, before it is applied: late is what is older than the newest
// row that there is.
func (h *Head) Expect(t int64) { h.noteMaxTime(t) }

// Ended reports whether ref named a series once that has left: the log has the end of it, or another one with its id.
func (h *Head) Ended(ref sample.Ref) bool {
	return h.dir.generation(ref.ID()) >= ref.Generation() && !h.Live(ref)
}
