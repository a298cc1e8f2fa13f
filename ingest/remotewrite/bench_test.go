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

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
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

func bodiesV1(b *testing.B) [][]byte {
	var bodies [][]byte
	for n := 0; n < benchHosts*400; n += perRequest {
		var req prompb.WriteRequest
		for i := range perRequest {
			req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
				Labels: pairs(nodeLabels((n+i)/400, (n+i)%400)...), Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: 1_700_000_000_000}},
			})
		}
		body, err := req.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, snappy.Encode(nil, body))
	}
	return bodies
}

func bodiesV2(b *testing.B) [][]byte {
	var bodies [][]byte
	for n := 0; n < benchHosts*400; n += perRequest {
		symbols := writev2.NewSymbolTable()
		var req writev2.Request
		for i := range perRequest {
			req.Timeseries = append(req.Timeseries, seriesV2(writev2.TimeSeries{
				Samples: []writev2.Sample{{Value: float64(i) * 1.5, Timestamp: 1_700_000_000_000}}, Metadata: writev2.Metadata{Type: 1},
			}, [2]string{"Seconds the CPUs spent in each mode.", "seconds"}, nodeLabels((n+i)/400, (n+i)%400)...)(&symbols))
		}
		req.Symbols = symbols.Symbols()
		body, err := req.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		bodies = append(bodies, snappy.Encode(nil, body))
	}
	return bodies
}

func benchmarkHandler(b *testing.B, bodies [][]byte, contentType string) {
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
	b.ReportMetric(float64(cpuTime(b)-before)/float64(n*perRequest), "cpu-ns/sample")
}

// cpuTime returns what the process has used, which, unlike wall time, other processes do not add to.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkHandlerKnownSeriesV1(b *testing.B) { benchmarkHandler(b, bodiesV1(b), typeV1) }
func BenchmarkHandlerKnownSeriesV2(b *testing.B) { benchmarkHandler(b, bodiesV2(b), typeV2) }
