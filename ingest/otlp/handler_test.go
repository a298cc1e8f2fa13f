// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/otlptranslator"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// gauges is a request with points of one gauge of a service, told apart by the attribute n.
func gauges(n int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	rm.Resource().Attributes().PutStr("host.name", "h1")
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("temperature")
	m.SetEmptyGauge()
	for i := range n {
		addGauge(m, i)
	}
	return md
}

func addGauge(m pmetric.Metric, n int) pmetric.NumberDataPoint {
	p := m.Gauge().DataPoints().AppendEmpty()
	p.SetTimestamp(1_700_000_000_000_000_000)
	p.SetIntValue(int64(n))
	p.Attributes().PutInt("n", int64(n))
	return p
}

func firstMetric(md pmetric.Metrics) pmetric.Metric {
	return md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
}

// partial returns what an answer says of rejected points.
func partial(t *testing.T, w *httptest.ResponseRecorder) (rejected int64, message string) {
	t.Helper()
	msg := pmetricotlp.NewExportResponse()
	if err := msg.UnmarshalProto(w.Body.Bytes()); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != protobuf {
		t.Fatalf("answer %d %v %q: %v", w.Code, w.Header(), w.Body, err)
	}
	return msg.PartialSuccess().RejectedDataPoints(), msg.PartialSuccess().ErrorMessage()
}

func zipped(body []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(body)
	_ = z.Close()
	return b.Bytes()
}

func TestBodiesThatCannotBeReadAreRefused(t *testing.T) {
	h := newSubject(t, otlp.Options{MaxBodyBytes: 1 << 20}, &ingesttest.Recorder{})
	check := func(code int, reason, contentType, encoding string, body []byte) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != code || !strings.Contains(w.Body.String(), reason) {
			t.Errorf("%s %s: answer %d %q, want %d with %q", contentType, encoding, w.Code, w.Body, code, reason)
		}
	}
	good := marshal(t, gauges(1))
	check(415, "application/json", "text/plain", "", good)
	check(415, "application/json", "", "", good)
	check(415, "send gzip", protobuf, "br", good)
	check(413, "larger than the limit of 1048576", protobuf, "", make([]byte, 2<<20))
	check(413, "larger than the limit of 1048576", protobuf, "gzip", zipped(make([]byte, 100<<20)))
	check(400, "cannot be read", protobuf, "gzip", good)
	check(400, "malformed ExportMetricsServiceRequest", protobuf, "", []byte{0xff})
	check(400, "malformed NumberDataPoint, field 3: wire type 0 instead of 1", protobuf, "", bytes.Replace(good, []byte{0x19}, []byte{0x18}, 1))
	check(400, `"code":3`, "application/json", "", []byte("{"))
	check(400, "nested more than", "application/json", "", bytes.Repeat([]byte("["), 1000))
	check(200, "", protobuf, "", nil)
	check(200, "{", "application/json; charset=utf-8", "", []byte("{}"))
	check(200, "", protobuf, "gzip", zipped(good))
	if n := len(h.recorder.Rows()); n != 2 {
		t.Errorf("%d rows are stored, want that of the last body and target_info", n)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != 405 {
		t.Errorf("GET is answered %d", w.Code)
	}
}

func TestErrorsAreStatusMessages(t *testing.T) {
	h := newSubject(t, otlp.Options{}, &ingesttest.Recorder{})
	w := post(h, protobuf, []byte{0xff})
	f := w.Body.Bytes()
	_, _, n := protowire.ConsumeField(f)
	if n != 2 || f[0] != 1<<3 || f[1] != 3 || f[2] != 2<<3|2 || w.Header().Get("Content-Type") != protobuf {
		t.Errorf("%v %q is no google.rpc.Status with code 3 and a message", w.Header(), f)
	}
	w = post(h, "application/json", []byte("["))
	var status struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil || status.Code != 3 || status.Message == "" {
		t.Errorf("%q is no google.rpc.Status: %v", w.Body, err)
	}
}

