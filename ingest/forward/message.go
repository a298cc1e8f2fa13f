// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/common/model"
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
		raw, err = messageOf2(rows)
	} else {
		raw, err = messageOf1(rows)
	}
	if err != nil {
		return nil, fmt.Errorf("write a message: %w", err)
	}
	return compression.Encode(compression.Snappy, raw, compression.NewSyncEncodeBuffer())
}

func messageOf1(rows []outRow) ([]byte, error) {
	series := make([]prompb.TimeSeries, len(rows))
	for i := range rows {
		x, s := &rows[i], &series[i]
		s.Labels = prompb.FromLabels(x.series.labels, nil)
		if x.exemplar != nil {
			s.Exemplars = []prompb.Exemplar{{Labels: prompb.FromLabels(x.exemplar.Labels, nil), Value: x.exemplar.V, Timestamp: x.exemplar.T}}
			continue
		}
		b, r := x.batch, x.row
		switch b.KindAt(r) {
		case sample.Histogram:
			s.Histograms = []prompb.Histogram{prompb.FromIntHistogram(b.T[r], b.H[r])}
		case sample.FloatHistogram:
			s.Histograms = []prompb.Histogram{prompb.FromFloatHistogram(b.T[r], b.FH[r])}
		case sample.Float:
			s.Samples = []prompb.Sample{{Value: b.V[r], Timestamp: b.T[r]}}
		}
	}
	return (&prompb.WriteRequest{Timeseries: series}).Marshal()
}

func messageOf2(rows []outRow) ([]byte, error) {
	symbols := writev2.NewSymbolTable()
	series := make([]writev2.TimeSeries, len(rows))
	for i := range rows {
		x, s := &rows[i], &series[i]
		s.LabelsRefs = symbols.SymbolizeLabels(x.series.labels, nil)
		if m := x.series.meta.Load(); m != nil {
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
			s.Samples = []writev2.Sample{{Value: b.V[r], Timestamp: b.T[r], StartTimestamp: st}}
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
