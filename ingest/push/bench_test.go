// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/push"
	"github.com/tidemarkdb/tidemark/ingest/push/csv"
	"github.com/tidemarkdb/tidemark/ingest/push/exposition"
	"github.com/tidemarkdb/tidemark/ingest/push/graphite"
	"github.com/tidemarkdb/tidemark/ingest/push/influx"
	"github.com/tidemarkdb/tidemark/ingest/push/jsonlines"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// sink is an appender that costs nothing.
type sink struct {
	next uint32
	rows atomic.Int64
}

func (s *sink) Resolve(_ []labels.Labels, refs []sample.Ref) error {
	for i := range refs {
		s.next++
		refs[i] = sample.MakeRef(1, s.next)
	}
	return nil
}

func (s *sink) Commit(_ context.Context, b *sample.Batch, r *sample.Result) (sample.LSN, error) {
	s.rows.Add(int64(b.Len()))
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

// sender returns what sends a body of hosts*perHost samples to a handler, which knows their series.
func sender(tb testing.TB, path string, text []byte, handler func(*push.Receiver) http.Handler) (send func()) {
	tb.Helper()
	in, err := ingest.New(ingest.Options{Appender: &sink{}})
	if err != nil {
		tb.Fatal(err)
	}
	r, err := push.New(push.Options{Intake: in})
	if err != nil {
		tb.Fatal(err)
	}
	h := handler(r)
	send = func() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(text)))
		if rec.Code/100 != 2 {
			tb.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	send()
	return send
}

// format is a format that is measured.
type format struct {
	path    string
	text    []byte
	handler func(*push.Receiver) http.Handler
}

// formats are those that come by HTTP.
func formats() map[string]format {
	tags := func(host int) string {
		return fmt.Sprintf("dc=eu-west-%d,env=prod,host=host-%05d.example,rack=r%02d", host%4, host, host%40)
	}
	asInflux := func(r *push.Receiver) http.Handler { return influx.New(r, "/influx") }
	return map[string]format{
		"Influx": {"/influx/write", body(func(w io.Writer, host, i int) { // telegraf's cpu input: a line has the fields of one CPU
			if i%10 == 0 {
				fmt.Fprintf(w, "cpu,cpu=cpu%d,%s ", i/10, tags(host))
			} else {
				fmt.Fprint(w, ",")
			}
			fmt.Fprintf(w, "usage_mode_%d=%v", i%10, value(host, i))
			if i%10 == 9 {
				fmt.Fprintf(w, " %d000000\n", now)
			}
		}), asInflux},
		"InfluxOneField": {"/influx/write", body(func(w io.Writer, host, i int) {
			fmt.Fprintf(w, "cpu,cpu=cpu%d,%s value=%v %d000000\n", i, tags(host), value(host, i), now)
		}), asInflux},
		"Text": {"/", body(func(w io.Writer, host, i int) {
			if host+i == 0 {
				fmt.Fprint(w, "# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.\n# TYPE node_cpu_seconds_total counter\n")
			}
			fmt.Fprintf(w, "node_cpu_seconds_total{cpu=\"%d\",dc=\"eu-west-%d\",env=\"prod\",host=\"host-%05d.example\",rack=\"r%02d\"} %v %d\n", i, host%4, host, host%40, value(host, i), now)
		}), func(r *push.Receiver) http.Handler { return http.HandlerFunc(exposition.New(r).Import) }},
		"CSV": {
			"/?format=1:label:cpu,2:label:dc,3:label:env,4:label:host,5:label:rack,6:metric:node_cpu_seconds_total,7:time:unix_ms",
			body(func(w io.Writer, host, i int) {
				fmt.Fprintf(w, "%d,eu-west-%d,prod,host-%05d.example,r%02d,%v,%d\n", i, host%4, host, host%40, value(host, i), now)
			}), func(r *push.Receiver) http.Handler { return csv.New(r) },
		},
		"JSONLines": {"/", body(func(w io.Writer, host, i int) { // 40 samples of each series
			if i > 0 {
				return
			}
			var values, times []string
			for n := range perHost {
				values, times = append(values, fmt.Sprint(value(host, n))), append(times, fmt.Sprint(now+n*15_000))
			}
			fmt.Fprintf(w, `{"metric":{"__name__":"node_cpu_seconds_total","dc":"eu-west-%d","env":"prod","host":"host-%05d.example","rack":"r%02d"},"values":[%s],"timestamps":[%s]}`+"\n",
				host%4, host, host%40, strings.Join(values, ","), strings.Join(times, ","))
		}), func(r *push.Receiver) http.Handler { return jsonlines.New(r) }},
	}
}

const now = 1_700_000_000_000

func value(host, i int) float64 { return float64(host*i) * 0.37 }

func TestNothingIsAllocatedForSamplesOfKnownSeries(t *testing.T) {
	for name, f := range formats() {
		send := sender(t, f.path, f.text, f.handler)
		if n := testing.AllocsPerRun(2, send); n > hosts*perHost/20 { // the race detector lets pools forget
			t.Errorf("%s: %v allocations for %d samples", name, n, hosts*perHost)
		}
	}
}

// BenchmarkPush reports CPU time per sample, and allocations per body.
func BenchmarkPush(b *testing.B) {
	for name, f := range formats() {
		b.Run(name, func(b *testing.B) { measure(b, sender(b, f.path, f.text, f.handler)) })
	}
}

func measure(b *testing.B, send func()) {
	b.Helper()
	b.ReportAllocs()
	n, before := 0, cpuTime(b)
	for b.Loop() {
		send()
		n += hosts * perHost
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

// BenchmarkGraphite sends over a connection, whose CPU time counts too.
func BenchmarkGraphite(b *testing.B) {
	text := body(func(w io.Writer, host, i int) {
		fmt.Fprintf(w, "node.cpu.seconds;cpu=%d;dc=eu-west-%d;env=prod;host=host-%05d.example;rack=r%02d %v %d\n", i, host%4, host, host%40, float64(host*i)*0.37, now/1000)
	})
	to := &sink{}
	in, err := ingest.New(ingest.Options{Appender: to})
	if err != nil {
		b.Fatal(err)
	}
	r, err := push.New(push.Options{Intake: in})
	if err != nil {
		b.Fatal(err)
	}
	l, err := graphite.Listen(graphite.Options{Receiver: r, Address: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	send := func() {
		want := to.rows.Load() + hosts*perHost
		c, err := net.Dial("tcp", l.Address().String())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Write(text); err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
		for to.rows.Load() < want {
			time.Sleep(time.Millisecond)
		}
	}
	send()
	measure(b, send)
}
