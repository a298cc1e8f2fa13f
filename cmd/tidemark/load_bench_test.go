// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"golang.org/x/sys/unix"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// The load: hosts with 400 series of nine labels each, scraped every 15 s, 2,000 samples to a request, four
// connections. LOAD_HOSTS and LOAD_SCRAPES change its size.
const (
	seriesPerHost = 400
	batchSamples  = 2000
	connections   = 4
)

// BenchmarkRemoteWriteLoad sends one and the same load to Tidemark and to the pinned Prometheus, one after the
// other, and reports what it cost the server: CPU time per sample, resident memory before, at the end and at its
// peak, and for Tidemark the time from kill -9 to ready. Run it with -benchtime 1x.
func BenchmarkRemoteWriteLoad(b *testing.B) {
	hosts, scrapes := number(b, "LOAD_HOSTS", 500), number(b, "LOAD_SCRAPES", 60)
	requests := makeLoad(hosts, scrapes, time.Now().Add(-time.Duration(scrapes)*15*time.Second).UnixMilli())
	for _, s := range []struct {
		name string
		path func(testing.TB) string
	}{
		{"tidemark", peers.BuildServer},
		{"prometheus", func(tb testing.TB) string { return peers.Build(tb).Prometheus }},
	} {
		b.Run(s.name, func(b *testing.B) {
			path := s.path(b)
			for b.Loop() {
				measureLoad(b, path, requests, hosts*seriesPerHost*scrapes)
			}
		})
	}
}

func number(tb testing.TB, name string, def int) int {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		tb.Fatalf("%s=%q is not a number of at least 1", name, text)
	}
	return n
}

func measureLoad(b *testing.B, path string, requests [][]byte, samples int) {
	b.Helper()
	spec, base := emptyServer(b, path)
	p := peers.Start(b, spec)
	time.Sleep(3 * time.Second)
	b.ReportMetric(memory(b, p.Pid(), "VmRSS:"), "idle-MB")
	before := cpuTime(b, p.Pid())
	start := time.Now()
	send(b, base, requests)
	wall := time.Since(start)
	b.ReportMetric((cpuTime(b, p.Pid())-before).Seconds()/float64(samples)*1e6, "us-CPU/sample")
	b.ReportMetric(float64(samples)/wall.Seconds(), "samples/s")
	b.ReportMetric(memory(b, p.Pid(), "VmRSS:"), "MB")
	b.ReportMetric(memory(b, p.Pid(), "VmHWM:"), "peak-MB")
	b.ReportMetric(0, "ns/op")
	p.Kill()
	start = time.Now()
	p = peers.Start(b, spec)
	b.ReportMetric(time.Since(start).Seconds(), "restart-s")
	p.Kill()
}

// emptyServer is a server without data, ours or Prometheus, and its URL. Both get the same flags.
func emptyServer(tb testing.TB, path string) (spec peers.Spec, base string) {
	tb.Helper()
	dir, addr := tb.TempDir(), peers.FreeAddr(tb)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 15s}\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	base = "http://" + addr
	return peers.Spec{
		Name: filepath.Base(path), Path: path, Ready: base + "/-/ready", Owner: tb,
		Args: []string{
			"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
			"--web.listen-address=" + addr, "--web.enable-remote-write-receiver",
		},
	}, base
}

// send posts remote-write requests to a server over four connections, each answer awaited before the next is sent
// on its connection.
func send(tb testing.TB, base string, requests [][]byte) {
	tb.Helper()
	next := make(chan []byte)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for body := range next {
				if err := sendOne(tb.Context(), client, base+"/api/v1/write", body); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	for _, body := range requests {
		next <- body
	}
	close(next)
	wg.Wait()
}

func sendOne(ctx context.Context, client *http.Client, url string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("answer %s: %s", resp.Status, text)
	}
	return err
}

