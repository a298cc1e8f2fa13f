// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"encoding/binary"
	"math"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// row is one row of a batch.
type row struct {
	t, st int64
	v     uint64 // bits of a float; digest of a histogram, from judge on
	kind  sample.Kind
	flags sample.Flag
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
	index int // in its batch
}

// judge says what becomes of a row, by the validation state of its series alone. An accepted row that is late
// may still turn out to be there already. It turns a float stale marker after histograms into one of their kind.
func judge(hd *header, r *row, lim *Limits) (reason sample.Reason, late bool) {
	if r.t > lim.MaxT {
		return sample.TooNew, false
	}
	if r.t < lim.MinT {
		return sample.TooOld, false
	}
	if hd.kind != sample.Float && r.kind == sample.Float && value.IsStaleNaN(math.Float64frombits(r.v)) {
		r.toStaleHistogram(hd.kind)
	}
	if r.kind != sample.Float {
		if !r.digest() {
			return sample.Invalid, false
		}
	}
	switch {
	case r.t > hd.lastT || !hd.hasSample():
		return sample.Accepted, false
	case r.t == hd.lastT && hd.flags&newestGone != 0:
		return sample.Accepted, true
	case r.t == hd.lastT:
		if r.kind == hd.kind && r.v == hd.last {
			return sample.Same, false
		}
		return sample.Conflict, false
	case r.flags&sample.RejectOutOfOrder != 0:
		return sample.OutOfOrder, true
	}
	oldest := lim.MinPush
	if r.flags&sample.Scraped != 0 {
		oldest = lim.MinScrape
	}
	switch {
	case oldest == NoLate:
		return sample.OutOfOrder, true
	case r.t < oldest:
		return sample.TooOld, true
	}
	return sample.Accepted, true
}

func (hd *header) hasSample() bool { return hd.changed != 0 }

func (r *row) toStaleHistogram(k sample.Kind) {
	r.kind = k
	if k == sample.Histogram {
		r.h = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
		return
	}
	r.fh = &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}
}

// maxHistogram is the size of the largest histogram that is stored, about 32,000 buckets: a chunk of one must fit into
// a block of the arena, 1 MiB, where a bucket may take 10 bytes.
const maxHistogram = 256 << 10

// digest validates the histogram and sets v to a hash of what it counts, by which equal ones are found. It does
// not depend on how empty buckets are written, nor on the counter reset hint.
func (r *row) digest() bool {
	var d digester
	switch {
	case r.kind == sample.Histogram && r.h != nil:
		if histBytes(r.h, nil) > maxHistogram || r.h.Validate() != nil {
			return false
		}
		r.v = d.histogram(r.h)
	case r.kind == sample.FloatHistogram && r.fh != nil:
		if histBytes(nil, r.fh) > maxHistogram || r.fh.Validate() != nil {
			return false
		}
		r.v = d.floatHistogram(r.fh)
	default:
		return false
	}
	return true
}

// digester hashes histograms. 64 bits suffice: two values are only compared where they have one time.
type digester struct {
	stack [512]byte
	buf   []byte
}

func (d *digester) put(words ...uint64) {
	for _, w := range words {
		d.buf = binary.LittleEndian.AppendUint64(d.buf, w)
	}
}

func (d *digester) histogram(h *histogram.Histogram) uint64 {
	d.buf = d.stack[:0]
	d.put(uint64(h.Schema), math.Float64bits(h.ZeroThreshold), h.ZeroCount, h.Count, math.Float64bits(h.Sum))
	for side, spans := range [2][]histogram.Span{h.PositiveSpans, h.NegativeSpans} {
		deltas := h.PositiveBuckets
		if side == 1 {
			deltas = h.NegativeBuckets
		}
		count, i := int64(0), 0
		eachBucket(spans, len(deltas), func(idx int64) {
			count += deltas[i]
			i++
			if count != 0 {
				d.put(uint64(side), uint64(idx), uint64(count))
			}
		})
	}
	return d.sum(h.CustomValues)
}

func (d *digester) floatHistogram(h *histogram.FloatHistogram) uint64 {
	d.buf = d.stack[:0]
	d.put(uint64(h.Schema), math.Float64bits(h.ZeroThreshold), math.Float64bits(h.ZeroCount),
		math.Float64bits(h.Count), math.Float64bits(h.Sum))
	for side, spans := range [2][]histogram.Span{h.PositiveSpans, h.NegativeSpans} {
		counts := h.PositiveBuckets
		if side == 1 {
			counts = h.NegativeBuckets
		}
		i := 0
		eachBucket(spans, len(counts), func(idx int64) {
			if bits := math.Float64bits(counts[i]); bits != 0 {
				d.put(uint64(side), uint64(idx), bits)
			}
			i++
		})
	}
	return d.sum(h.CustomValues)
}

// sum ends a digest with the bounds of custom buckets.
func (d *digester) sum(bounds []float64) uint64 {
	for _, b := range bounds {
		d.put(math.Float64bits(b))
	}
	return xxhash.Sum64(d.buf)
}

// eachBucket calls f with the index of each of n buckets.
func eachBucket(spans []histogram.Span, n int, f func(idx int64)) {
	idx := int64(0)
	for _, sp := range spans {
		idx += int64(sp.Offset)
		for range sp.Length {
			if n == 0 {
				return
			}
			f(idx)
			idx++
			n--
		}
	}
}

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
	lim = h.bound(lim)
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
	ahead := aheadLooker{head: h}
	defer ahead.close()
	looks := ahead.look(x.Ref, r.t, 0, nil)
	s.mu.Lock() // not for reading: a look into a chunk decodes into the shard's scratch block
	defer s.mu.Unlock()
	local, hd := s.findLocked(x.Ref)
	if hd == nil {
		return sample.StaleRef
	}
	if kind, v, ok := s.storedLocked(local, hd, r.t, looks); ok {
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
