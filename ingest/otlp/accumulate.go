// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

const (
	// streamIdle is how long a stream of deltas is remembered after its last point, as in Prometheus. The next point begins
	// a new sum then, with a start time of its own.
	streamIdle = 5 * time.Minute
	sweepEvery = time.Minute

	streamBytes = 320 // of a stream in the map without its buckets

	// maxBuckets is how many buckets the sum of exponential histograms keeps on a side; beyond it loses resolution.
	maxBuckets = 160

	// minScale and maxScale are the bounds of OpenTelemetry's clients.
	minScale, maxScale = -10, 20
)

// stream is the sum of the deltas of one series.
type stream struct {
	measure
	start, t uint64 // Unix nanoseconds: of the first point, and of the last that was added
	used     time.Time
	charged  int64

	attempt uint64 // the last that added a point
	saved   bool   // as it was after the first point of that attempt
}

// accumulators sum deltas up. The sums live in memory only: after a restart they begin anew, which queries see as a
// reset of the counter.
type accumulators struct {
	account *budget.Account
	seed    uint64 // of hashes, so that no sender can choose attributes that collide
	now     func() time.Time

	mu struct {
		sync.Mutex
		streams  map[ingest.Key]*stream
		swept    time.Time
		attempts uint64
	}
}

func newAccumulators(account *budget.Account) *accumulators {
	a := &accumulators{account: account, seed: rand.Uint64(), now: time.Now}
	a.mu.streams = map[ingest.Key]*stream{}
	return a
}

// Len returns the number of streams.
func (a *accumulators) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.mu.streams)
}

