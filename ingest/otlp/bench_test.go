// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"golang.org/x/sys/unix"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/otlp"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// sink is an appender that costs nothing.
type sink struct{ next uint32 }

func (s *sink) Resolve(_ []labels.Labels, refs []sample.Ref) error {
	for i := range refs {
		s.next++
		refs[i] = sample.MakeRef(1, s.next)
	}
	return nil
}

func (s *sink) Commit(_ context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	*r = sample.Result{Floats: b.Len()}
	return 1, nil
}

func (s *sink) Durable(context.Context, sample.LSN) error { return nil }

// peerSink is the same for Prometheus' handler.
type peerSink struct{}

func (p peerSink) AppenderV2(context.Context) storage.AppenderV2 { return p }
func (peerSink) Commit() error                                   { return nil }
func (peerSink) Rollback() error                                 { return nil }

func (peerSink) Append(storage.SeriesRef, labels.Labels, int64, int64, float64, *histogram.Histogram, *histogram.FloatHistogram, storage.AOptions) (storage.SeriesRef, error) {
	return 1, nil
}

// fleet makes requests of an instrumented service: per host 100 counters with eight attributes and ten histograms of 12
// buckets, as its SDK would send them.
func fleet(b *testing.B, hosts int) (bodies [][]byte, samples int) {
	now := pcommon.NewTimestampFromTime(time.Now())
	for host := range hosts {
		md := pmetric.NewMetrics()
		rm := md.ResourceMetrics().AppendEmpty()
		for k, v := range map[string]string{
			"service.name": "shop", "service.namespace": "prod", "service.instance.id": fmt.Sprintf("%08x-4c0a-4b5e", host*7919),
			"host.name": fmt.Sprintf("host-%05d", host), "k8s.pod.name": fmt.Sprintf("shop-%05d", host), "telemetry.sdk.language": "go",
			"telemetry.sdk.name": "opentelemetry", "telemetry.sdk.version": "1.46.0", "os.type": "linux", "deployment.environment": "prod",
		} {
			rm.Resource().Attributes().PutStr(k, v)
		}
		sm := rm.ScopeMetrics().AppendEmpty()
		sm.Scope().SetName("example.org/shop")
		attributes := func(m pcommon.Map, i int) {
			for k, v := range map[string]string{
				"http.request.method": "GET", "http.response.status_code": fmt.Sprint(200 + i%5), "http.route": fmt.Sprintf("/v1/items/%d", i),
				"network.protocol.version": "1.1", "server.address": "shop.example.org", "url.scheme": "https", "tenant": fmt.Sprint(i % 7), "zone": "a",
			} {
				m.PutStr(k, v)
			}
		}
		m := sm.Metrics().AppendEmpty()
		m.SetName("http.server.requests")
		m.SetUnit("{request}")
		m.SetDescription("Requests that were answered.")
		m.SetEmptySum().SetIsMonotonic(true)
		m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for i := range 100 {
			p := m.Sum().DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.SetStartTimestamp(now - 1e12)
			p.SetIntValue(int64(i) * 17)
			attributes(p.Attributes(), i)
			samples++
		}
		m = sm.Metrics().AppendEmpty()
		m.SetName("http.server.request.duration")
		m.SetUnit("s")
		m.SetDescription("How long requests took.")
		m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for i := range 10 {
			p := m.Histogram().DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.SetStartTimestamp(now - 1e12)
			p.ExplicitBounds().FromRaw([]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10})
			p.BucketCounts().FromRaw([]uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
			p.SetCount(78)
			p.SetSum(1234.5)
			attributes(p.Attributes(), i)
			samples += 14
		}
		samples++ // target_info
		bodies = append(bodies, marshal(b, md))
	}
	return bodies, samples
}

func benchmark(b *testing.B, h http.Handler, hosts int) {
	bodies, samples := fleet(b, hosts)
	for _, body := range bodies {
		if w := post(h, protobuf, body); w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportAllocs()
	start := cpuTime(b)
	for i := 0; b.Loop(); i++ {
		if w := post(h, protobuf, bodies[i%len(bodies)]); w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N)/float64(samples/hosts), "cpu-ns/sample")
}

// cpuTime returns what the process has used, which, unlike wall time, other processes do not add to.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const benchHosts = 200 // of 241 series: more than the caches of a core hold

func BenchmarkKnownSeries(b *testing.B) {
	h := newHandler(b, &sink{}, otlp.Options{})
	benchmark(b, h, benchHosts)
}

func BenchmarkKnownSeriesPrometheus(b *testing.B) {
	benchmark(b, remote.NewOTLPWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), peerSink{}, func() promconfig.Config {
		return promconfig.DefaultConfig
	}, remote.OTLPOptions{}), benchHosts)
}

// Series that the key table does not know are translated by Prometheus' converter.
func BenchmarkUnknownSeries(b *testing.B) {
	bodies, samples := fleet(b, 1)
	h, instance := newHandler(b, &sink{}, otlp.Options{}), []byte("00000000-4c0a")
	b.ReportAllocs()
	start := cpuTime(b)
	for i := 0; b.Loop(); i++ {
		other := fmt.Appendf(nil, "%08x-4c0a", i+1)
		if w := post(h, protobuf, bytes.Replace(bodies[0], instance, other, 1)); w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N)/float64(samples), "cpu-ns/sample")
}

func newHandler(t testing.TB, to sample.Appender, o otlp.Options) *otlp.Handler {
	t.Helper()
	intake, err := ingest.New(ingest.Options{Appender: to})
	if err != nil {
		t.Fatal(err)
	}
	o.Intake = intake
	h, err := otlp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
