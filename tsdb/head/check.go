// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Row is one sample as Check takes it; of V, H and FH the one that is set counts.
type Row struct {
	Ref   sample.Ref
	T     int64
	V     float64
	H     *histogram.Histogram
	FH    *histogram.FloatHistogram
	Flags sample.Flag
}

// Check says what would become of a row if it were applied now, after what is applied already. It changes
// nothing.
func (h *Head) Check(x Row, lim Limits) sample.Reason {
	s := h.shardOf(x.Ref.ID())
	r := row{t: x.T, v: math.Float64bits(x.V), h: x.H, fh: x.FH, flags: x.Flags}
	switch {
	case x.H != nil:
		r.kind = sample.Histogram
	case x.FH != nil:
		r.kind = sample.FloatHistogram
	}
	reason, late := s.judge(x.Ref, &r, &lim)
	if reason != sample.Accepted || !late {
		return reason
	}
	s.mu.Lock() // not for reading: a look into a chunk decodes into the shard's scratch block
	defer s.mu.Unlock()
	local, hd := s.findLocked(x.Ref)
	if hd == nil {
		return sample.StaleRef
	}
	if kind, v, ok := s.storedLocked(local, hd, r.t); ok {
		if kind == r.kind && v == r.v {
			return sample.Same
		}
		return sample.Conflict
	}
	return sample.Accepted
}

func (s *shard) judge(ref sample.Ref, r *row, lim *Limits) (reason sample.Reason, late bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, hd := s.findLocked(ref)
	if hd == nil {
		return sample.StaleRef, false
	}
	return judge(hd, r, lim)
}
