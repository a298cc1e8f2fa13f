// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scrape_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/file" // A kind to test with.
	"github.com/prometheus/prometheus/model/value"
	promscrape "github.com/prometheus/prometheus/scrape"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/ingest/scrape"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row is one stored sample.
type row struct {
	v     float64
	stale bool
}

// find returns the rows of the series whose labels contain all the parts.
func (r *rig) find(parts ...string) []row {
	var found []row
next:
	for _, x := range r.store.Rows() {
		for _, p := range parts {
			if !strings.Contains(x.Series, p) {
				continue next
			}
		}
		found = append(found, row{x.V, value.IsStaleNaN(x.V)})
	}
	return found
}

// rig is a running Scraper.
type rig struct {
	t     *testing.T
	store *ingesttest.Recorder
	reg   *prometheus.Registry
	s     *scrape.Scraper
	stop  func()
}

func start(t *testing.T) *rig {
	t.Helper()
	reg := prometheus.NewRegistry()
	sd, err := discovery.CreateAndRegisterSDMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: &ingesttest.Recorder{}, reg: reg}
	in, err := ingest.New(ingest.Options{Appender: r.store})
	if err != nil {
		t.Fatal(err)
	}
	r.s, err = scrape.New(scrape.Options{
		Intake: in, Registerer: reg, SDMetrics: sd,
		Scrape: promscrape.Options{DiscoveryReloadInterval: model.Duration(10 * time.Millisecond)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// load reads a configuration as the server would.
func load(t *testing.T, text string) *promconfig.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Options{File: path})
	if err != nil {
		t.Fatal(err)
	}
	return c.Prom
}

func (r *rig) apply(text string) {
	r.t.Helper()
	if err := r.s.ApplyConfig(load(r.t, text)); err != nil {
		r.t.Fatal(err)
	}
}

// eventually waits until ok; scrapes take as long as they take.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// target serves an exposition and returns its address.
func target(t *testing.T, text func() string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprint(w, text())
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func job(name, address, more string) string {
	return fmt.Sprintf("- job_name: %s\n  scrape_interval: 50ms\n  scrape_timeout: 50ms\n  static_configs: [{targets: ['%s']}]\n%s", name, address, more)
}

func TestTargetsAreScrapedAndVanishedSeriesGoStale(t *testing.T) {
	r := start(t)
	var gone atomic.Bool
	address := target(t, func() string {
		if gone.Load() {
			return "b 2\n"
		}
		return "a{x=\"1\"} 1\nb 2\n"
	})
	r.apply("global: {external_labels: {site: z}}\nscrape_configs:\n" + job("self", address, "  metric_relabel_configs: [{source_labels: [x], target_label: y}]\n"))
	r.eventually("a and up are stored", func() bool {
		return len(r.find(`__name__="a"`, `instance="`+address+`"`, `job="self"`, `x="1"`, `y="1"`)) > 1 && len(r.find(`__name__="up"`)) > 1
	})
	gone.Store(true)
	r.eventually("a is stale", func() bool {
		rows := r.find(`__name__="a"`)
		return rows[len(rows)-1].stale
	})
	active := r.s.TargetsActive()["self"]
	if len(active) != 1 || active[0].Health() != promscrape.HealthGood {
		t.Errorf("active targets are %v", active)
	}
	if cfg, err := r.s.ScrapePoolConfig("self"); err != nil || cfg.JobName != "self" {
		t.Errorf("config of the pool: %v, %v", cfg, err)
	}
	if pools := r.s.ScrapePools(); len(pools) != 1 || pools[0] != "self" {
		t.Errorf("pools are %v", pools)
	}
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
	}
	for _, want := range []string{"prometheus_target_scrape_pools_total", "prometheus_target_interval_length_seconds", "prometheus_sd_discovered_targets", "prometheus_sd_file_scan_duration_seconds"} {
		if !names[want] {
			t.Errorf("metric %s is missing", want)
		}
	}
}

func TestDroppedTargetsAndFileDiscovery(t *testing.T) {
	r := start(t)
	address := target(t, func() string { return "a 1\n" })
	list := filepath.Join(t.TempDir(), "targets.json")
	if err := os.WriteFile(list, []byte(`[{"targets":["`+address+`"],"labels":{"role":"keep"}},{"targets":["127.0.0.1:1"],"labels":{"role":"drop"}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.apply("scrape_configs:\n- job_name: files\n  scrape_interval: 50ms\n  scrape_timeout: 50ms\n  file_sd_configs: [{files: ['" + list + "']}]\n  relabel_configs: [{source_labels: [role], regex: keep, action: keep}]\n")
	r.eventually("the kept target is scraped", func() bool { return len(r.find(`__name__="a"`, `role="keep"`)) > 0 })
	if n := r.s.TargetsDroppedCounts()["files"]; n != 1 || len(r.s.TargetsDropped()["files"]) != 1 || len(r.s.TargetsAll()["files"]) != 2 {
		t.Errorf("%d targets were dropped, want 1", n)
	}
}

func TestABadReloadChangesNothing(t *testing.T) {
	r := start(t)
	address := target(t, func() string { return "a 1\n" })
	r.apply("scrape_configs:\n" + job("one", address, ""))
	r.eventually("one is scraped", func() bool { return len(r.find(`job="one"`, `__name__="a"`)) > 0 })

	refuse := func(more, want string) {
		t.Helper()
		err := r.s.ApplyConfig(load(t, "scrape_configs:\n"+job("two", address, "")+job("three", address, more)))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"three"`) {
			t.Errorf("error is %v, want %q of job three", err, want)
		}
	}
	refuse("  tls_config: {ca_file: gone.pem}\n", "gone.pem")
	refuse("  scrape_failure_log_file: gone/failures.log\n", "scrape_failure_log_file")
	if pools := r.s.ScrapePools(); len(pools) != 1 || pools[0] != "one" {
		t.Errorf("pools are %v after bad reloads, want one", pools)
	}
	n := len(r.find(`job="one"`, `__name__="a"`))
	r.eventually("one is still scraped", func() bool { return len(r.find(`job="one"`, `__name__="a"`)) > n+1 })

	r.apply("scrape_configs:\n" + job("two", address, ""))
	r.eventually("two is scraped", func() bool { return len(r.find(`job="two"`, `__name__="a"`)) > 0 })
	r.eventually("one is gone", func() bool { return len(r.s.TargetsActive()["one"]) == 0 })
}

func TestTheFirstConfigurationIsAppliedAsFarAsItGoes(t *testing.T) {
	r := start(t)
	address := target(t, func() string { return "a 1\n" })
	r.apply("scrape_configs:\n" + job("good", address, "") + job("bad", address, "  tls_config: {ca_file: gone.pem}\n"))
	r.eventually("good is scraped", func() bool { return len(r.find(`job="good"`, `__name__="a"`)) > 0 })
	if n := len(r.find(`job="bad"`)); n != 0 {
		t.Errorf("%d samples of a job without its certificate", n)
	}
}

func TestFailuresAreLoggedToTheirFile(t *testing.T) {
	r := start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "failures.log")
	r.apply("scrape_configs:\n" + job("down", address, "  scrape_failure_log_file: "+log+"\n"))
	r.eventually("the failure is in the file", func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(text), address) && strings.Contains(string(text), "connection refused")
	})
	r.eventually("up is 0", func() bool {
		rows := r.find(`__name__="up"`, `job="down"`)
		return len(rows) > 0 && rows[0].v == 0
	})
}

