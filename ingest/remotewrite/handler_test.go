// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/remotewrite"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// receiver is a Handler over a Recorder.
type receiver struct {
	t     testing.TB
	h     *remotewrite.Handler
	reg   *prometheus.Registry
	store *ingesttest.Recorder
}

func newReceiver(t testing.TB, store *ingesttest.Recorder, requests *budget.Account) *receiver {
	t.Helper()
	reg := prometheus.NewRegistry()
	in, err := ingest.New(ingest.Options{Appender: store, Requests: requests, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	h, err := remotewrite.New(remotewrite.Options{Intake: in, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	return &receiver{t, h, reg, store}
}

// send posts a body with headers given in pairs.
func (r *receiver) send(body []byte, headers ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), http.MethodPost, "/api/v1/write", bytes.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, req)
	return w
}

func (r *receiver) sendMessage(m proto.Message, contentType string) *httptest.ResponseRecorder {
	r.t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.send(snappy.Encode(nil, body), "Content-Type", contentType, "Content-Encoding", "snappy")
}

// check asserts a status and a part of the answer's text.
func (r *receiver) check(resp *httptest.ResponseRecorder, code int, want string) {
	r.t.Helper()
	if body := resp.Body.String(); resp.Code != code || !strings.Contains(body, want) {
		r.t.Errorf("%d: %s\nwant %d and %q", resp.Code, body, code, want)
	}
}

func (r *receiver) metric(name string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func (r *receiver) rows(want ...ingesttest.Row) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.store.Rows(), cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
		r.t.Error(diff)
	}
}

func pairs(s ...string) []prompb.Label {
	var ls []prompb.Label
	for i := 0; i < len(s); i += 2 {
		ls = append(ls, prompb.Label{Name: s[i], Value: s[i+1]})
	}
	return ls
}

var (
	intHistogram = &histogram.Histogram{
		Schema: 3, Count: 9, Sum: 1.5, ZeroCount: 1, ZeroThreshold: 0.001, CounterResetHint: histogram.NotCounterReset,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{2, -1, 1},
		NegativeSpans: []histogram.Span{{Offset: 1, Length: 2}}, NegativeBuckets: []int64{2, -1},
	}
	floatHistogram = &histogram.FloatHistogram{
		Schema: 0, Count: 6, Sum: -2, ZeroCount: 0.5, ZeroThreshold: 1e-128, CounterResetHint: histogram.GaugeType,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{2.5, 3},
	}
	customHistogram = &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 4, Sum: 7, CustomValues: []float64{1, 2.5},
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{1, 1, -1},
	}
)

func TestV1StoresEverythingItCarries(t *testing.T) {
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	send := func() {
		t.Helper()
		r.check(r.sendMessage(&prompb.WriteRequest{
			Timeseries: []prompb.TimeSeries{
				{Labels: pairs("__name__", "up", "job", "a"), Samples: []prompb.Sample{{Value: 1, Timestamp: 10}, {Value: -0.5, Timestamp: -20}}},
				{
					Labels:    pairs("job", "b", "__name__", "up", "empty", ""),
					Samples:   []prompb.Sample{{Value: 2, Timestamp: 10}},
					Exemplars: []prompb.Exemplar{{Labels: pairs("trace_id", "x"), Value: 3, Timestamp: 9}},
				},
				{Labels: pairs("__name__", "h"), Histograms: []prompb.Histogram{
					prompb.FromIntHistogram(10, intHistogram), prompb.FromIntHistogram(12, customHistogram),
				}},
				{Labels: pairs("__name__", "fh"), Histograms: []prompb.Histogram{prompb.FromFloatHistogram(10, floatHistogram)}},
			},
			Metadata: []prompb.MetricMetadata{{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "up", Help: "h", Unit: "u"}},
		}, typeV1), http.StatusNoContent, "")
	}
	send()
	want := []ingesttest.Row{
		{Series: `{__name__="up", job="a"}`, T: 10, V: 1},
		{Series: `{__name__="up", job="a"}`, T: -20, V: -0.5},
		{Series: `{__name__="up", job="b"}`, T: 10, V: 2},
		{Series: `{__name__="h"}`, T: 10, H: intHistogram},
		{Series: `{__name__="h"}`, T: 12, H: customHistogram},
		{Series: `{__name__="fh"}`, T: 10, FH: floatHistogram},
	}
	r.rows(want...)
	if diff := cmp.Diff([]string{`{__name__="up", job="b"} # {trace_id="x"}`}, r.store.Exemplars()); diff != "" {
		t.Error(diff)
	}
	if !r.store.AllDurable() {
		t.Error("the answer came before the samples were durable")
	}
	send() // all series are known now
	r.rows(append(want, want...)...)
	if n := r.store.Resolved(); n != 4 {
		t.Errorf("%d label sets were resolved, want 4", n)
	}
	if n := r.metric("tidemark_ingest_family_metadata_dropped_total"); n != 2 {
		t.Errorf("%v dropped family metadata counted", n)
	}
	if n := r.metric("tidemark_ingest_samples_total"); n != 12 {
		t.Errorf("%v samples counted", n)
	}
}

