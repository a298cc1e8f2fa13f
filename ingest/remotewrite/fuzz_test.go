// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/gogo/protobuf/proto"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
)

// line is a row as text, bits of values included.
func line(series string, st, t int64, v float64, h fmt.Stringer) string {
	if h != nil {
		return fmt.Sprintf("%s %d %d %s", series, st, t, h)
	}
	return fmt.Sprintf("%s %d %d %x", series, st, t, math.Float64bits(v))
}

// compare sends a body twice, with its series unknown and known, and holds what is stored against want. Bodies which
// the generated code refuses must be refused.
func compare(t *testing.T, body []byte, contentType string, want []string, refused bool) {
	t.Helper()
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	for range 2 {
		resp := r.send(snappy.Encode(nil, body), "Content-Type", contentType)
		code := resp.Code
		if strings.Contains(resp.Body.String(), "packed field") {
			return // the generated code lets the last number of a packed list reach beyond the list
		}
		if code != http.StatusBadRequest && (refused || code != http.StatusNoContent) {
			t.Fatalf("we answer %d to %x, which the generated code refuses: %t", code, body, refused)
		}
	}
	var got []string
	for _, row := range r.store.Rows() {
		var h fmt.Stringer
		switch {
		case row.H != nil:
			h = row.H
		case row.FH != nil:
			h = row.FH
		}
		got = append(got, line(row.Series, row.ST, row.T, row.V, h))
	}
	want = append(want, want...)
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d\n%q\n%q\nof %x", len(got), len(want), got, want, body)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("row %d is\n%s\nwant\n%s\nof %x", i, got[i], want[i], body)
		}
	}
}

// modelHistogram returns the row of a histogram that is valid, or nothing.
func modelHistogram(ls labels.Labels, st, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) []string {
	if h != nil {
		if histogram.IsExponentialSchemaReserved(h.Schema) && h.Schema > histogram.ExponentialSchemaMax && h.ReduceResolution(histogram.ExponentialSchemaMax) != nil {
			return nil
		}
		if h.Validate() != nil {
			return nil
		}
		return []string{line(ls.String(), st, t, 0, h)}
	}
	if histogram.IsExponentialSchemaReserved(fh.Schema) && fh.Schema > histogram.ExponentialSchemaMax && fh.ReduceResolution(histogram.ExponentialSchemaMax) != nil {
		return nil
	}
	if fh.Validate() != nil {
		return nil
	}
	return []string{line(ls.String(), st, t, 0, fh)}
}

// usable mirrors what Prometheus' receiver takes as the labels of a series.
func usable(ls labels.Labels) bool {
	_, twice := ls.HasDuplicateLabelNames()
	return !twice && ls.Has(labels.MetricName) && ls.IsValid(model.UTF8Validation)
}

// samplesFirst tells messages that mix samples and histograms, whose order in one series the generated code loses.
func samplesFirst(samples, histograms int) bool { return samples == 0 || histograms == 0 }

func many[T any](n int, f func(int) T) (out []T) {
	for i := range n {
		out = append(out, f(i))
	}
	return out
}

