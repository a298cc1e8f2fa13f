// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// kind is a type of metric: the number of its field in the Metric message.
type kind int32

const (
	gauge       kind = 5
	sum         kind = 7
	histograms  kind = 9
	exponential kind = 10
	summary     kind = 11
)

// pointMessage names the data points of a kind.
func (k kind) pointMessage() string {
	switch k {
	case histograms:
		return "HistogramDataPoint"
	case exponential:
		return "ExponentialHistogramDataPoint"
	case summary:
		return "SummaryDataPoint"
	default:
		return "NumberDataPoint"
	}
}

// attributes is the number of the field of attributes in a data point.
func (k kind) attributes() int32 {
	switch k {
	case histograms:
		return 9
	case exponential:
		return 1
	default:
		return 7
	}
}

// exemplars is the number of the field of exemplars in a data point; a summary has none.
func (k kind) exemplars() int32 {
	switch k {
	case histograms:
		return 8
	case exponential:
		return 11
	case summary:
		return 0
	default:
		return 5
	}
}

// flags is the number of the field of flags in a data point.
func (k kind) flags() int32 {
	if k == histograms || k == exponential {
		return 10
	}
	return 8
}

// maxPooledCounts is how many buckets, quantiles or exemplars an idle point has room for.
const maxPooledCounts = 2000

const noRecordedValue = 1 // the flag of a point that says that its series ended

// side is the positive or the negative buckets of an exponential histogram: the counts of those from offset on.
type side struct {
	offset int32
	counts []uint64
}

// quantile is one value of a summary.
type quantile struct{ q, v float64 }

// measure is the value of a data point that is no summary.
type measure struct {
	isInt bool
	i     int64
	v     float64

	count  uint64
	sum    float64
	hasSum bool
	counts []uint64 // of observations up to each of bounds, and above the last
	bounds []float64

	scale              int32
	zeros              uint64
	zeroThreshold      float64
	positive, negative side
}

func (m *measure) reset() {
	*m = measure{
		counts: m.counts[:0], bounds: m.bounds[:0],
		positive: side{counts: m.positive.counts[:0]}, negative: side{counts: m.negative.counts[:0]},
	}
}

// point is a data point of any kind; its slices are used again for the next.
type point struct {
	kind       kind
	start, t   uint64 // Unix nanoseconds
	stale      bool
	attributes []byte // their fields, as they came
	measure

	quantiles []quantile
	exemplars [][]byte

	gathered      []byte // attributes that are not in one piece on the wire
	attributesEnd int

	// Where it stands: the message, the fields behind it in the data of its metric, and its number there.
	raw, rest []byte
	index     int
}

func (p *point) reset(k kind) {
	p.measure.reset()
	*p = point{kind: k, measure: p.measure, quantiles: p.quantiles[:0], exemplars: p.exemplars[:0], gathered: p.gathered[:0]}
}

// end lets go of the body, and reports whether the point is small enough to be kept.
func (p *point) end() bool {
	p.reset(0)
	clear(p.exemplars[:cap(p.exemplars)])
	counts := cap(p.counts) + cap(p.bounds) + cap(p.quantiles) + cap(p.positive.counts) + cap(p.negative.counts)
	return counts <= maxPooledCounts && cap(p.exemplars) <= maxPooledCounts && cap(p.gathered) <= maxPooledBytes/groupLength
}

// decode reads a data point.
func (p *point) decode(k kind, msg []byte) error {
	p.reset(k)
	f := fields{message: k.pointMessage(), buf: msg}
	for f.next() {
		switch {
		case f.number == k.attributes():
			p.attribute(&f)
		case f.number == k.exemplars():
			if f.is(protowire.BytesType) {
				p.exemplars = append(p.exemplars, f.bytes)
			}
		case f.number == k.flags():
			if f.is(protowire.VarintType) {
				p.stale = f.value&noRecordedValue != 0
			}
		case f.number == 2 || f.number == 3:
			p.time(&f)
		case k == gauge || k == sum:
			p.numberField(&f)
		default:
			p.histogramField(&f)
		}
	}
	return f.err
}

