// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
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

func number(b *testing.B, name string, def int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%q is not a number of at least 1", name, text)
	}
	return n
}

func measureLoad(b *testing.B, path string, requests [][]byte, samples int) {
	b.Helper()
	dir, addr := b.TempDir(), peers.FreeAddr(b)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 15s}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	spec := peers.Spec{
		Name: filepath.Base(path), Path: path, Ready: "http://" + addr + "/-/ready",
		Args: []string{
			"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"),
			"--web.listen-address=" + addr, "--web.enable-remote-write-receiver",
		},
	}
	p := peers.Start(b, spec)
	time.Sleep(3 * time.Second)
	b.ReportMetric(memory(b, p.Pid(), "VmRSS:"), "idle-MB")
	before := cpuSeconds(b, p.Pid())
	start := time.Now()
	send(b, "http://"+addr+"/api/v1/write", requests)
	wall := time.Since(start)
	b.ReportMetric((cpuSeconds(b, p.Pid())-before)/float64(samples)*1e6, "us-CPU/sample")
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

// send posts the requests over four connections, each answer awaited before the next is sent on it.
func send(b *testing.B, url string, requests [][]byte) {
	b.Helper()
	next := make(chan []byte)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for body := range next {
				if err := sendOne(b, client, url, body); err != nil {
					b.Error(err)
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

func sendOne(b *testing.B, client *http.Client, url string, body []byte) error {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
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
	var out [][]byte
	var msg []byte
	n := 0
	encoded := make([][]byte, hosts*seriesPerHost)
	for i := range encoded {
		encoded[i] = encodeLabels(i/seriesPerHost, i%seriesPerHost)
	}
	for s := range scrapes {
		for i, ls := range encoded {
			t := start + int64(s)*15_000 + int64(i/seriesPerHost)*29%15_000
			var sample []byte
			sample = binary.LittleEndian.AppendUint64(append(sample, 0x09), math.Float64bits(loadValue(i, s)))
			sample = binary.AppendUvarint(append(sample, 0x10), uint64(t))
			msg = binary.AppendUvarint(append(msg, 0x0a), uint64(len(ls)+2+len(sample)))
			msg = append(append(append(msg, ls...), 0x12, byte(len(sample))), sample...)
			if n++; n == batchSamples || s == scrapes-1 && i == len(encoded)-1 {
				out = append(out, snappy.Encode(nil, msg))
				msg, n = msg[:0], 0
			}
		}
	}
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

// encodeLabels returns the labels of a series as the fields of a TimeSeries message.
func encodeLabels(host, i int) []byte {
	pairs := []string{
		"__name__", fmt.Sprintf("node_metric_%02d_total", i/10), "cluster", fmt.Sprintf("eu-west-%d", host%4),
		"device", fmt.Sprintf("device-%d", i%10), "env", "production", "instance", fmt.Sprintf("host-%05d.example:9100", host),
		"job", "node", "pod", fmt.Sprintf("node-exporter-%05d-%05x", host, host*7919), "rack", fmt.Sprintf("r%02d", host%40),
		"team", fmt.Sprintf("team-%02d", host%17),
	}
	var out []byte
	for k := 0; k < len(pairs); k += 2 {
		var m []byte
		m = append(binary.AppendUvarint(append(m, 0x0a), uint64(len(pairs[k]))), pairs[k]...)
		m = append(binary.AppendUvarint(append(m, 0x12), uint64(len(pairs[k+1]))), pairs[k+1]...)
		out = append(binary.AppendUvarint(append(out, 0x0a), uint64(len(m))), m...)
	}
	return out
}

// cpuSeconds is the user and system time of a process so far.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		b.Fatalf("/proc/%d/stat: %q", pid, text)
	}
	const ticks = 100 // per second: USER_HZ on every Linux that Go runs on
	return (user + system) / ticks
}

// memory is a line of /proc/<pid>/status in MB.
func memory(b *testing.B, pid int, key string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatalf("/proc/%d/status has no %s", pid, key)
	return 0
}