func TestNothingIsAppendedOnceRunHasReturned(t *testing.T) {
	r := start(t)
	address := target(t, func() string { return "a 1\n" })
	text := "scrape_configs:\n" + job("self", address, "")
	r.apply(text)
	r.eventually("self is scraped", func() bool { return len(r.find(`__name__="a"`)) > 2 })
	r.stop()
	n := len(r.find())
	if err := r.s.ApplyConfig(load(t, text)); err != nil {
		t.Error(err)
	}
	time.Sleep(200 * time.Millisecond)
	if m := len(r.find()); m != n {
		t.Errorf("%d samples were appended after the stop", m-n)
	}
	for _, row := range r.find(`__name__="a"`) {
		if row.stale {
			t.Error("a stop wrote stale markers: after a restart series would have gaps")
		}
	}
}

func TestASecondScraperOnOneRegistererIsAnError(t *testing.T) {
	r := start(t)
	if _, err := scrape.New(scrape.Options{Registerer: r.reg}); err == nil {
		t.Error("two scrapers share one registerer")
	}
}

func TestNodeExporterIsScraped(t *testing.T) {
	path, err := exec.LookPath("prometheus-node-exporter")
	if err != nil {
		t.Fatalf("%v: make test installs prometheus-node-exporter on Debian; elsewhere put node_exporter of that name into PATH", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, path, "--web.listen-address="+address)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
	})
	r := start(t)
	r.apply("scrape_configs:\n- job_name: node\n  scrape_interval: 1s\n  static_configs: [{targets: ['" + address + "']}]\n")
	r.eventually("node_exporter's series are stored", func() bool {
		return len(r.find(`__name__="node_cpu_seconds_total"`, `mode="idle"`)) > 0 && len(r.find(`__name__="node_exporter_build_info"`)) > 0
	})
	rows := r.find(`__name__="scrape_samples_scraped"`, `job="node"`)
	if len(rows) == 0 || rows[0].v < 100 && rows[len(rows)-1].v < 100 {
		t.Errorf("samples scraped: %v", rows)
	}
}
