// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

const (
	otlpHosts   = 200
	otlpSamples = 241 // of a host: 100 counters, ten histograms of 14 series, target_info
	otlpRounds  = 40  // 15 s apart
)

// otlpHost is what an instrumented service with eight attributes per data point says at a time.
func otlpHost(host, round int, at time.Time) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	for _, a := range [][2]string{
		{"service.name", "shop"},
		{"service.namespace", "prod"},
		{"service.instance.id", fmt.Sprintf("%08x-4c0a-4b5e", host*7919)},
		{"host.name", fmt.Sprintf("host-%05d", host)},
		{"k8s.pod.name", fmt.Sprintf("shop-%05d", host)},
		{"telemetry.sdk.language", "go"},
		{"telemetry.sdk.name", "opentelemetry"},
		{"telemetry.sdk.version", "1.46.0"},
		{"os.type", "linux"},
		{"deployment.environment", "prod"},
	} {
		rm.Resource().Attributes().PutStr(a[0], a[1])
	}
	attributes := func(m pcommon.Map, i int) {
		for _, a := range [][2]string{
			{"http.request.method", "GET"},
			{"http.response.status_code", fmt.Sprint(200 + i%5)},
			{"http.route", fmt.Sprintf("/v1/items/%d", i)},
			{"network.protocol.version", "1.1"},
			{"server.address", "shop.example.org"},
			{"url.scheme", "https"},
			{"tenant", fmt.Sprint(i % 7)},
			{"zone", "a"},
		} {
			m.PutStr(a[0], a[1])
		}
	}
	metrics := rm.ScopeMetrics().AppendEmpty().Metrics()
	m := metrics.AppendEmpty()
	m.SetName("http.server.requests")
	m.SetUnit("{request}")
	m.SetEmptySum().SetIsMonotonic(true)
	m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for i := range 100 {
		p := m.Sum().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(at))
		p.SetStartTimestamp(pcommon.NewTimestampFromTime(at.Add(-time.Duration(round+1) * 15 * time.Second)))
		p.SetIntValue(int64(round*17 + i))
		attributes(p.Attributes(), i)
	}
	m = metrics.AppendEmpty()
	m.SetName("http.server.request.duration")
	m.SetUnit("s")
	m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for i := range 10 {
		p := m.Histogram().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(at))
		p.SetStartTimestamp(pcommon.NewTimestampFromTime(at.Add(-time.Duration(round+1) * 15 * time.Second)))
		p.ExplicitBounds().FromRaw([]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10})
		n := uint64(round)
		p.BucketCounts().FromRaw([]uint64{n, 2 * n, 3 * n, 4, 5, 6, 7 * n, 8, 9, 10, 11, n})
		p.SetCount(14*n + 60)
		p.SetSum(12.5 * float64(n))
		attributes(p.Attributes(), i)
	}
	return md
}

// otlpRequests are those of all hosts at a time, so many of them to a request.
func otlpRequests(b *testing.B, perRequest, round int, at time.Time) [][]byte {
	var out [][]byte
	for host := 0; host < otlpHosts; host += perRequest {
		all := pmetric.NewMetrics()
		for i := range perRequest {
			otlpHost(host+i, round, at).ResourceMetrics().MoveAndAppendTo(all.ResourceMetrics())
		}
		body, err := pmetricotlp.NewExportRequestFromMetrics(all).MarshalProto()
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, body)
	}
	return out
}

// BenchmarkOTLP sends what 200 services say, by one connection, to a server, and measures what it takes of the processor for
// a sample: as SDKs send, a request for each service, and as a Collector does, twenty in one.
func BenchmarkOTLP(b *testing.B) {
	for _, perRequest := range []int{1, 20} {
		for _, name := range []string{"prometheus", "tidemark"} {
			b.Run(fmt.Sprintf("%s/%d", name, perRequest), func(b *testing.B) {
				for b.Loop() {
					benchmarkOTLP(b, name, perRequest)
				}
			})
		}
	}
}

func benchmarkOTLP(b *testing.B, name string, perRequest int) {
	dir, addr, path := b.TempDir(), peers.FreeAddr(b), peers.BuildServer(b)
	if name == "prometheus" {
		path = peers.Build(b).Prometheus
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	s := peers.Start(b, peers.Spec{
		Name: name, Path: path, Dir: dir, Ready: "http://" + addr + "/-/ready", Owner: b,
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--web.enable-otlp-receiver"},
	})
	began, before := time.Now().Add(-30*time.Minute), time.Duration(0)
	const warm = 2 // rounds in which series are new
	for round := range warm + otlpRounds {
		if round == warm {
			before = cpuTime(b, s.Pid())
		}
		for _, body := range otlpRequests(b, perRequest, round, began.Add(time.Duration(round)*15*time.Second)) {
			resp, err := http.Post("http://"+addr+"/api/v1/otlp/v1/metrics", "application/x-protobuf", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || len(text) > 0 {
				b.Fatalf("answer %s %q, %v", resp.Status, text, err)
			}
		}
	}
	used := cpuTime(b, s.Pid()) - before
	b.ReportMetric(float64(used)/(otlpHosts*otlpSamples*otlpRounds), "cpu-ns/sample")
	s.Stop(b)
}
