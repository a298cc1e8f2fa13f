// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package remotewrite_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/remotewrite"
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

// nodeLabels are the nine labels of a node_exporter series of the fleet that the load generator simulates.
func nodeLabels(host, i int) []string {
	return []string{
		"__name__", "node_cpu_seconds_total", "cluster", fmt.Sprintf("eu-west-%d", host%4), "cpu", fmt.Sprint(i % 64),
		"env", "prod", "instance", fmt.Sprintf("host-%05d.example:9100", host), "job", "node", "mode", fmt.Sprint("mode", i/64),
		"pod", fmt.Sprintf("node-exporter-%05d-%05x", host, host*7919), "rack", fmt.Sprintf("r%02d", host%40), "team", fmt.Sprintf("team-%02d", host%17),
	}
}

const (
	benchHosts = 100 // of 400 series: 40,000 series in 20 requests, more than the caches of a core hold
	perRequest = 2000
)

func bodies(b *testing.B, contentType string) (out [][]byte) {
	b.Helper()
	for n := 0; n < benchHosts*400; n += perRequest {
		out = append(out, bodyOf(b, contentType, n, perRequest))
	}
	return out
}

func benchmarkHandler(b *testing.B, contentType string) {
	b.Helper()
	bodies := bodies(b, contentType)
	in, err := ingest.New(ingest.Options{Appender: &sink{}})
	if err != nil {
		b.Fatal(err)
	}
	h, err := remotewrite.New(remotewrite.Options{Intake: in})
	if err != nil {
		b.Fatal(err)
	}
	send := func(i int) {
		body := bodies[i%len(bodies)]
		req := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != http.StatusNoContent {
			b.Fatal(w.Body)
		}
	}
	for i := range bodies {
		send(i)
	}
	b.ReportAllocs()
	n, before := 0, cpuTime(b)
	for b.Loop() {
		send(n)
		n++
	}
	used := cpuTime(b) - before
	b.ReportMetric(float64(used)/float64(n*perRequest), "cpu-ns/sample")
	b.ReportMetric(float64(n*perRequest)/used.Seconds(), "samples/s/core")
}

// cpuTime returns what the process has used, which, unlike wall time, other processes do not add to.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkHandlerKnownSeriesV1(b *testing.B) { benchmarkHandler(b, typeV1) }
func BenchmarkHandlerKnownSeriesV2(b *testing.B) { benchmarkHandler(b, typeV2) }