func requestV2(series ...func(*writev2.SymbolsTable) writev2.TimeSeries) *writev2.Request {
	symbols := writev2.NewSymbolTable()
	req := &writev2.Request{}
	for _, s := range series {
		req.Timeseries = append(req.Timeseries, s(&symbols))
	}
	req.Symbols = symbols.Symbols()
	return req
}

// seriesV2 returns a maker of a series with these labels, sorted or not.
func seriesV2(ts writev2.TimeSeries, meta [2]string, pairs ...string) func(*writev2.SymbolsTable) writev2.TimeSeries {
	return func(symbols *writev2.SymbolsTable) writev2.TimeSeries {
		ts.LabelsRefs = nil
		for _, s := range pairs {
			ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(s))
		}
		ts.Metadata.HelpRef, ts.Metadata.UnitRef = symbols.Symbolize(meta[0]), symbols.Symbolize(meta[1])
		return ts
	}
}

func TestV2StoresEverythingItCarriesAndSaysSo(t *testing.T) {
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	counter := writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER}
	send := func(pad string) {
		t.Helper()
		resp := r.sendMessage(requestV2(
			func(s *writev2.SymbolsTable) writev2.TimeSeries { // moves all references
				return seriesV2(writev2.TimeSeries{Samples: []writev2.Sample{{Value: 0, Timestamp: 1}}}, [2]string{}, "__name__", "pad", "x", pad)(s)
			},
			seriesV2(writev2.TimeSeries{
				Samples: []writev2.Sample{{Value: 1, Timestamp: 10, StartTimestamp: 5}, {Value: 2, Timestamp: 20}}, Metadata: counter,
			}, [2]string{"some help", "bytes"}, "job", "a", "__name__", "c_total"),
			func(s *writev2.SymbolsTable) writev2.TimeSeries {
				ts := seriesV2(writev2.TimeSeries{Histograms: []writev2.Histogram{
					writev2.FromIntHistogram(3, 10, intHistogram), writev2.FromFloatHistogram(0, 11, floatHistogram),
				}}, [2]string{}, "__name__", "h")(s)
				ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{s.Symbolize("trace_id"), s.Symbolize("z")}, Value: 4}}
				return ts
			},
		), typeV2)
		r.check(resp, http.StatusNoContent, "")
		for name, want := range map[string]string{"Samples": "3", "Histograms": "2", "Exemplars": "1"} {
			if got := resp.Header().Get("X-Prometheus-Remote-Write-" + name + "-Written"); got != want {
				t.Errorf("%s written: %q, want %s", name, got, want)
			}
		}
	}
	send("1")
	c, h := `{__name__="c_total", job="a"}`, `{__name__="h"}`
	want := []ingesttest.Row{
		{Series: `{__name__="pad", x="1"}`, T: 1},
		{Series: c, ST: 5, T: 10, V: 1},
		{Series: c, T: 20, V: 2},
		{Series: h, ST: 3, T: 10, H: intHistogram},
		{Series: h, T: 11, FH: floatHistogram},
	}
	r.rows(want...)
	if m := r.store.Metadata(c); m != (sample.Metadata{Type: "counter", Help: "some help", Unit: "bytes"}) {
		t.Errorf("metadata is %+v", m)
	}
	send("another")
	again := append([]ingesttest.Row{{Series: `{__name__="pad", x="another"}`, T: 1}}, want[1:]...)
	r.rows(append(want, again...)...)
	if n := r.store.Resolved(); n != 4 {
		t.Errorf("%d label sets were resolved, want 4: keys must not depend on references", n)
	}
	if n := r.metric("prometheus_api_remote_write_without_metadata_appended_samples_total"); n != 6 {
		t.Errorf("%v samples without metadata, want 6", n)
	}
}

