// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// counts are what a shard counts. Only the sums over all shards mean anything.
type counts struct {
	Series, Chunks int
	Samples        [3]uint64 // stored since the start, by sample.Kind
	Late           uint64    // of them
	Reasons        [sample.Reasons]uint64
}

func (c *counts) note(r *row, late bool) {
	c.Samples[r.kind]++
	if late {
		c.Late++
	}
}

// Stats tells what the head holds and did.
type Stats struct {
	Series  int // that live
	Chunks  int // closed ones
	Samples [3]uint64
	Late    uint64
	// Reasons counts the rows that were not Accepted, by sample.Reason.
	Reasons [sample.Reasons]uint64
	// MinT and MaxT bound the samples that the head holds, in ms; both are 0 if it holds none.
	MinT, MaxT int64
	// Held is how many samples the head holds, Bytes what its arenas and its index take.
	Held  int
	Bytes int64
	// Pins is how many are open, Versions how many states of series are kept for them.
	Pins, Versions int
}

// Stats returns the counters of the moment. They are sums over shards that are looked at one after the other.
func (h *Head) Stats() Stats {
	st := Stats{MinT: math.MaxInt64, MaxT: math.MinInt64, Bytes: h.dir.size()}
	for _, s := range h.shards {
		s.mu.RLock()
		st.Series += s.counts.Series
		st.Chunks += s.counts.Chunks
		st.Late += s.counts.Late
		for k, n := range s.counts.Samples {
			st.Samples[k] += n
		}
		for r, n := range s.counts.Reasons {
			st.Reasons[r] += n
		}
		for _, c := range s.slots {
			if n := c.inOrder + c.late; n > 0 {
				st.Held += n
				st.MinT, st.MaxT = min(st.MinT, c.mint), max(st.MaxT, c.maxt)
			}
		}
		st.Versions += int(s.versions.next - s.versions.front)
		st.Bytes += s.headers.records.Bytes() + s.footers.records.Bytes() + s.bytes.Stats().Committed
		s.mu.RUnlock()
	}
	if st.Held == 0 {
		st.MinT, st.MaxT = 0, 0
	}
	h.pins.mu.Lock()
	defer h.pins.mu.Unlock()
	st.Pins = len(h.pins.open)
	return st
}

// size returns the memory that the directory and its index take.
func (d *directory) size() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.entries.records.Bytes() + d.bytes.Stats().Committed + d.table.bytes() + d.index.Bytes()
}
