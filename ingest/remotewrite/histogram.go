// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite

import (
	"fmt"
	"unsafe"

	"github.com/prometheus/prometheus/model/histogram"
)

// nativeHistogram is a Histogram message of either version: their fields are the same but for the last.
type nativeHistogram struct {
	st, t   int64
	isFloat bool
	h       histogram.Histogram
	fh      histogram.FloatHistogram
}

// histogramBytes is what a histogram takes without its lists.
const histogramBytes = int64(unsafe.Sizeof(nativeHistogram{}))

// elementBytes bounds what one byte of a packed list becomes: a span of two bytes takes 8, a delta of one byte 8.
const elementBytes = 8

// decodeHistogram reads a Histogram message.
func decodeHistogram(msg []byte) (*nativeHistogram, error) {
	x, r := &nativeHistogram{}, reader{buf: msg}
	for {
		number, wire, ok := r.next()
		if !ok {
			break
		}
		if number <= 7 || number >= 14 && number != 16 {
			x.scalar(&r, number, wire)
		} else {
			x.list(&r, number, wire)
		}
	}
	return x, r.err
}

func (x *nativeHistogram) scalar(r *reader, number int32, wire int) {
	switch number {
	case 2, 3, 5, 7:
		if r.expect(number, wire, wireFixed64) {
			x.setFloat(number, r.double())
		}
	case 1, 4, 6, 14, 15, 17:
		if r.expect(number, wire, wireVarint) {
			x.setInt(number, r.uvarint())
		}
	default:
		r.skip(wire)
	}
}

// setFloat and setInt keep the integer and the float form side by side; the count field that came last decides.
func (x *nativeHistogram) setFloat(number int32, v float64) {
	switch number {
	case 2:
		x.fh.Count, x.h.Count, x.isFloat = v, 0, true
	case 3:
		x.h.Sum, x.fh.Sum = v, v
	case 5:
		x.h.ZeroThreshold, x.fh.ZeroThreshold = v, v
	case 7:
		x.fh.ZeroCount, x.h.ZeroCount = v, 0
	}
}

func (x *nativeHistogram) setInt(number int32, v uint64) {
	switch number {
	case 1:
		x.h.Count, x.fh.Count, x.isFloat = v, 0, false
	case 4:
		x.h.Schema = int32(zigzag(v & 0xffffffff))
		x.fh.Schema = x.h.Schema
	case 6:
		x.h.ZeroCount, x.fh.ZeroCount = v, 0
	case 14:
		x.h.CounterResetHint = histogram.CounterResetHint(v)
		x.fh.CounterResetHint = x.h.CounterResetHint
	case 15:
		x.t = int64(v)
	case 17:
		x.st = int64(v)
	}
}

func (x *nativeHistogram) list(r *reader, number int32, wire int) {
	switch number {
	case 8, 11:
		if !r.expect(number, wire, wireBytes) {
			return
		}
		span := decodeSpan(r)
		if number == 8 {
			x.h.NegativeSpans = append(x.h.NegativeSpans, span)
		} else {
			x.h.PositiveSpans = append(x.h.PositiveSpans, span)
		}
	case 9, 12:
		into := &x.h.NegativeBuckets
		if number == 12 {
			into = &x.h.PositiveBuckets
		}
		r.repeated(number, wire, wireVarint, func(r *reader) { *into = append(*into, zigzag(r.uvarint())) })
	case 10, 13, 16:
		into := &x.fh.NegativeBuckets
		switch number {
		case 13:
			into = &x.fh.PositiveBuckets
		case 16:
			into = &x.h.CustomValues
		}
		r.repeated(number, wire, wireFixed64, func(r *reader) { *into = append(*into, r.double()) })
	}
}

func decodeSpan(outer *reader) histogram.Span {
	var s histogram.Span
	r := reader{buf: outer.bytes()}
	for {
		number, wire, ok := r.next()
		switch {
		case !ok:
			if r.err != nil {
				outer.fail("a bucket span: %v", r.err)
			}
			return s
		case number > 2:
			r.skip(wire)
		case r.expect(number, wire, wireVarint):
			if v := r.uvarint(); number == 1 {
				s.Offset = int32(zigzag(v & 0xffffffff))
			} else {
				s.Length = uint32(v)
			}
		}
	}
}

// value returns the histogram in the form it was sent in, or why it cannot be stored. Resolutions finer than the
// storage's are reduced, as the exposition of targets is on scraping.
func (x *nativeHistogram) value() (*histogram.Histogram, *histogram.FloatHistogram, error) {
	finer := histogram.IsExponentialSchemaReserved(x.h.Schema) && x.h.Schema > histogram.ExponentialSchemaMax
	if !x.isFloat {
		if finer {
			if err := x.h.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
				return nil, nil, fmt.Errorf("reduce its resolution: %w", err)
			}
		}
		return &x.h, nil, x.h.Validate()
	}
	x.fh.PositiveSpans, x.fh.NegativeSpans, x.fh.CustomValues = x.h.PositiveSpans, x.h.NegativeSpans, x.h.CustomValues
	if finer {
		if err := x.fh.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
			return nil, nil, fmt.Errorf("reduce its resolution: %w", err)
		}
	}
	return nil, &x.fh, x.fh.Validate()
}