func TestContentNegotiation(t *testing.T) {
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	v1, err := proto.Marshal(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: pairs("__name__", "up"), Samples: []prompb.Sample{{Timestamp: 1}}}}})
	if err != nil {
		t.Fatal(err)
	}
	body := snappy.Encode(nil, v1)
	check := func(contentType, encoding string, code int, want string) {
		t.Helper()
		r.check(r.send(body, "Content-Type", contentType, "Content-Encoding", encoding), code, want)
	}
	check("application/x-protobuf", "snappy", 204, "")
	check("", "", 204, "")
	check("application/x-protobuf;proto=prometheus.WriteRequest", "snappy", 204, "")
	check("application/x-protobuf; charset=x; proto=\"prometheus.WriteRequest\"", "SNAPPY", 204, "")
	check("application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", 204, "") // reads as an empty request: its fields are reserved there
	check("application/x-protobuf;proto=other.Message", "snappy", 415, "not accepted: this server takes prometheus.WriteRequest and io.prometheus.write.v2.Request")
	check("application/x-protobuf;proto", "snappy", 415, "parameter without a value")
	check("application/json", "snappy", 415, "send application/x-protobuf")
	check("application/x-protobuf", "gzip", 415, "send snappy or zstd")

	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	r.check(r.send(enc.EncodeAll(v1, nil), "Content-Encoding", "zstd"), 204, "")
	r.check(r.send([]byte("not zstd"), "Content-Encoding", "zstd"), 400, "not a zstd frame")
	r.check(r.send(enc.EncodeAll(make([]byte, 33<<20), nil), "Content-Encoding", "zstd"), 400, "not a zstd frame of at most 33554432 bytes")

	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/write", http.NoBody)
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, req)
	r.check(w, 405, "POST")
}