func TestSendersTryAgainWhileTheStoreTakesNothing(t *testing.T) {
	check := func(after string, r *ingesttest.Recorder, o ingest.Options) {
		t.Helper()
		o.Appender = r
		in, err := ingest.New(o)
		if err != nil {
			t.Fatal(err)
		}
		h, err := otlp.New(otlp.Options{Intake: in})
		if err != nil {
			t.Fatal(err)
		}
		if w := post(h, protobuf, marshal(t, gauges(3))); w.Code != 503 || w.Header().Get("Retry-After") != after {
			t.Errorf("answer %d %v %q", w.Code, w.Header(), w.Body)
		}
		if n := o.Requests.Used(); n != 0 && n != 1<<20-1000 {
			t.Errorf("%d bytes stay charged", n)
		}
	}
	down := &sample.UnavailableError{Condition: "read_only", RetryAfter: 1500 * time.Millisecond}
	check("2", &ingesttest.Recorder{CommitErr: down}, ingest.Options{})
	check("2", &ingesttest.Recorder{ResolveErr: down}, ingest.Options{})
	check("2", &ingesttest.Recorder{DurableErr: down}, ingest.Options{})
	others := budget.NewRoot("requests", 1<<20)
	if err := others.Reserve(1<<20 - 1000); err != nil {
		t.Fatal(err)
	}
	check("5", &ingesttest.Recorder{}, ingest.Options{Requests: others})
	if w := post(newSubject(t, otlp.Options{}, &ingesttest.Recorder{CommitErr: errors.New("x")}), protobuf, marshal(t, gauges(1))); w.Code != 500 {
		t.Errorf("an unknown error is answered %d", w.Code)
	}
}

// breaking is a body that ends too early.
type breaking struct{ r io.Reader }

func (b breaking) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestBodiesThatBreakOffAreSentAgainAndTooLargeOnesAreNot(t *testing.T) {
	check := func(code int, body io.Reader, encoding string, requests *budget.Account) {
		t.Helper()
		in, err := ingest.New(ingest.Options{Appender: &ingesttest.Recorder{}, Requests: requests})
		if err != nil {
			t.Fatal(err)
		}
		h, err := otlp.New(otlp.Options{Intake: in})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/", body)
		r.Header.Set("Content-Type", protobuf)
		r.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != code || code == 503 && w.Header().Get("Retry-After") == "" {
			t.Errorf("answer %d %v %q, want %d", w.Code, w.Header(), w.Body, code)
		}
		if n := requests.Used(); n != 0 {
			t.Errorf("%d bytes stay charged", n)
		}
	}
	good := marshal(t, gauges(1000))
	half := len(zipped(good)) / 2
	check(503, breaking{bytes.NewReader(good[:100])}, "", nil)
	check(503, breaking{bytes.NewReader(zipped(good)[:half])}, "gzip", nil)
	check(400, bytes.NewReader(zipped(good)[:half]), "gzip", nil)
	check(413, bytes.NewReader(good), "", budget.NewRoot("requests", 100<<10)) // it alone is more than all requests may have
	check(200, bytes.NewReader(good), "", budget.NewRoot("requests", 8<<20))
}

func TestASenderHearsInTimeThatTheStoreLags(t *testing.T) {
	h := newHandler(t, stuck{}, otlp.Options{CommitTimeout: 10 * time.Millisecond})
	if w := post(h, protobuf, marshal(t, gauges(1))); w.Code != 503 || w.Header().Get("Retry-After") != "5" {
		t.Errorf("answer %d %v %q", w.Code, w.Header(), w.Body)
	}
}

// stuck is a store whose disk stands still.
type stuck struct{}

func (stuck) Resolve(_ []labels.Labels, refs []sample.Ref) error {
	for i := range refs {
		refs[i] = sample.MakeRef(1, uint32(i+1))
	}
	return nil
}

func (stuck) Commit(_ context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	*r = sample.Result{Floats: b.Len()}
	return 1, nil
}

