// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"fmt"
	"math"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// messageV1 is the message of remote write 1.0; the other one is of 2.0.
const messageV1 = remoteapi.WriteV1MessageType

// message returns rows as a compressed message.
func (e *endpoint) message(rows []outRow) ([]byte, error) {
	defer e.room.message(len(rows))()
	var raw []byte
	var err error
	if e.inline() {
		e.families.describe(rows)
		raw, err = messageOf2(rows)
	} else {
		buf, _ := e.raw.Get().(*[]byte)
		if buf == nil {
			buf = new([]byte)
		}
		defer e.raw.Put(buf)
		raw, err = appendMessage1((*buf)[:0], rows)
		*buf = raw
	}
	if err != nil {
		return nil, fmt.Errorf("write a message: %w", err)
	}
	return compression.Encode(compression.Snappy, raw, compression.NewSyncEncodeBuffer())
}

// Tags of the fields of a WriteRequest of remote write 1.0 and of what is in it, all of which but numbers are behind their
// length.
const (
	tagSeries    = 1<<3 | 2 // of WriteRequest
	tagLabel     = 1<<3 | 2 // of TimeSeries
	tagSample    = 2<<3 | 2 // of TimeSeries
	tagName      = 1<<3 | 2 // of Label
	tagText      = 2<<3 | 2 // of Label
	tagValue     = 1<<3 | 1 // of Sample: 8 bytes
	tagTimestamp = 2 << 3   // of Sample: a varint
)

// appendMessage1 adds rows as a WriteRequest. The labels of a series are encoded once and kept: they are most of a message.
func appendMessage1(dst []byte, rows []outRow) ([]byte, error) {
	var one [2 * (binary.MaxVarintLen64 + 1)]byte
	for i := range rows {
		x := &rows[i]
		if x.item() != floats {
			var err error
			if dst, err = appendSeries1(dst, x); err != nil {
				return nil, err
			}
			continue
		}
		point := append(one[:0], tagValue)
		point = binary.LittleEndian.AppendUint64(point, math.Float64bits(x.batch.V[x.row]))
		point = binary.AppendUvarint(append(point, tagTimestamp), uint64(x.batch.T[x.row]))
		wire := x.series.labels1()
		dst = binary.AppendUvarint(append(dst, tagSeries), uint64(len(wire)+2+len(point)))
		dst = append(append(dst, wire...), tagSample, byte(len(point)))
		dst = append(dst, point...)
	}
	return dst, nil
}

// appendSeries1 adds a row that is no float.
func appendSeries1(dst []byte, x *outRow) ([]byte, error) {
	var s prompb.TimeSeries
	switch {
	case x.exemplar != nil:
		s.Exemplars = []prompb.Exemplar{{Labels: prompb.FromLabels(x.exemplar.Labels, nil), Value: x.exemplar.V, Timestamp: x.exemplar.T}}
	case x.batch.KindAt(x.row) == sample.Histogram:
		s.Histograms = []prompb.Histogram{prompb.FromIntHistogram(x.batch.T[x.row], x.batch.H[x.row])}
	default:
		s.Histograms = []prompb.Histogram{prompb.FromFloatHistogram(x.batch.T[x.row], x.batch.FH[x.row])}
	}
	raw, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	wire := x.series.labels1()
	dst = binary.AppendUvarint(append(dst, tagSeries), uint64(len(wire)+len(raw)))
	return append(append(dst, wire...), raw...), nil
}

// labels1 returns the labels as fields of a TimeSeries of remote write 1.0. A series is sent by one goroutine at a time.
func (s *outSeries) labels1() []byte {
	if s.wire != nil {
		return s.wire
	}
	size := 0
	s.labels.Range(func(l labels.Label) { size += len(l.Name) + len(l.Value) + 8 })
	dst := make([]byte, 0, size)
	s.labels.Range(func(l labels.Label) {
		n := textSize(l.Name) + textSize(l.Value)
		dst = binary.AppendUvarint(append(dst, tagLabel), uint64(n))
		dst = appendText(append(dst, tagName), l.Name)
		dst = appendText(append(dst, tagText), l.Value)
	})
	s.wire = dst
	return dst
}

// textSize is what a text takes as a field.
func textSize(s string) int {
	n := 2 + len(s)
	for l := len(s); l >= 0x80; l >>= 7 {
		n++
	}
	return n
}

// refsAhead is for how many references of labels memory is made at a time.
const refsAhead = 4096

func messageOf2(rows []outRow) ([]byte, error) {
	symbols := writev2.NewSymbolTable()
	series, points := make([]writev2.TimeSeries, len(rows)), make([]writev2.Sample, len(rows))
	var refs []uint32 // room for those of the next series
	for i := range rows {
		x, s := &rows[i], &series[i]
		n := 2 * x.series.labels.Len()
		if cap(refs) < n {
			refs = make([]uint32, max(n, refsAhead))
		}
		s.LabelsRefs = symbols.SymbolizeLabels(x.series.labels, refs[:0:n])
		refs = refs[n:]
		if m := x.series.description(); m != nil {
			s.Metadata = writev2.Metadata{
				Type:    writev2.FromMetadataType(model.MetricType(m.Type)),
				HelpRef: symbols.Symbolize(m.Help), UnitRef: symbols.Symbolize(m.Unit),
			}
		}
		if x.exemplar != nil {
			s.Exemplars = []writev2.Exemplar{{LabelsRefs: symbols.SymbolizeLabels(x.exemplar.Labels, nil), Value: x.exemplar.V, Timestamp: x.exemplar.T}}
			continue
		}
		b, r := x.batch, x.row
		st := b.STAt(r)
		switch b.KindAt(r) {
		case sample.Histogram:
			s.Histograms = []writev2.Histogram{writev2.FromIntHistogram(st, b.T[r], b.H[r])}
		case sample.FloatHistogram:
			s.Histograms = []writev2.Histogram{writev2.FromFloatHistogram(st, b.T[r], b.FH[r])}
		case sample.Float:
			points[i] = writev2.Sample{Value: b.V[r], Timestamp: b.T[r], StartTimestamp: st}
			s.Samples = points[i : i+1 : i+1]
		}
	}
	return (&writev2.Request{Symbols: symbols.Symbols(), Timeseries: series}).OptimizedMarshal(nil)
}

// familyMessage returns metadata as a compressed message of remote write 1.0.
func familyMessage(all []prompb.MetricMetadata) ([]byte, error) {
	raw, err := (&prompb.WriteRequest{Metadata: all}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("write a message of metadata: %w", err)
	}
	return compression.Encode(compression.Snappy, raw, compression.NewSyncEncodeBuffer())
}
