// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func appendHistogram(dst []byte, h *histogram.Histogram) []byte {
	dst = append(dst, byte(h.CounterResetHint))
	dst = appendVarint(dst, int64(h.Schema))
	dst = appendFloat(dst, h.ZeroThreshold)
	dst = binary.AppendUvarint(dst, h.ZeroCount)
	dst = binary.AppendUvarint(dst, h.Count)
	dst = appendFloat(dst, h.Sum)
	dst = appendSpans(dst, h.PositiveSpans)
	dst = appendSpans(dst, h.NegativeSpans)
	for _, buckets := range [...][]int64{h.PositiveBuckets, h.NegativeBuckets} {
		dst = binary.AppendUvarint(dst, uint64(len(buckets)))
		for _, n := range buckets {
			dst = appendVarint(dst, n)
		}
	}
	return appendFloats(dst, h.CustomValues)
}

func (c *cursor) histogram() *histogram.Histogram {
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(c.Byte()),
		Schema:           c.i32(),
		ZeroThreshold:    c.Float(),
		ZeroCount:        c.Uvarint(),
		Count:            c.Uvarint(),
		Sum:              c.Float(),
		PositiveSpans:    c.spans(),
		NegativeSpans:    c.spans(),
		PositiveBuckets:  c.deltas(),
		NegativeBuckets:  c.deltas(),
		CustomValues:     c.floats(),
	}
	return h
}

func appendFloatHistogram(dst []byte, h *histogram.FloatHistogram) []byte {
	dst = append(dst, byte(h.CounterResetHint))
	dst = appendVarint(dst, int64(h.Schema))
	for _, v := range [...]float64{h.ZeroThreshold, h.ZeroCount, h.Count, h.Sum} {
		dst = appendFloat(dst, v)
	}
	dst = appendSpans(dst, h.PositiveSpans)
	dst = appendSpans(dst, h.NegativeSpans)
	dst = appendFloats(dst, h.PositiveBuckets)
	dst = appendFloats(dst, h.NegativeBuckets)
	return appendFloats(dst, h.CustomValues)
}

func (c *cursor) floatHistogram() *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterResetHint(c.Byte()),
		Schema:           c.i32(),
		ZeroThreshold:    c.Float(),
		ZeroCount:        c.Float(),
		Count:            c.Float(),
		Sum:              c.Float(),
		PositiveSpans:    c.spans(),
		NegativeSpans:    c.spans(),
		PositiveBuckets:  c.floats(),
		NegativeBuckets:  c.floats(),
		CustomValues:     c.floats(),
	}
}

func appendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

func appendFloats(dst []byte, vs []float64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(vs)))
	for _, v := range vs {
		dst = appendFloat(dst, v)
	}
	return dst
}

func (c *cursor) floats() []float64 {
	n := c.Count(8)
	if n == 0 {
		return nil
	}
	vs := make([]float64, n)
	for i := range vs {
		vs[i] = c.Float()
	}
	return vs
}

func (c *cursor) deltas() []int64 {
	n := c.Count(1)
	if n == 0 {
		return nil
	}
	vs := make([]int64, n)
	for i := range vs {
		vs[i] = c.Varint()
	}
	return vs
}

func appendSpans(dst []byte, spans []histogram.Span) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(spans)))
	for _, s := range spans {
		dst = appendVarint(dst, int64(s.Offset))
		dst = binary.AppendUvarint(dst, uint64(s.Length))
	}
	return dst
}

func (c *cursor) spans() []histogram.Span {
	n := c.Count(2)
	if n == 0 {
		return nil
	}
	spans := make([]histogram.Span, n)
	for i := range spans {
		spans[i] = histogram.Span{Offset: c.i32(), Length: c.u32()}
	}
	return spans
}

func appendExemplars(dst []byte, es []sample.Exemplar) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(es)))
	for _, e := range es {
		dst = binary.AppendUvarint(dst, uint64(e.Ref))
		dst = binary.AppendUvarint(dst, uint64(e.Labels.Len()))
		e.Labels.Range(func(l labels.Label) {
			dst = appendString(appendString(dst, l.Name), l.Value)
		})
		dst = appendFloat(dst, e.V)
		dst = appendVarint(dst, e.T)
		if e.HasT {
			dst = append(dst, 1)
		} else {
			dst = append(dst, 0)
		}
	}
	return dst
}

// exemplarSize is the least an exemplar takes: ref, count of labels, value, time, flag.
const exemplarSize = 1 + 1 + 8 + 1 + 1

func (c *cursor) exemplars(dst []sample.Exemplar) []sample.Exemplar {
	n := c.Count(exemplarSize)
	if n == 0 {
		return dst
	}
	b := labels.NewScratchBuilder(8)
	for range n {
		e := sample.Exemplar{Ref: sample.Ref(c.Uvarint())}
		b.Reset()
		for range c.Count(2) {
			b.Add(c.Text(), c.Text())
		}
		e.Labels, e.V, e.T = b.Labels(), c.Float(), c.Varint()
		switch c.Byte() {
		case 0:
		case 1:
			e.HasT = true
		default:
			c.Fail("bad flag of an exemplar")
		}
		if c.Failed() {
			return dst
		}
		dst = append(dst, e)
	}
	return dst
}

func appendMetadata(dst []byte, ms []sample.Metadata) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ms)))
	for _, m := range ms {
		dst = binary.AppendUvarint(dst, uint64(m.Ref))
		for _, s := range [...]string{m.Type, m.Unit, m.Help} {
			dst = appendString(dst, s)
		}
	}
	return dst
}

func (c *cursor) metadata(dst []sample.Metadata) []sample.Metadata {
	for range c.Count(4) {
		m := sample.Metadata{Ref: sample.Ref(c.Uvarint()), Type: c.Text(), Unit: c.Text(), Help: c.Text()}
		if c.Failed() {
			return dst
		}
		dst = append(dst, m)
	}
	return dst
}