func TestMessagesCanBeLimited(t *testing.T) {
	in, err := ingest.New(ingest.Options{Appender: &ingesttest.Recorder{}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := remotewrite.New(remotewrite.Options{Intake: in, Messages: []string{remotewrite.MessageV2}})
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, h: h}
	r.check(r.send(snappy.Encode(nil, nil), "Content-Type", typeV1), 415, "this server takes io.prometheus.write.v2.Request")
	r.check(r.send(snappy.Encode(nil, nil), "Content-Type", typeV2), 204, "")
	if _, err := remotewrite.New(remotewrite.Options{Intake: in, Messages: []string{"x"}}); err == nil {
		t.Error("an unknown message was accepted as an option")
	}
}

func TestMalformedBodiesAreRefused(t *testing.T) {
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	check := func(body []byte, contentType string, code int, want string) {
		t.Helper()
		r.check(r.send(body, "Content-Type", contentType), code, want)
	}
	pack := func(s string) []byte { return snappy.Encode(nil, []byte(s)) }
	for _, ct := range []string{typeV1, typeV2} {
		check(nil, ct, 400, "not a snappy block")
		check([]byte("\xff\xff\xff\xff\xff\xff"), ct, 400, "not a snappy block")
		check([]byte("\x05\x10abc"), ct, 400, "not a snappy block")
		check([]byte("\xff\xff\xff\x0f"), ct, 400, "cannot unpack to 33554431")
		check([]byte("\x80\x80\x80\x80\x01"), ct, 400, "the limit is 33554432")
		check(pack("\x07"), ct, 400, "malformed remote-write message")
		check(pack("\x00\x00"), ct, 400, "field 0")
		check(pack("\x0c"), ct, 400, "field 1 of wire type 4")
		check(pack("\x32\x05a"), ct, 400, "a field of 5 bytes where 1 are left")
		check(pack("\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), ct, 400, "longer than ten bytes")
	}
	check(pack("\x0d\x00\x00\x00\x00"), typeV1, 400, "field 1 has wire type 5, not 2")
	check(pack("\x0a\x04\x12\x02\x08\x01"), typeV1, 400, "field 1 has wire type 0, not 1")
	check(pack("\x0a\x03\x12\x01\x09"), typeV1, 400, "ends within a number")
	check(pack("\x2a\x04\x12\x02\x08\x01"), typeV2, 400, "field 1 has wire type 0, not 1")
	r.rows()
}

func TestOversizedBodiesAreRefused(t *testing.T) {
	in, err := ingest.New(ingest.Options{Appender: &ingesttest.Recorder{}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := remotewrite.New(remotewrite.Options{Intake: in, MaxBodyBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, h: h}
	r.check(r.send(make([]byte, 1001)), 413, "larger than the limit of 1000 bytes")
	r.check(r.send(snappy.Encode(nil, make([]byte, 1001))), 400, "the limit is 1000")

	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(make([]byte, 1<<20)))
	req.ContentLength = -1
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	r.check(w, 413, "larger than the limit")

	req = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", iotest.ErrReader(errors.New("reset by peer")))
	w = httptest.NewRecorder()
	h.ServeHTTP(w, req)
	r.check(w, 503, "reset by peer")
}

func TestInvalidSeriesAreRefusedAndTheRestIsStored(t *testing.T) {
	good := []prompb.Sample{{Value: 1, Timestamp: 1}}
	cases := []struct {
		want string
		ls   []prompb.Label
	}{
		{`label name "a" is there twice`, pairs("__name__", "up", "a", "1", "a", "1")},
		{`value of label "a" is not UTF-8`, pairs("__name__", "up", "a", "\xff")},
		{`label name "\xff" is empty or not UTF-8`, pairs("__name__", "up", "\xff", "a")},
		{`metric name is missing`, pairs("a", "1")},
		{`metric name is missing`, nil},
	}
	for _, c := range cases {
		r := newReceiver(t, &ingesttest.Recorder{}, nil)
		for range 2 { // the second time the good one is known
			r.check(r.sendMessage(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
				{Labels: c.ls, Samples: []prompb.Sample{{Timestamp: 1}, {Timestamp: 2}}},
				{Labels: pairs("__name__", "up"), Samples: good},
			}}, typeV1), 400, "2 of 3 samples were not stored: 2 invalid labels (first: "+c.want)
		}
		r.rows(ingesttest.Row{Series: `{__name__="up"}`, T: 1, V: 1}, ingesttest.Row{Series: `{__name__="up"}`, T: 1, V: 1})
		if n := r.metric("prometheus_api_remote_write_invalid_labels_samples_total"); n != 4 {
			t.Errorf("%v samples with invalid labels counted, want 4", n)
		}
		r = newReceiver(t, &ingesttest.Recorder{}, nil)
		var flat []string
		for _, l := range c.ls {
			flat = append(flat, l.Name, l.Value)
		}
		resp := r.sendMessage(requestV2(
			seriesV2(writev2.TimeSeries{Samples: []writev2.Sample{{Timestamp: 1}}}, [2]string{}, flat...),
			seriesV2(writev2.TimeSeries{Samples: []writev2.Sample{{Timestamp: 1, Value: 1}}}, [2]string{}, "__name__", "up"),
		), typeV2)
		if got := resp.Header().Get("X-Prometheus-Remote-Write-Samples-Written"); got != "1" {
			t.Errorf("samples written: %q, want 1", got)
		}
		r.check(resp, 400, "1 of 2 samples were not stored: 1 invalid labels (first: "+c.want)
		r.rows(ingesttest.Row{Series: `{__name__="up"}`, T: 1, V: 1})
	}
}

func TestBadReferencesOfV2AreRefusedAndTheRestIsStored(t *testing.T) {
	samples := []writev2.Sample{{Timestamp: 1}}
	check := func(ts writev2.TimeSeries, rows int, want string) {
		t.Helper()
		r := newReceiver(t, &ingesttest.Recorder{}, nil)
		r.check(r.sendMessage(&writev2.Request{Symbols: []string{"", "__name__", "up", "x"}, Timeseries: []writev2.TimeSeries{
			ts, {LabelsRefs: []uint32{1, 3}, Samples: samples},
		}}, typeV2), 400, want)
		if n := len(r.store.Rows()); n != rows {
			t.Errorf("%d rows were stored, want %d", n, rows)
		}
	}
	check(writev2.TimeSeries{LabelsRefs: []uint32{1, 2, 3}, Samples: samples}, 1, "3 references where every name needs a value")
	check(writev2.TimeSeries{LabelsRefs: []uint32{1, 9}, Samples: samples}, 1, "reference 9 is outside of the 4 symbols")
	check(writev2.TimeSeries{LabelsRefs: []uint32{1, 9}, Samples: samples, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{9, 1}}}}, 1, "1 invalid labels")
	check(writev2.TimeSeries{LabelsRefs: []uint32{1, 2}}, 1, `series without samples (first: {__name__="up"})`)
	check(writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: samples, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{9, 1}}}}, 2, "exemplar with bad label references")
	check(writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: samples, Metadata: writev2.Metadata{HelpRef: 9}}, 2, "metadata with bad references")
}

// Prometheus sends an exemplar as a series of its own.
func TestAnExemplarWithoutSamplesIsNoMistake(t *testing.T) {
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	r.check(r.sendMessage(&writev2.Request{Symbols: []string{"", "__name__", "up", "trace", "1"}, Timeseries: []writev2.TimeSeries{
		{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: 1}}},
		{LabelsRefs: []uint32{1, 2}, Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Timestamp: 1}}},
	}}, typeV2), 204, "")
	if got := r.store.Exemplars(); len(got) != 1 || got[0] != `{__name__="up"} # {trace="1"}` {
		t.Errorf("exemplars %q", got)
	}
}