// attribute extends the run of attributes by one field.
func (p *point) attribute(f *fields) {
	if !f.is(protowire.BytesType) {
		return
	}
	switch {
	case p.attributes == nil:
		p.attributes = f.buf[f.start:f.pos]
	case p.attributesEnd == f.start && len(p.gathered) == 0:
		p.attributes = f.buf[f.start-len(p.attributes) : f.pos]
	default:
		if len(p.gathered) == 0 {
			p.gathered = append(p.gathered, p.attributes...)
		}
		p.gathered = append(p.gathered, f.buf[f.start:f.pos]...)
		p.attributes = p.gathered
	}
	p.attributesEnd = f.pos
}

func (p *point) time(f *fields) {
	if !f.is(protowire.Fixed64Type) {
		return
	}
	if f.number == 2 {
		p.start = f.value
	} else {
		p.t = f.value
	}
}

func (p *point) numberField(f *fields) {
	switch f.number {
	case 4:
		if f.is(protowire.Fixed64Type) {
			p.isInt, p.v = false, math.Float64frombits(f.value)
		}
	case 6:
		if f.is(protowire.Fixed64Type) {
			p.isInt, p.i = true, int64(f.value)
		}
	}
}

// histogramField reads the fields that histograms and summaries have from 4 on.
func (p *point) histogramField(f *fields) {
	switch {
	case f.number == 4:
		if f.is(protowire.Fixed64Type) {
			p.count = f.value
		}
	case f.number == 5:
		if f.is(protowire.Fixed64Type) {
			p.sum, p.hasSum = math.Float64frombits(f.value), true
		}
	case p.kind == summary && f.number == 6:
		p.quantile(f)
	case p.kind == histograms && f.number == 6:
		f.repeated(protowire.Fixed64Type, func(v uint64) { p.counts = append(p.counts, v) })
	case p.kind == histograms && f.number == 7:
		f.repeated(protowire.Fixed64Type, func(v uint64) { p.bounds = append(p.bounds, math.Float64frombits(v)) })
	case p.kind == exponential:
		p.exponentialField(f)
	}
}

func (p *point) exponentialField(f *fields) {
	switch f.number {
	case 6:
		if f.is(protowire.VarintType) {
			p.scale = int32(protowire.DecodeZigZag(f.value & math.MaxUint32))
		}
	case 7:
		if f.is(protowire.Fixed64Type) {
			p.zeros = f.value
		}
	case 8:
		p.positive.decode(f)
	case 9:
		p.negative.decode(f)
	case 14:
		if f.is(protowire.Fixed64Type) {
			p.zeroThreshold = math.Float64frombits(f.value)
		}
	}
}

func (s *side) decode(outer *fields) {
	if !outer.is(protowire.BytesType) {
		return
	}
	f := fields{message: "ExponentialHistogramDataPoint.Buckets", buf: outer.bytes}
	for f.next() {
		switch f.number {
		case 1:
			if f.is(protowire.VarintType) {
				s.offset = int32(protowire.DecodeZigZag(f.value & math.MaxUint32))
			}
		case 2:
			f.repeated(protowire.VarintType, func(v uint64) { s.counts = append(s.counts, v) })
		}
	}
	if f.err != nil {
		outer.err = f.err
	}
}

func (p *point) quantile(outer *fields) {
	if !outer.is(protowire.BytesType) {
		return
	}
	var q quantile
	f := fields{message: "SummaryDataPoint.ValueAtQuantile", buf: outer.bytes}
	for f.next() {
		if (f.number == 1 || f.number == 2) && f.is(protowire.Fixed64Type) {
			if v := math.Float64frombits(f.value); f.number == 1 {
				q.q = v
			} else {
				q.v = v
			}
		}
	}
	if f.err != nil {
		outer.err = f.err
	}
	p.quantiles = append(p.quantiles, q)
}

// number is the value of a gauge or sum.
func (m *measure) number() float64 {
	if m.isInt {
		return float64(m.i)
	}
	return m.v
}

// millis turns a time of the protocol into one of the store.
func millis(nanoseconds uint64) int64 { return int64(nanoseconds) / 1_000_000 }