func (stuck) Durable(ctx context.Context, _ sample.LSN) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestRejectedDataPointsAreCountedAndTheRestIsStored(t *testing.T) {
	check := func(r *ingesttest.Recorder, md pmetric.Metrics, rejected int64, reason string, rows int) {
		t.Helper()
		h := newSubject(t, otlp.Options{}, r)
		for range 2 { // unknown and known series
			before := len(r.Rows())
			got, message := partial(t, post(h, protobuf, marshal(t, md)))
			if got != rejected || !strings.Contains(message, reason) || reason == "" && message != "" {
				t.Errorf("%d points are rejected because %q, want %d because of %q", got, message, rejected, reason)
			}
			if n := len(r.Rows()) - before; n != rows {
				t.Errorf("%d rows are stored, want %d", n, rows)
			}
		}
	}
	check(&ingesttest.Recorder{}, gauges(5), 0, "", 6)
	check(&ingesttest.Recorder{Fate: func(r ingesttest.Row) sample.Reason {
		if r.V == 1 && strings.Contains(r.Series, "temperature") || r.V == 3 {
			return sample.TooOld
		}
		return sample.Accepted
	}}, gauges(5), 2, `2 too old sample (first: {__name__="temperature", job="shop", n="1"} at 2023-11-14`, 4)
	check(&ingesttest.Recorder{Fate: func(r ingesttest.Row) sample.Reason {
		if strings.Contains(r.Series, "target_info") {
			return sample.Conflict
		}
		return sample.Accepted
	}}, gauges(5), 0, "duplicate sample", 5)

	md := gauges(3)
	addGauge(firstMetric(md), 9).Attributes().PutStr("bad", "\xff")
	addGauge(firstMetric(md), 10)
	check(&ingesttest.Recorder{}, md, 1, `value of label "bad" is not UTF-8`, 5)

	md = gauges(1)
	m := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().AppendEmpty()
	m.SetName("requests")
	m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	m.Sum().DataPoints().AppendEmpty()
	m.Sum().DataPoints().AppendEmpty()
	check(&ingesttest.Recorder{}, md, 2, `metric "requests" has a delta temporality`, 2)

	md = gauges(1)
	m = md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().AppendEmpty()
	m.SetName("sizes")
	m.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	m.ExponentialHistogram().DataPoints().AppendEmpty().SetScale(-5)
	m.ExponentialHistogram().DataPoints().AppendEmpty().SetZeroCount(3) // and no count
	m.ExponentialHistogram().DataPoints().AppendEmpty().SetTimestamp(firstMetric(md).Gauge().DataPoints().At(0).Timestamp())
	check(&ingesttest.Recorder{}, md, 2, "its scale -5 is below -4", 3)
}

func TestAHistogramOfWhichOneSampleIsNotStoredIsOneRejectedPoint(t *testing.T) {
	r := &ingesttest.Recorder{Fate: func(r ingesttest.Row) sample.Reason {
		if strings.Contains(r.Series, "le=") {
			return sample.OutOfOrder
		}
		return sample.Accepted
	}}
	g := newGenerator(1)
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("h")
	m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for range 3 {
		g.histogram(m.Histogram().DataPoints().AppendEmpty())
	}
	if n, message := partial(t, post(newSubject(t, otlp.Options{}, r), protobuf, marshal(t, md))); n != 3 {
		t.Errorf("%d points are rejected, want 3: %s", n, message)
	}
}

func TestJSONMeansWhatProtobufMeans(t *testing.T) {
	for seed := range uint64(30) {
		g := newGenerator(seed)
		md := g.metrics()
		text, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		a, b := newSubject(t, otlp.Options{}, &ingesttest.Recorder{}), newSubject(t, otlp.Options{}, &ingesttest.Recorder{})
		post(a, protobuf, marshal(t, md))
		if w := post(b, "application/json", text); w.Code != http.StatusOK || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("seed %d: answer %d %s", seed, w.Code, w.Body)
		}
		if same(t, b.stored(), a.stored()); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestLabelsOfKnownSeriesAreNotTranslated(t *testing.T) {
	h := newSubject(t, otlp.Options{}, &ingesttest.Recorder{})
	body := marshal(t, gauges(500))
	for range 3 {
		post(h, protobuf, body)
		if n := h.recorder.Resolved(); n != 501 {
			t.Fatalf("%d label sets were resolved, want 501", n)
		}
	}
	if n := len(h.recorder.Rows()); n != 3*501 || !h.recorder.AllDurable() {
		t.Errorf("%d rows are stored, all durable: %v", n, h.recorder.AllDurable())
	}
}

func TestSeriesThatLeftTheStoreAreResolvedAgain(t *testing.T) {
	h := newSubject(t, otlp.Options{}, &ingesttest.Recorder{})
	g := newGenerator(7)
	body := marshal(t, g.metrics())
	post(h, protobuf, body)
	first := h.stored()
	h.recorder.Forget()
	if n, message := partial(t, post(h, protobuf, body)); n != 0 {
		t.Errorf("%d points are rejected: %s", n, message)
	}
	// The same series, and each row once more.
	want := &stored{rows: first.rows, meta: first.meta, exemplars: append(first.exemplars, first.exemplars...)}
	want.sort()
	if same(t, h.stored(), want); len(first.rows) < 10 {
		t.Errorf("%d rows are too few to tell", len(first.rows))
	}
}

func TestAnotherConfigurationGivesKnownBytesOtherLabels(t *testing.T) {
	h := newSubject(t, otlp.Options{}, &ingesttest.Recorder{})
	c := promconfig.DefaultOTLPConfig
	for _, strategy := range []otlptranslator.TranslationStrategyOption{otlptranslator.UnderscoreEscapingWithSuffixes, otlptranslator.NoTranslation} {
		c.TranslationStrategy = strategy
		if err := h.SetConfig(c); err != nil {
			t.Fatal(err)
		}
		post(h, protobuf, marshal(t, gauges(1)))
	}
	c.PromoteResourceAttributes = []string{"host.name"}
	if err := h.SetConfig(c); err != nil {
		t.Fatal(err)
	}
	post(h, protobuf, marshal(t, gauges(1)))
	var names []string
	for _, r := range h.recorder.Rows() {
		names = append(names, r.Series)
	}
	slices.Sort(names)
	want := []string{
		`{__name__="target_info", "host.name"="h1", job="shop"}`, `{__name__="target_info", "host.name"="h1", job="shop"}`,
		`{__name__="target_info", host_name="h1", job="shop"}`,
		`{__name__="temperature", "host.name"="h1", job="shop", n="0"}`,
		`{__name__="temperature", job="shop", n="0"}`, `{__name__="temperature", job="shop", n="0"}`,
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the series are\n%s\nwant\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
}

func TestTargetInfoIsBoundedWhateverTimesPointsHave(t *testing.T) {
	check := func(rows int, times ...pcommon.Timestamp) {
		t.Helper()
		md := gauges(0)
		for i, at := range times {
			addGauge(firstMetric(md), i).SetTimestamp(at)
		}
		h := newSubject(t, otlp.Options{}, &ingesttest.Recorder{})
		if w := post(h, protobuf, marshal(t, md)); w.Code != http.StatusOK {
			t.Fatal(w.Code, w.Body)
		}
		if n := len(h.recorder.Rows()) - len(times); n != rows {
			t.Errorf("%d samples of target_info for points at %d, want %d", n, times, rows)
		}
	}
	const hour = pcommon.Timestamp(time.Hour)
	check(1, 0)
	check(1, 1e18)
	check(1, 1e18, 1e18)
	check(1, 0, 1e18) // a point without a time says nothing about the resource
	check(1+24, 1e18, 1e18+hour)
	check(1+10_000, 1e18, 1e18+10_000*hour)
	check(1+10_000, 1, math.MaxUint64)
}

// nest returns an attribute whose value is a list of lists, as protobuf.
func nest(depth int) []byte {
	var value []byte
	for range depth {
		list := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), value)
		value = protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), list)
	}
	return value
}