func TestInvalidHistogramsAreRefusedAndTheRestIsStored(t *testing.T) {
	bad := intHistogram.Copy()
	bad.Count = 1
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	r.check(r.sendMessage(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:     pairs("__name__", "h"),
		Histograms: []prompb.Histogram{prompb.FromIntHistogram(1, bad), prompb.FromIntHistogram(2, intHistogram)},
	}}}, typeV1), 400, `1 of 2 samples were not stored: 1 invalid histogram (first: {__name__="h"} at 1970-01-01T00:00:00.001Z: `)
	r.rows(ingesttest.Row{Series: `{__name__="h"}`, T: 2, H: intHistogram})
}

func TestFineHistogramsAreReduced(t *testing.T) {
	fine := &histogram.Histogram{Schema: 10, Count: 2, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 4, Length: 2}}, PositiveBuckets: []int64{1, 0}}
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	r.check(r.sendMessage(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels: pairs("__name__", "h"), Histograms: []prompb.Histogram{prompb.FromIntHistogram(1, fine), prompb.FromFloatHistogram(2, fine.ToFloat(nil))},
	}}}, typeV1), 204, "")
	for _, row := range r.store.Rows() {
		if row.H != nil && row.H.Schema != 8 || row.FH != nil && row.FH.Schema != 8 {
			t.Errorf("row %+v is not of schema 8", row)
		}
	}
}

func TestReasonsOfTheStoreAreTold(t *testing.T) {
	one := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: pairs("__name__", "up"), Samples: []prompb.Sample{{Timestamp: 1}, {Timestamp: 2}}}}}
	check := func(reason sample.Reason, code int, want string) {
		t.Helper()
		r := newReceiver(t, &ingesttest.Recorder{Fate: func(row ingesttest.Row) sample.Reason {
			if row.T == 1 {
				return sample.Accepted
			}
			return reason
		}}, nil)
		r.check(r.sendMessage(one, typeV1), code, want)
	}
	check(sample.Same, 204, "")
	check(sample.OutOfOrder, 400, `1 of 2 samples were not stored: 1 out of order sample (first: {__name__="up"} at 1970-01-01T00:00:00.002Z)`)
	check(sample.TooOld, 400, "1 too old sample")
	check(sample.TooNew, 400, "1 sample too far in the future")
	check(sample.Conflict, 400, "1 duplicate sample for timestamp with another value")
	check(sample.Invalid, 400, "1 invalid value")
	check(sample.OverLimit, 503, "memory_pressure")
}

func TestAStoreThatTakesNoWritesIsTriedAgainLater(t *testing.T) {
	one := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: pairs("__name__", "up"), Samples: []prompb.Sample{{Timestamp: 1}}}}}
	check := func(store *ingesttest.Recorder, code int, after, want string) {
		t.Helper()
		r := newReceiver(t, store, nil)
		resp := r.sendMessage(one, typeV1)
		if got := resp.Header().Get("Retry-After"); got != after {
			t.Errorf("Retry-After is %q, want %q", got, after)
		}
		r.check(resp, code, want)
	}
	full := &sample.UnavailableError{Condition: "read_only", RetryAfter: 1500 * time.Millisecond}
	check(&ingesttest.Recorder{CommitErr: full}, 503, "2", "read_only")
	check(&ingesttest.Recorder{ResolveErr: full}, 503, "2", "read_only")
	check(&ingesttest.Recorder{DurableErr: fmt.Errorf("sync: %w", &sample.UnavailableError{Condition: "failed_sync"})}, 503, "5", "failed_sync")
	check(&ingesttest.Recorder{DurableErr: errors.New("input/output error")}, 500, "", "input/output error")
}

func TestLabelsInPiecesAreOneSeries(t *testing.T) {
	r := newReceiver(t, &ingesttest.Recorder{}, nil)
	label := func(l prompb.Label) []byte {
		b, err := l.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{0x0a, byte(len(b))}, b...)
	}
	sampleAt := []byte{0x12, 2, 0x10, 7}
	ts := append(append(append(append([]byte{}, label(prompb.Label{Name: "__name__", Value: "up"})...), sampleAt...), label(prompb.Label{Name: "job", Value: "a"})...), sampleAt...)
	for range 2 {
		r.check(r.send(snappy.Encode(nil, append([]byte{0x0a, byte(len(ts))}, ts...))), 204, "")
	}
	row := ingesttest.Row{Series: labels.FromStrings("__name__", "up", "job", "a").String(), T: 7}
	r.rows(row, row, row, row)
}
