// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// newAgent is newInstance with --agent.
func newAgent(t *testing.T, config string, flags ...string) *instance {
	t.Helper()
	s := newInstance(t, config)
	var args []string
	for _, a := range s.args {
		if !strings.HasPrefix(a, "--storage.tsdb.path") {
			args = append(args, a)
		}
	}
	s.args = append(append(args, "--agent", "--storage.agent.path="+s.file("data-agent")), flags...)
	return s
}

// newReceiver starts a Prometheus that takes remote write.
func newReceiver(t *testing.T) (peers.Spec, string) {
	t.Helper()
	dir, addr := t.TempDir(), peers.FreeAddr(t)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 1m}\nstorage: {tsdb: {out_of_order_time_window: 1h}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return peers.Spec{
		Name: "prometheus", Path: peers.Build(t).Prometheus, Dir: dir, Ready: "http://" + addr + "/-/ready", Owner: t,
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--web.enable-remote-write-receiver"},
	}, addr
}

// TestWhatWasAcknowledgedIsSentOnOverKillsAndOutages kills a server, and an agent, with kill -9 in the middle of writes
// while the receiver comes and goes. In the end the receiver has every sample that was acknowledged, and what was scraped.
func TestWhatWasAcknowledgedIsSentOnOverKillsAndOutages(t *testing.T) {
	t.Run("by a server", func(t *testing.T) { sendsOnOverKills(t, newInstance(t, "")) })
	t.Run("by an agent", func(t *testing.T) { sendsOnOverKills(t, newAgent(t, "")) })
}

func sendsOnOverKills(t *testing.T, s *instance) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	receiver, addr := newReceiver(t)
	far := peers.Start(t, receiver)
	s.configure(t, fmt.Sprintf(`
global: {scrape_interval: 1s, external_labels: {from: agent}}
scrape_configs: [{job_name: self, static_configs: [{targets: [%q]}]}]
remote_write:
- url: http://%s/api/v1/write
  queue_config: {batch_send_deadline: 100ms, max_backoff: 200ms}
`, s.addr, addr))
	s.start(t)
	stop, ended := make(chan struct{}), make(chan struct{})
	const series = 20
	acked := map[int64]bool{}
	begin := time.Now().Add(-time.Minute)
	go func() {
		defer close(ended)
		for n := int64(0); ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			at := begin.UnixMilli() + n
			if push(s.url("/api/v1/write"), writeRequest(t, "m", series, at, float64(n))) == nil {
				acked[at] = true
			} else {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}()
	for round := range 5 {
		time.Sleep(time.Duration(300+rng.IntN(500)) * time.Millisecond)
		if round == 1 {
			far.Stop(t)
		}
		s.Kill()
		s.start(t)
		if round == 3 {
			far = peers.Start(t, receiver)
		}
	}
	close(stop)
	<-ended
	if len(acked) < 50 {
		t.Fatalf("%d writes were acknowledged: the test shows nothing", len(acked))
	}
	eventually(t, 40*time.Second, "all that was acknowledged", func() error {
		got, err := instant("http://"+addr, `m{from="agent"}[10m]`, time.Now())
		if err != nil {
			return err
		}
		if len(got) != series {
			return fmt.Errorf("%d series", len(got))
		}
		for name, points := range got {
			have := map[int64]bool{}
			for _, p := range points {
				have[p.T] = true
			}
			for at := range acked {
				if !have[at] {
					return fmt.Errorf("%s lacks the sample at %d; it has %d, %d were acknowledged", name, at, len(have), len(acked))
				}
			}
		}
		return nil
	})
	eventually(t, 20*time.Second, "what was scraped", func() error {
		got, err := instant("http://"+addr, `up{job="self",from="agent"}`, time.Now())
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("%v", got)
		}
		return err
	})
	s.Stop(t)
}

// TestAnAgentAnswersAsPrometheusAgent asks both the same.
func TestAnAgentAnswersAsPrometheusAgent(t *testing.T) {
	s := newAgent(t, "global: {}\n")
	s.start(t)
	dir, addr := t.TempDir(), peers.FreeAddr(t)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	peers.Start(t, peers.Spec{
		Name: "prometheus", Path: peers.Build(t).Prometheus, Dir: dir, Ready: "http://" + addr + "/-/ready", Owner: t,
		Args: []string{"--agent", "--config.file=" + config, "--storage.agent.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr},
	})
	ask := func(base, path string) (int, string) {
		t.Helper()
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(string(body))
	}
	for _, path := range []string{
		"/api/v1/query?query=up", "/api/v1/query_range?query=up&start=1&end=2&step=1", "/api/v1/query_exemplars?query=up&start=1&end=2",
		"/api/v1/format_query?query=up", "/api/v1/parse_query?query=up", "/api/v1/labels", "/api/v1/label/job/values", "/api/v1/series?match[]=up",
		"/api/v1/alertmanagers", "/api/v1/alerts", "/api/v1/rules", "/api/v1/status/tsdb", "/api/v1/status/tsdb/blocks",
		"/api/v1/targets?state=active", "/api/v1/scrape_pools", "/api/v1/metadata", "/federate?match[]=up",
	} {
		status, body := ask(s.url(""), path)
		wantStatus, want := ask("http://"+addr, path)
		if status != wantStatus || body != want {
			t.Errorf("%s answers %d %s, Prometheus %d %s", path, status, body, wantStatus, want)
		}
	}
	for path, want := range map[string]int{"/agent": 200, "/targets": 200, "/query": 404, "/rules": 404, "/-/ready": 200, "/metrics": 200} {
		if status, _ := ask(s.url(""), path); status != want {
			t.Errorf("%s answers %d, want %d", path, status, want)
		}
	}
	t.Run("a key that an agent has not", func(t *testing.T) {
		endsWith(t, newAgent(t, "rule_files: [a.yml]\n"), exitConfig, "rule_files is not allowed in agent mode")
	})
}