func TestDeeplyNestedAttributesAreRefusedWithoutReadingThem(t *testing.T) {
	check := func(depth int, rejected int64) {
		t.Helper()
		md := gauges(1)
		addGauge(firstMetric(md), 1).Attributes().PutStr("list", strings.Repeat("x", len(nest(depth))-2))
		body := marshal(t, md)
		value := nest(depth)
		// The text in the message has the length of the nested value, with its tag and length.
		text := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), strings.Repeat("x", len(nest(depth))-2))
		if pad := len(text) - len(value); pad > 0 {
			value = append(value, protowire.AppendVarint(protowire.AppendTag(nil, 15, protowire.VarintType), 1)...)[:len(value)+pad]
		}
		if got, message := partial(t, post(newSubject(t, otlp.Options{}, &ingesttest.Recorder{}), protobuf, bytes.Replace(body, text, value, 1))); got != rejected {
			t.Errorf("%d deep: %d points are rejected: %s", depth, got, message)
		}
	}
	check(20, 0)
	check(40, 1)
	check(3000, 1)
}

func TestExemplarsKeepValueAndTime(t *testing.T) {
	md := gauges(0)
	firstMetric(md).SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := firstMetric(md).Sum().DataPoints().AppendEmpty()
	p.SetTimestamp(1_700_000_000_000_000_000)
	e := p.Exemplars().AppendEmpty()
	e.SetIntValue(3)
	e.SetTraceID(pcommon.TraceID{1})
	e = p.Exemplars().AppendEmpty()
	e.SetDoubleValue(2.5)
	e.SetTimestamp(1_600_000_000_000_000_000)
	p.Exemplars().AppendEmpty() // without a value
	r := &ingesttest.Recorder{}
	n, message := partial(t, post(newSubject(t, otlp.Options{}, r), protobuf, marshal(t, md)))
	if n != 0 || !strings.Contains(message, "exemplars that cannot be stored (first: it has no value)") {
		t.Errorf("%d rejected, %q", n, message)
	}
	if got := fmt.Sprint(r.Exemplars()); strings.Count(got, "#") != 2 || !strings.Contains(got, `trace_id="01000000000000000000000000000000"`) {
		t.Errorf("exemplars: %s", got)
	}
}
