// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
)

// openHist is the open chunk of a series of native histograms. It lives on the Go heap: its encoder keeps the
// sample before, which is as large as the histogram.
type openHist struct {
	encoder chunk.HistEncoder
	stream  []byte
	charged int64 // bytes
}

// openHistBytes is what an openHist takes beside its stream and its buckets.
const openHistBytes = 320

func (o *openHist) size() int {
	if o == nil {
		return 0
	}
	return len(o.stream)
}

// histBytes is about what a histogram takes.
func histBytes(h *histogram.Histogram, fh *histogram.FloatHistogram) int64 {
	if h != nil {
		return 144 + 8*int64(len(h.PositiveBuckets)+len(h.NegativeBuckets)+len(h.PositiveSpans)+len(h.NegativeSpans)+len(h.CustomValues))
	}
	return 144 + 8*int64(len(fh.PositiveBuckets)+len(fh.NegativeBuckets)+len(fh.PositiveSpans)+len(fh.NegativeSpans)+len(fh.CustomValues))
}

// appendHistLocked appends to the open chunk of histograms, which it makes if there is none.
func (s *shard) appendHistLocked(local uint32, hd *header, r *row) bool {
	o := s.hists[local]
	if o == nil || hd.n == 0 {
		charge := openHistBytes + 2*histBytes(r.h, r.fh)
		if s.head.opts.Account.Reserve(charge) != nil {
			return false
		}
		o = &openHist{charged: charge}
		s.hists[local] = o
	}
	before := cap(o.stream)
	o.stream = o.encoder.Append(o.stream, r.t, r.h, r.fh)
	// The sample is in already: where the little that the stream has grown by passes the limit, it is not charged.
	if more := int64(cap(o.stream) - before); more > 0 && s.head.opts.Account.Reserve(more) == nil {
		o.charged += more
	}
	return true
}

func (s *shard) dropHistLocked(local uint32) {
	if o := s.hists[local]; o != nil {
		s.head.opts.Account.Release(o.charged)
		delete(s.hists, local)
	}
}

// openST is the start timestamps of an open chunk. Few series have them, and those that have them change them
// rarely.
type openST struct {
	state chunk.STState
	buf   []byte
}

func (s *shard) appendStartLocked(local uint32, hd *header, r *row) {
	o := s.starts[local]
	if o == nil {
		o = &openST{}
		s.starts[local] = o
		hd.flags |= hasST
	}
	o.buf = chunk.AppendST(o.buf, &o.state, int(hd.n), r.st)
}
