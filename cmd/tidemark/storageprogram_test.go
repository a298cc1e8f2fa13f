// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// storageProgram is a server that takes remote write, and what the storage benchmarks have to know of it.
type storageProgram struct {
	name  string
	empty func(tb testing.TB) emptied
	// keep brings what the server has into the form in which it keeps it, and returns how many bytes that takes.
	keep func(tb testing.TB, s *storageServer) int64
}

// emptied is a server without data that does not run yet.
type emptied struct {
	spec       peers.Spec
	base, data string // its URL and its data path
}

// storageServer is one that runs.
type storageServer struct {
	*peers.Process
	emptied

	client *http.Client
}

// storagePrograms are Tidemark, the pinned Prometheus and, where it is installed, VictoriaMetrics.
func storagePrograms(b *testing.B) []storageProgram {
	b.Helper()
	all := []storageProgram{
		{"tidemark", func(tb testing.TB) emptied { return emptyServer(tb, peers.BuildServer(tb)) }, keepSnapshot},
		{"prometheus", func(tb testing.TB) emptied { return emptyServer(tb, peers.Build(tb).Prometheus) }, keepSnapshot},
	}
	name := cmp.Or(os.Getenv("VICTORIA_METRICS"), "victoria-metrics")
	path, err := exec.LookPath(name)
	if err != nil {
		b.Logf("without VictoriaMetrics, there is no %s: apt-get install --no-install-recommends victoria-metrics, or set VICTORIA_METRICS to its path", name)
		return all
	}
	return append(all, storageProgram{"victoria-metrics", func(tb testing.TB) emptied { return emptyVictoria(tb, path) }, keepVictoria})
}

// emptyServer is Tidemark or Prometheus. Both get the same flags.
func emptyServer(tb testing.TB, path string) emptied {
	tb.Helper()
	dir, addr := tb.TempDir(), peers.FreeAddr(tb)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 15s}\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	e := emptied{base: "http://" + addr, data: filepath.Join(dir, "data")}
	e.spec = peers.Spec{
		Name: filepath.Base(path), Path: path, Ready: e.base + "/-/ready", Owner: tb, Within: 5 * time.Minute,
		Args: []string{
			"--config.file=" + config, "--storage.tsdb.path=" + e.data, "--web.listen-address=" + addr,
			"--web.enable-remote-write-receiver", "--web.enable-admin-api",
		},
	}
	return e
}

func emptyVictoria(tb testing.TB, path string) emptied {
	tb.Helper()
	addr := peers.FreeAddr(tb)
	e := emptied{base: "http://" + addr, data: filepath.Join(tb.TempDir(), "data")}
	e.spec = peers.Spec{
		Name: "victoria-metrics", Path: path, Ready: e.base + "/health", Owner: tb, Within: 5 * time.Minute,
		Args: []string{"-storageDataPath=" + e.data, "-httpListenAddr=" + addr, "-retentionPeriod=100y", "-loggerLevel=WARN"},
	}
	return e
}

func (p storageProgram) start(tb testing.TB) *storageServer {
	tb.Helper()
	s := &storageServer{emptied: p.empty(tb), client: newClient(tb)}
	s.Process = peers.Start(tb, s.spec)
	return s
}

// call sends a request without a body and returns what the answer says.
func (s *storageServer) call(tb testing.TB, method, path string) []byte {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), method, s.base+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		tb.Fatalf("%s %s: %s, %v: %s", method, path, resp.Status, err, text)
	}
	return text
}

// keepSnapshot is of Tidemark and Prometheus: a snapshot holds everything as blocks, also what is still in the head.
func keepSnapshot(tb testing.TB, s *storageServer) int64 {
	tb.Helper()
	var answer struct{ Data struct{ Name string } }
	if err := json.Unmarshal(s.call(tb, http.MethodPost, "/api/v1/admin/tsdb/snapshot"), &answer); err != nil || answer.Data.Name == "" {
		tb.Fatalf("no snapshot: %v", err)
	}
	return treeSize(tb, filepath.Join(s.data, "snapshots", answer.Data.Name))
}

// keepVictoria asks VictoriaMetrics to write what it has in memory and to merge all of it, which is more than it does
// by itself.
func keepVictoria(tb testing.TB, s *storageServer) int64 {
	tb.Helper()
	for _, path := range []string{"/internal/force_flush", "/internal/force_merge"} {
		s.call(tb, http.MethodGet, path)
		rest(tb, s.Pid(), quiet)
	}
	return treeSize(tb, filepath.Join(s.data, "data")) + treeSize(tb, filepath.Join(s.data, "indexdb"))
}

// treeSize is how long the files below a directory are together.
func treeSize(tb testing.TB, dir string) int64 {
	tb.Helper()
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return size
}

// scraped counts the series of the fleet that have a sample in the scrape that began at a time, in ms.
func (s *storageServer) scraped(tb testing.TB, start int64) int {
	tb.Helper()
	got, err := instant(s.base, `count(last_over_time({job="node"}[15s]))`, time.UnixMilli(start+scrapeMillis-1))
	if err != nil {
		tb.Fatal(err)
	}
	n := 0
	for _, points := range got {
		if _, err := fmt.Sscan(points[0].V, &n); err != nil {
			tb.Fatal(err)
		}
	}
	return n
}
