// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/csv"
	"github.com/tidemarkdb/tidemark/ingest/push/exposition"
	"github.com/tidemarkdb/tidemark/ingest/push/influx"
	"github.com/tidemarkdb/tidemark/ingest/push/jsonlines"
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

// The fleet that is sent: hosts with the series of CPUs, all known after the first body.
const (
	hosts   = 500
	perHost = 40
)

// body writes a sample of each series.
func body(line func(w io.Writer, host, i int)) []byte {
	var b bytes.Buffer
	for host := range hosts {
		for i := range perHost {
			line(&b, host, i)
		}
	}
	return b.Bytes()
}

// benchmark sends a body of hosts*perHost samples to a handler again and again. It reports CPU time and allocations.
func benchmark(b *testing.B, path string, text []byte, handler func(*push.Receiver) http.Handler) {
	b.Helper()
	in, err := ingest.New(ingest.Options{Appender: &sink{}})
	if err != nil {
		b.Fatal(err)
	}
	r, err := push.New(push.Options{Intake: in})
	if err != nil {
		b.Fatal(err)
	}
	h := handler(r)
	send := func() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(text)))
		if rec.Code/100 != 2 {
			b.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	send()
	const samples = hosts * perHost
	b.ReportAllocs()
	n, before := 0, cpuTime(b)
	for b.Loop() {
		send()
		n += samples
	}
	used := cpuTime(b) - before
	b.ReportMetric(float64(used)/float64(n), "cpu-ns/sample")
	b.ReportMetric(float64(n)/used.Seconds(), "samples/s/core")
}

// cpuTime returns what the process has used, which, unlike wall time, other processes do not add to.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const now = 1_700_000_000_000

func BenchmarkInflux(b *testing.B) {
	text := body(func(w io.Writer, host, i int) {
		if i%10 == 0 { // telegraf's cpu input: a line has the fields of one CPU
			fmt.Fprintf(w, "cpu,cpu=cpu%d,dc=eu-west-%d,env=prod,host=host-%05d.example,rack=r%02d ", i/10, host%4, host, host%40)
		} else {
			fmt.Fprint(w, ",")
		}
		fmt.Fprintf(w, "usage_mode_%d=%v", i%10, float64(host*i)*0.37)
		if i%10 == 9 {
			fmt.Fprintf(w, " %d000000\n", now)
		}
	})
	benchmark(b, "/influx/write", text, func(r *push.Receiver) http.Handler { return influx.New(r, "/influx") })
}

func BenchmarkInfluxOneField(b *testing.B) {
	text := body(func(w io.Writer, host, i int) {
		fmt.Fprintf(w, "cpu,cpu=cpu%d,dc=eu-west-%d,env=prod,host=host-%05d.example,rack=r%02d value=%v %d000000\n", i, host%4, host, host%40, float64(host*i)*0.37, now)
	})
	benchmark(b, "/influx/write", text, func(r *push.Receiver) http.Handler { return influx.New(r, "/influx") })
}

func BenchmarkText(b *testing.B) {
	text := body(func(w io.Writer, host, i int) {
		fmt.Fprintf(w, "node_cpu_seconds_total{cpu=\"%d\",dc=\"eu-west-%d\",env=\"prod\",host=\"host-%05d.example\",rack=\"r%02d\"} %v %d\n", i, host%4, host, host%40, float64(host*i)*0.37, now)
	})
	benchmark(b, "/", text, func(r *push.Receiver) http.Handler { return http.HandlerFunc(exposition.New(r).Import) })
}

func BenchmarkCSV(b *testing.B) {
	text := body(func(w io.Writer, host, i int) {
		fmt.Fprintf(w, "%d,eu-west-%d,prod,host-%05d.example,r%02d,%v,%d\n", i, host%4, host, host%40, float64(host*i)*0.37, now)
	})
	const format = "1:label:cpu,2:label:dc,3:label:env,4:label:host,5:label:rack,6:metric:node_cpu_seconds_total,7:time:unix_ms"
	benchmark(b, "/?format="+format, text, func(r *push.Receiver) http.Handler { return csv.New(r) })
}

func BenchmarkJSONLines(b *testing.B) {
	text := body(func(w io.Writer, host, i int) { // 40 samples of each series
		if i > 0 {
			return
		}
		var values, times []string
		for n := range perHost {
			values, times = append(values, fmt.Sprint(float64(host*n)*0.37)), append(times, fmt.Sprint(now+n*15_000))
		}
		fmt.Fprintf(w, `{"metric":{"__name__":"node_cpu_seconds_total","dc":"eu-west-%d","env":"prod","host":"host-%05d.example","rack":"r%02d"},"values":[%s],"timestamps":[%s]}`+"\n",
			host%4, host, host%40, strings.Join(values, ","), strings.Join(times, ","))
	})
	benchmark(b, "/", text, func(r *push.Receiver) http.Handler { return jsonlines.New(r) })
}