func FuzzV1(f *testing.F) {
	add := func(m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: pairs("__name__", "up", "b", "", "a", "x"), Samples: []prompb.Sample{{Value: 1, Timestamp: -1}, {Value: math.NaN(), Timestamp: 1 << 60}}, Exemplars: []prompb.Exemplar{{Labels: pairs("t", "1"), Value: 3}}},
		{Labels: pairs("__name__", "h"), Histograms: []prompb.Histogram{prompb.FromIntHistogram(10, intHistogram), prompb.FromFloatHistogram(11, floatHistogram), prompb.FromIntHistogram(12, customHistogram)}},
	}, Metadata: []prompb.MetricMetadata{{Type: 1, MetricFamilyName: "up", Help: "h", Unit: "u"}}})
	f.Add([]byte("\x0a\x04\x12\x02\x10\x01\x0b\x08\x01\x0c"))
	add(&prompb.WriteRequest{Timeseries: many(20, func(i int) prompb.TimeSeries { // more than one group
		return prompb.TimeSeries{Labels: pairs("__name__", "up", "i", strings.Repeat("x", i*i)), Samples: []prompb.Sample{{Timestamp: int64(i-1) << (2 * i), Value: float64(i)}}}
	})})
	f.Add([]byte("\x0a\x1b\x0a\x0e\x0a\x08__name__\x12\x02up\x12\x02\x10\x01\x2d\x00\x00\x00\x00\x0b\x0c\x7a\x01x")) // unknown fields
	f.Add([]byte("\x0a\x19\x0a\x0e\x0a\x08__name__\x12\x02up\x12\x07\x10\x01\x10\x80\x01\x18\x01"))                  // a time twice, a start
	f.Fuzz(func(t *testing.T, body []byte) {
		var m prompb.WriteRequest
		if err := m.Unmarshal(body); err != nil {
			compare(t, body, typeV1, nil, true)
			return
		}
		var want []string
		b := labels.NewScratchBuilder(0)
		for _, ts := range m.Timeseries {
			if !samplesFirst(len(ts.Samples), len(ts.Histograms)) {
				return
			}
			ls := ts.ToLabels(&b, nil)
			if !usable(ls) {
				continue
			}
			ls = ls.WithoutEmpty()
			for _, s := range ts.Samples {
				want = append(want, line(ls.String(), 0, s.Timestamp, s.Value, nil))
			}
			for _, h := range ts.Histograms {
				if h.IsFloatHistogram() {
					want = append(want, modelHistogram(ls, 0, h.Timestamp, nil, h.ToFloatHistogram())...)
				} else {
					want = append(want, modelHistogram(ls, 0, h.Timestamp, h.ToIntHistogram(), nil)...)
				}
			}
		}
		compare(t, body, typeV1, want, false)
	})
}

func FuzzV2(f *testing.F) {
	m := requestV2(
		seriesV2(writev2.TimeSeries{Samples: []writev2.Sample{{Value: 1, Timestamp: 10, StartTimestamp: 5}}, Metadata: writev2.Metadata{Type: 1}}, [2]string{"h", "u"}, "a", "1", "__name__", "c"),
		seriesV2(writev2.TimeSeries{Histograms: []writev2.Histogram{writev2.FromIntHistogram(1, 10, intHistogram), writev2.FromFloatHistogram(0, 11, floatHistogram), writev2.FromIntHistogram(0, 12, customHistogram)}}, [2]string{}, "__name__", "h"),
	)
	seed, err := m.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	m = requestV2(many(20, func(i int) func(*writev2.SymbolsTable) writev2.TimeSeries {
		ts := writev2.TimeSeries{Samples: []writev2.Sample{{Timestamp: int64(i-1) << (2 * i), StartTimestamp: int64(i % 3)}}, Metadata: writev2.Metadata{Type: 2}}
		if i%4 == 0 {
			ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{1, 2}, Value: 3, Timestamp: int64(i)}}
		}
		return seriesV2(ts, [2]string{fmt.Sprint(i % 2), "u"}, "__name__", "up", strings.Repeat("i", 1+i*i), fmt.Sprint(i))
	})...)
	if seed, err = m.Marshal(); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("\x22\x00\x22\x08__name__\x22\x02up\x2a\x0a\x0a\x02\x01\x02\x12\x02\x18\x01\x38\x01\x3d\x01\x02\x03\x04")) // unknown fields
	f.Add([]byte("\x2a\x08\x0a\x02\x01\x02\x12\x02\x10\x01\x22\x00\x22\x08__name__\x22\x02up"))                             // symbols last
	f.Add([]byte("\x22\x00\x22\x08__name__\x22\x02up\x2a\x06\x08\x01\x08\x02\x12\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var m writev2.Request
		if err := m.Unmarshal(body); err != nil {
			compare(t, body, typeV2, nil, true)
			return
		}
		var want []string
		b := labels.NewScratchBuilder(0)
		for _, ts := range m.Timeseries {
			if !samplesFirst(len(ts.Samples), len(ts.Histograms)) {
				return
			}
			ls, err := ts.ToLabels(&b, m.Symbols)
			if err != nil || !usable(ls) {
				continue
			}
			ls = ls.WithoutEmpty()
			for _, s := range ts.Samples {
				want = append(want, line(ls.String(), s.StartTimestamp, s.Timestamp, s.Value, nil))
			}
			for _, h := range ts.Histograms {
				if h.IsFloatHistogram() {
					want = append(want, modelHistogram(ls, h.StartTimestamp, h.Timestamp, nil, h.ToFloatHistogram())...)
				} else {
					want = append(want, modelHistogram(ls, h.StartTimestamp, h.Timestamp, h.ToIntHistogram(), nil)...)
				}
			}
		}
		compare(t, body, typeV2, want, false)
	})
}