// add adds a delta to the stream of a key and makes p the sum; or it says why not. A point that was the last one already
// is the sum as it stands: its sender got no answer and tries again.
func (a *accumulators) add(key ingest.Key, p *point, by *attempt) (refusal string) {
	if p.kind == exponential {
		switch {
		case p.scale < minScale || p.scale > maxScale:
			return "of exponential histograms with a scale that no client uses"
		case !(p.zeroThreshold >= 0) || math.IsInf(p.zeroThreshold, 1): // with NaN every comparison is false
			return "of exponential histograms with a zero threshold that is no width"
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if now.Sub(a.mu.swept) >= sweepEvery {
		a.sweepLocked(now)
	}
	s := a.mu.streams[key]
	switch {
	case p.stale:
		if s != nil {
			a.dropLocked(key, s)
		}
		return ""
	case s == nil:
		s = &stream{start: p.start, t: p.t}
		if !a.reserve(s, &p.measure) {
			return "of new delta streams while the memory budget has no room for them"
		}
		s.set(&p.measure)
		a.mu.streams[key] = s
		a.noteLocked(s, by)
	case p.start < s.start:
		return "with deltas that start before the stream they belong to: two senders may share a series"
	case p.t < s.t:
		return "with deltas that are older than the last one of their stream"
	case p.t > s.t:
		if !a.reserve(s, &p.measure) || !a.saveLocked(key, s, by) {
			return "of new delta streams while the memory budget has no room for them"
		}
		s.add(p.kind, &p.measure)
		s.t = p.t
	default:
		a.noteLocked(s, by) // what it adds behind this point is taken back to here
	}
	s.used = now
	p.measure.set(&s.measure)
	p.start = s.start
	return ""
}

// reserve charges what the stream may take once m is part of it.
func (a *accumulators) reserve(s *stream, m *measure) bool {
	more := streamBytes + 8*(s.counters()+m.counters()) - s.charged
	if more <= 0 {
		return true
	}
	if a.account.Reserve(more) != nil {
		return false
	}
	s.charged += more
	return true
}

func (a *accumulators) dropLocked(key ingest.Key, s *stream) {
	delete(a.mu.streams, key)
	a.account.Release(s.charged)
}

func (a *accumulators) sweepLocked(now time.Time) {
	a.mu.swept = now
	for key, s := range a.mu.streams {
		if now.Sub(s.used) > streamIdle {
			a.dropLocked(key, s)
		}
	}
}

// counters returns how many elements the lists have.
func (m *measure) counters() int64 {
	return int64(len(m.counts) + len(m.bounds) + len(m.positive.counts) + len(m.negative.counts))
}

// set makes m a copy of o.
func (m *measure) set(o *measure) {
	old := *m
	*m = *o
	m.counts, m.bounds = append(old.counts[:0], o.counts...), append(old.bounds[:0], o.bounds...)
	m.positive.counts = append(old.positive.counts[:0], o.positive.counts...)
	m.negative.counts = append(old.negative.counts[:0], o.negative.counts...)
}

// add adds a delta, which may be changed.
func (m *measure) add(k kind, o *measure) {
	switch {
	case k == gauge || k == sum:
		if o.isInt != m.isInt { // it becomes, and stays, a number with a fraction
			m.v, o.v = m.number(), o.number()
			m.isInt, o.isInt = false, false
		}
		m.i += o.i
		m.v += o.v
		return
	case k == histograms && !slices.Equal(m.bounds, o.bounds):
		m.set(o) // nothing tells how observations spread over other buckets: the sum begins anew
		return
	case k == histograms:
		for i := range min(len(m.counts), len(o.counts)) {
			m.counts[i] += o.counts[i]
		}
	default:
		m.addExponential(o)
	}
	m.count += o.count
	if m.hasSum = m.hasSum && o.hasSum; m.hasSum {
		m.sum += o.sum
	}
}

// addExponential brings both histograms to one resolution and one zero bucket, and adds the buckets.
func (m *measure) addExponential(o *measure) {
	for _, x := range []*measure{m, o} {
		x.positive.trim()
		x.negative.trim()
	}
	scale := min(m.scale, o.scale)
	m.downscale(m.scale - scale)
	o.downscale(o.scale - scale)
	for span(m.positive, o.positive) > maxBuckets || span(m.negative, o.negative) > maxBuckets {
		m.downscale(1)
		o.downscale(1)
	}
	zero := max(m.zeroThreshold, o.zeroThreshold)
	m.widenZero(zero)
	o.widenZero(zero)
	m.zeros += o.zeros
	m.positive.add(o.positive)
	m.negative.add(o.negative)
}

func (m *measure) downscale(by int32) {
	m.scale -= by
	m.positive.downscale(by)
	m.negative.downscale(by)
}

// widenZero moves buckets that begin below a threshold to the zero bucket.
func (m *measure) widenZero(threshold float64) {
	if threshold <= m.zeroThreshold {
		return
	}
	m.zeroThreshold = threshold
	last := math.Ceil(math.Log2(threshold)*math.Ldexp(1, int(m.scale))) - 1 // the bucket that holds the threshold
	for _, s := range []*side{&m.positive, &m.negative} {
		n := int(max(min(last-float64(s.offset)+1, float64(len(s.counts))), 0))
		for _, c := range s.counts[:n] {
			m.zeros += c
		}
		s.cut(n)
	}
}

// cut takes the first n buckets away.
func (s *side) cut(n int) {
	s.offset += int32(n)
	s.counts = append(s.counts[:0], s.counts[n:]...)
}

// trim takes empty buckets at both ends away.
func (s *side) trim() {
	for len(s.counts) > 0 && s.counts[len(s.counts)-1] == 0 {
		s.counts = s.counts[:len(s.counts)-1]
	}
	n := 0
	for n < len(s.counts) && s.counts[n] == 0 {
		n++
	}
	s.cut(n)
}

// downscale merges 1<<by neighbours into one.
func (s *side) downscale(by int32) {
	if by <= 0 {
		return
	}
	by = min(by, 62)
	first, n := int64(s.offset)>>by, 0
	for i, c := range s.counts {
		to := int((int64(s.offset)+int64(i))>>by - first)
		if to == n {
			s.counts[n] = 0
			n++
		}
		s.counts[to] += c
	}
	s.offset, s.counts = int32(first), s.counts[:n]
}

// span returns how many buckets both sides together reach over.
func span(a, b side) int64 {
	switch {
	case len(a.counts) == 0:
		return int64(len(b.counts))
	case len(b.counts) == 0:
		return int64(len(a.counts))
	}
	return max(a.end(), b.end()) - min(int64(a.offset), int64(b.offset))
}

func (s *side) end() int64 { return int64(s.offset) + int64(len(s.counts)) }

func (s *side) add(o side) {
	if len(o.counts) == 0 {
		return
	}
	if len(s.counts) == 0 {
		s.offset = o.offset
	}
	if before := int(s.offset) - int(o.offset); before > 0 {
		s.counts = slices.Insert(s.counts, 0, make([]uint64, before)...)
		s.offset = o.offset
	}
	if after := o.end() - s.end(); after > 0 {
		s.counts = append(s.counts, make([]uint64, after)...)
	}
	from := int(o.offset) - int(s.offset)
	for i, c := range o.counts {
		s.counts[from+i] += c
	}
}

// streamKey identifies the stream of the point at hand, whatever the order in which its attributes came and however the
// keys of series are made. It outlives changes of the configuration.
func (d *decoder) streamKey(m *metric) ingest.Key {
	if m.stream == (ingest.Key{}) {
		d.scratch = append(d.scratch[:0], byte(m.kind), 0)
		if m.monotonic {
			d.scratch[1] = 1
		}
		for _, part := range [][]byte{canonical(m.resource), canonical(m.scope), m.schema, m.name, m.unit} {
			d.scratch = append(binary.AppendUvarint(d.scratch, uint64(len(part))), part...)
		}
		m.stream = xxh3.Hash128Seed(d.scratch, d.sums.seed)
	}
	d.scratch = binary.LittleEndian.AppendUint64(d.scratch[:0], m.stream.Hi)
	d.scratch = binary.LittleEndian.AppendUint64(d.scratch, m.stream.Lo)
	return xxh3.Hash128Seed(append(d.scratch, canonical(d.p.attributes)...), d.sums.seed)
}

// canonical returns the fields of a message in an order that does not depend on that in which they came.
func canonical(msg []byte) []byte {
	var all [][]byte
	f := fields{buf: msg}
	for f.next() {
		all = append(all, msg[f.start:f.pos])
	}
	if slices.IsSortedFunc(all, bytes.Compare) {
		return msg
	}
	slices.SortFunc(all, bytes.Compare)
	return bytes.Join(all, nil)
}
