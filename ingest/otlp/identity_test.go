// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"math"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/otlptranslator"
	promconfig "github.com/prometheus/prometheus/config"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// seriesOf returns how many series the gauges of these requests become, target_info not counted.
func seriesOf(t *testing.T, set func(*promconfig.OTLPConfig), requests ...pmetric.Metrics) int {
	t.Helper()
	h := newSubject(t, otlp.Options{}, &ingesttest.Recorder{})
	c := promconfig.DefaultOTLPConfig
	set(&c)
	if err := h.SetConfig(c); err != nil {
		t.Fatal(err)
	}
	for _, md := range requests {
		if w := post(h, protobuf, marshal(t, md)); w.Code != http.StatusOK {
			t.Fatalf("answer %d %s", w.Code, w.Body)
		}
	}
	series := map[string]bool{}
	for _, r := range h.recorder.Rows() {
		if !strings.Contains(r.Series, "target_info") {
			series[r.Series] = true
		}
	}
	return len(series)
}

func TestScopesThatDifferAreOtherSeries(t *testing.T) {
	scoped := func(change func(pmetric.ScopeMetrics)) pmetric.Metrics {
		md := gauges(1)
		sm := md.ResourceMetrics().At(0).ScopeMetrics().At(0)
		sm.Scope().SetName("library-a")
		change(sm)
		return md
	}
	requests := []pmetric.Metrics{
		scoped(func(pmetric.ScopeMetrics) {}),
		scoped(func(sm pmetric.ScopeMetrics) { sm.Scope().SetName("library-b") }),
		scoped(func(sm pmetric.ScopeMetrics) { sm.Scope().SetVersion("1") }),
		scoped(func(sm pmetric.ScopeMetrics) { sm.SetSchemaUrl("https://example.org/1") }),
		scoped(func(sm pmetric.ScopeMetrics) { sm.SetSchemaUrl("https://example.org/2") }),
	}
	check := func(promote bool, want int) {
		t.Helper()
		if n := seriesOf(t, func(c *promconfig.OTLPConfig) { c.PromoteScopeMetadata = promote }, requests...); n != want {
			t.Errorf("promoted %v: %d series, want %d", promote, n, want)
		}
	}
	check(true, len(requests))
	check(false, 1)
}

func TestNameAndUnitAreToldApartWhateverTheyHold(t *testing.T) {
	named := func(name, unit string) pmetric.Metrics {
		md := gauges(1)
		firstMetric(md).SetName(name)
		firstMetric(md).SetUnit(unit)
		return md
	}
	set := func(c *promconfig.OTLPConfig) { c.TranslationStrategy = otlptranslator.NoTranslation }
	if n := seriesOf(t, set, named("a\x00b", "c"), named("a", "b\x00c")); n != 2 {
		t.Errorf("%d series, want 2", n)
	}
}

// TestBucketsArePaidForBeforeTheyAreRead sends what packs to a few kilobytes and takes 8 bytes of memory for every zero.
func TestBucketsArePaidForBeforeTheyAreRead(t *testing.T) {
	const zeros = 4 << 20
	account := budget.NewRoot("requests", 32<<20)
	in, err := ingest.New(ingest.Options{Appender: &ingesttest.Recorder{}, Requests: account})
	if err != nil {
		t.Fatal(err)
	}
	h, err := otlp.New(otlp.Options{Intake: in})
	if err != nil {
		t.Fatal(err)
	}
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("x")
	e := m.SetEmptyExponentialHistogram()
	e.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := e.DataPoints().AppendEmpty()
	p.SetTimestamp(1_700_000_000_000_000_000)
	p.Positive().BucketCounts().FromRaw(make([]uint64, zeros))
	body := marshal(t, md)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w := post(h, protobuf, body)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; w.Code != http.StatusRequestEntityTooLarge || took > 24<<20 {
		t.Errorf("answer %d %s after %d MiB were allocated", w.Code, w.Body, took>>20)
	}
	if n := account.Used(); n != 0 {
		t.Errorf("%d bytes stay reserved", n)
	}
}

func TestAZeroThresholdThatIsNoWidthIsRefused(t *testing.T) {
	h := newSubject(t, otlp.Options{Deltas: otlp.SumDeltas}, &ingesttest.Recorder{})
	send := func(at int, threshold float64) int64 {
		t.Helper()
		md := pmetric.NewMetrics()
		m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		m.SetName("x")
		e := m.SetEmptyExponentialHistogram()
		e.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		p := e.DataPoints().AppendEmpty()
		p.SetTimestamp(1_700_000_000_000_000_000 + pcommon.Timestamp(at)*1e9)
		p.SetCount(1)
		p.Positive().BucketCounts().Append(1)
		p.SetZeroThreshold(threshold)
		rejected, _ := partial(t, post(h, protobuf, marshal(t, md)))
		return rejected
	}
	for i, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		if n := send(2*i, bad); n != 1 {
			t.Errorf("threshold %v: %d rejected points, want 1", bad, n)
		}
		if n := send(2*i+1, 0); n != 0 {
			t.Errorf("after threshold %v: %d rejected points, want none", bad, n)
		}
	}
	rows := h.recorder.Rows()
	if len(rows) != 4 || rows[3].H.Count != 4 {
		t.Errorf("stored are %v", rows)
	}
}