// makeLoad returns the compressed remote-write 1.0 requests, all hosts' first scrape first.
func makeLoad(hosts, scrapes int, start int64) [][]byte {
	var w requestWriter
	encoded := make([][]byte, hosts*seriesPerHost)
	for i := range encoded {
		encoded[i] = encodeLabels(loadLabels(i/seriesPerHost, i%seriesPerHost))
	}
	for s := range scrapes {
		for i, ls := range encoded {
			t := start + int64(s)*15_000 + int64(i/seriesPerHost)*29%15_000
			w.add(ls, t, loadValue(i, s))
		}
	}
	return w.take()
}

// requestWriter makes remote-write 1.0 requests of batchSamples samples. Prometheus' own messages would be built and
// marshalled for every sample; here a series' labels are encoded once.
type requestWriter struct {
	msg, sample []byte
	n           int // samples in msg
	done        [][]byte
}

// add adds one sample of the series with these encoded labels.
func (w *requestWriter) add(labels []byte, t int64, v float64) {
	w.sample = binary.LittleEndian.AppendUint64(append(w.sample[:0], 0x09), math.Float64bits(v))
	w.sample = binary.AppendUvarint(append(w.sample, 0x10), uint64(t))
	w.msg = binary.AppendUvarint(append(w.msg, 0x0a), uint64(len(labels)+2+len(w.sample)))
	w.msg = append(append(append(w.msg, labels...), 0x12, byte(len(w.sample))), w.sample...)
	if w.n++; w.n == batchSamples {
		w.end()
	}
}

func (w *requestWriter) end() {
	if w.n > 0 {
		w.done = append(w.done, snappy.Encode(nil, w.msg))
		w.msg, w.n = w.msg[:0], 0
	}
}

// take ends the request under way and returns all of them, compressed.
func (w *requestWriter) take() [][]byte {
	w.end()
	out := w.done
	w.done = nil
	return out
}

// loadValue moves a series as exporters' do: a third constant, a third integer counters with changing steps, the
// rest seconds with two decimals.
func loadValue(series, step int) float64 {
	x := uint64(series)*0x9e3779b97f4a7c15 + uint64(step)*0xbf58476d1ce4e5b9
	x = (x ^ x>>31) * 0x94d049bb133111eb
	noise := float64(x >> 40)
	switch series % 3 {
	case 0:
		return float64(series % 7)
	case 1:
		return math.Floor(float64(step)*1e6 + noise/64)
	}
	return math.Round(float64(step)*1500+noise/1e5) / 100
}

// loadLabels are the names and values of a series' labels, in order.
func loadLabels(host, i int) []string {
	return []string{
		"__name__", fmt.Sprintf("node_metric_%02d_total", i/10), "cluster", fmt.Sprintf("eu-west-%d", host%4),
		"device", fmt.Sprintf("device-%d", i%10), "env", "production", "instance", fmt.Sprintf("host-%05d.example:9100", host),
		"job", "node", "pod", fmt.Sprintf("node-exporter-%05d-%05x", host, host*7919), "rack", fmt.Sprintf("r%02d", host%40),
		"team", fmt.Sprintf("team-%02d", host%17),
	}
}

// encodeLabels returns names and values as the label fields of a TimeSeries message.
func encodeLabels(pairs []string) []byte {
	var out []byte
	for k := 0; k < len(pairs); k += 2 {
		var m []byte
		m = append(binary.AppendUvarint(append(m, 0x0a), uint64(len(pairs[k]))), pairs[k]...)
		m = append(binary.AppendUvarint(append(m, 0x12), uint64(len(pairs[k+1]))), pairs[k+1]...)
		out = append(binary.AppendUvarint(append(out, 0x0a), uint64(len(m))), m...)
	}
	return out
}

// cpuTime is the user and system time of a process so far, by the kernel's clock of that process: the ticks in
// /proc/<pid>/stat are of 10 ms, longer than most queries.
func cpuTime(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	const processClock = 2 // CPUCLOCK_SCHED; the bits above hold the inverted process id
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|processClock), &ts); err != nil {
		tb.Fatalf("clock of process %d: %v", pid, err)
	}
	return time.Duration(ts.Nano())
}

// memory is a line of /proc/<pid>/status in MB.
func memory(tb testing.TB, pid int, key string) float64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kib / 1024
		}
	}
	tb.Fatalf("/proc/%d/status has no %s", pid, key)
	return 0
}
