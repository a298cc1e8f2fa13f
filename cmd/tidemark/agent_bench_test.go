// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// BenchmarkAgent lets each program, as an agent, scrape SCRAPE_TARGETS targets, 200, every 5 s and send on what it scrapes to
// a receiver that takes everything. It reports, over SCRAPE_SECONDS seconds, 60, after three rounds: CPU time per scraped
// sample, memory, and what the data takes on disk at the end.
func BenchmarkAgent(b *testing.B) {
	targets, period := number(b, "SCRAPE_TARGETS", 200), number(b, "SCRAPE_SECONDS", 60)
	for name, program := range map[string]string{"tidemark": peers.BuildServer(b), "prometheus": peers.Build(b).Prometheus} {
		b.Run(name, func(b *testing.B) {
			e := newExporter(b)
			var bytes atomic.Int64
			sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, _ := io.Copy(io.Discard, r.Body)
				bytes.Add(n)
				w.WriteHeader(http.StatusNoContent)
			}))
			b.Cleanup(sink.Close)
			dir, addr := b.TempDir(), peers.FreeAddr(b)
			config, data := filepath.Join(dir, "prometheus.yml"), filepath.Join(dir, "data")
			text := fmt.Sprintf("remote_write: [{url: %s}]\n%s", sink.URL, e.config(targets, 5*time.Second))
			if name == "tidemark" {
				text += "tidemark: {storage: {min_free_space: 1GiB}}\n" // a machine for tests may have little
			}
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			s := peers.Start(b, peers.Spec{
				Name: name, Path: program, Dir: dir, Ready: "http://" + addr + "/-/ready", Owner: b,
				Args: []string{"--agent", "--config.file=" + config, "--storage.agent.path=" + data, "--web.listen-address=" + addr},
			})
			for deadline := time.Now().Add(time.Minute); e.scrapes.Load() < int64(3*targets); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(deadline) {
					b.Fatalf("%d scrapes of %d targets in a minute", e.scrapes.Load(), targets)
				}
			}
			scrapes, before, sent := e.scrapes.Load(), cpuTime(b, s.Pid()), bytes.Load()
			time.Sleep(time.Duration(period) * time.Second)
			used, samples := cpuTime(b, s.Pid())-before, float64(e.scrapes.Load()-scrapes)*float64(e.samples)
			b.ReportMetric(used.Seconds()*1e6/samples, "us-CPU/sample")
			b.ReportMetric(memory(b, s.Pid(), "VmRSS:"), "MB")
			b.ReportMetric(memory(b, s.Pid(), "VmHWM:"), "peak-MB")
			b.ReportMetric(float64(bytes.Load()-sent)/samples, "sent-B/sample")
			b.ReportMetric(float64(diskUse(b, data))/(1<<20), "disk-MB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// diskUse is how many bytes the files below a directory have.
func diskUse(tb testing.TB, dir string) (n int64) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // A file may go while it is looked at.
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
