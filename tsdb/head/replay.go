// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import "github.com/tidemarkdb/tidemark/tsdb/sample"

// While the log is replayed nobody waits for a single work, and all of them come in their order. So they are not applied
// one after the other but by a few goroutines, each of which applies all of them to shards of its own: no lock is
// waited for, and the headers of fewer series are in use at a time.

// PrepareReplay is Prepare for a work of the log. It looks into no part ahead: what series hold is not known before the
// works in front of it are applied.
func (h *Head) PrepareReplay(b *sample.Batch, lim Limits) *Work { return h.prepare(b, lim) }

// ApplyShare applies the work, and those queued before it, to each shard whose number divided by shares leaves share.
// The call that completes the last share ends the work: it fills res and returns true. All works of a replay have as
// many shares.
func (h *Head) ApplyShare(w *Work, share, shares int, res *sample.Result) bool {
	for i := share; i < len(h.shards); i += shares {
		if w.concerns(uint32(i)) {
			h.shards[i].applyUntil(w)
		}
	}
	if int(w.shares.Add(1)) < shares {
		return false
	}
	w.shares.Store(0)
	lsn := w.lsn
	w.fill(res)
	w.Discard()
	h.order.finish(lsn)
	return true
}
