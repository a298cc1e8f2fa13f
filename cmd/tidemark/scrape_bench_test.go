// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// exporter serves what a real node_exporter said, testdata/node_exporter.txt, as any number of targets: below every path.
// Of the values a tenth changes from scrape to scrape.
type exporter struct {
	*httptest.Server

	lines   [][]byte
	samples int          // in each body
	scrapes atomic.Int64 // so far
}

func newExporter(tb testing.TB) *exporter {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "node_exporter.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	e := &exporter{lines: bytes.Split(bytes.TrimSpace(text), []byte("\n"))}
	for _, l := range e.lines {
		if l[0] != '#' {
			e.samples++
		}
	}
	e.Server = httptest.NewServer(http.HandlerFunc(e.serve))
	tb.Cleanup(e.Close)
	return e
}

func (e *exporter) serve(w http.ResponseWriter, _ *http.Request) {
	n := e.scrapes.Add(1)
	var b bytes.Buffer
	for i, l := range e.lines {
		if at := bytes.LastIndexByte(l, ' '); l[0] != '#' && at > 0 && (int64(i)+n)%10 == 0 {
			b.Write(l[:at+1])
			b.WriteString(strconv.FormatInt(n*int64(i), 10))
		} else {
			b.Write(l)
		}
		b.WriteByte('\n')
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// config is a configuration that scrapes so many targets.
func (e *exporter) config(targets int, interval time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "scrape_configs:\n- job_name: node\n  scrape_interval: %s\n  static_configs:\n", interval)
	for i := range targets {
		fmt.Fprintf(&b, "  - {targets: ['%s'], labels: {__metrics_path__: /t/%d/metrics, instance: host-%04d}}\n", e.Listener.Addr(), i, i)
	}
	return b.String()
}

// BenchmarkScraping lets each server scrape SCRAPE_TARGETS targets, 200, every 5 s, and reports, over SCRAPE_SECONDS
// seconds, 60, after three rounds of which the first finds all series new: CPU time per scraped sample, and resident
// memory at the end.
func BenchmarkScraping(b *testing.B) {
	const interval = 5 * time.Second
	targets, period := number(b, "SCRAPE_TARGETS", 200), number(b, "SCRAPE_SECONDS", 60)
	compareStorages(b, func(b *testing.B, p storageProgram) figures {
		e := newExporter(b)
		s := &storageServer{emptied: p.empty(b)}
		config := filepath.Join(filepath.Dir(s.data), "prometheus.yml")
		if err := os.WriteFile(config, []byte(e.config(targets, interval)), 0o600); err != nil {
			b.Fatal(err)
		}
		if p.name == "victoria-metrics" {
			s.spec.Args = append(s.spec.Args, "-promscrape.config="+config)
		}
		s.Process = peers.Start(b, s.spec)
		for deadline := time.Now().Add(time.Minute); e.scrapes.Load() < int64(3*targets); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				b.Fatalf("%d scrapes of %d targets in a minute", e.scrapes.Load(), targets)
			}
		}
		scrapes, before := e.scrapes.Load(), cpuTime(b, s.Pid())
		time.Sleep(time.Duration(period) * time.Second)
		used, samples := cpuTime(b, s.Pid())-before, float64(e.scrapes.Load()-scrapes)*float64(e.samples)
		return figures{
			"us-CPU/sample": used.Seconds() * 1e6 / samples, "samples": samples,
			"MB": memory(b, s.Pid(), "VmRSS:"), "peak-MB": memory(b, s.Pid(), "VmHWM:"),
		}
	})
}
