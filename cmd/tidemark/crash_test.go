// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestAcknowledgedSamplesSurviveKill writes from several clients, ends the server with kill -9 in
// the middle of their requests, starts it again, and asks for every sample that was acknowledged.
func TestAcknowledgedSamplesSurviveKill(t *testing.T) {
	const (
		clients = 4
		series  = 50
		rounds  = 4
	)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	s := newInstance(t, "scrape_configs: []\n")
	s.start(t)
	acked := make([][]int64, clients) // by client: times that were acknowledged, all series at each
	last := make([]int64, clients)    // by client: the newest time tried
	begin := time.Now()
	for round := range rounds {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				metric := fmt.Sprintf("crash_%d", c)
				for {
					select {
					case <-stop:
						return
					default:
					}
					ts := max(time.Now().UnixMilli(), last[c]+1)
					last[c] = ts
					if push(s.url("/api/v1/write"), writeRequest(t, metric, series, ts, float64(ts))) == nil {
						acked[c] = append(acked[c], ts)
					}
				}
			})
		}
		time.Sleep(time.Duration(300+rng.IntN(700)) * time.Millisecond)
		s.Kill()
		close(stop)
		wg.Wait()
		s.start(t)
		for c := range clients {
			if len(acked[c]) <= round {
				t.Fatalf("client %d: %d writes acknowledged after %d rounds: the test shows nothing", c, len(acked[c]), round+1)
			}
			checkAcked(t, s, c, series, acked[c], begin)
		}
	}
}

// checkAcked asks for all samples of a client.
func checkAcked(t *testing.T, s *instance, client, series int, acked []int64, begin time.Time) {
	t.Helper()
	to := time.UnixMilli(acked[len(acked)-1])
	got, err := instant(s.url(""), fmt.Sprintf(`crash_%d[%dms]`, client, time.Since(begin).Milliseconds()+1000), to)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != series {
		t.Fatalf("client %d: %d series, want %d", client, len(got), series)
	}
	for labels, points := range got {
		have := map[int64]string{}
		for _, p := range points {
			have[p.T] = p.V
		}
		for _, ts := range acked {
			v, err := strconv.ParseFloat(have[ts], 64)
			if err != nil || v != float64(ts) {
				t.Fatalf("%s: the sample acknowledged at %d is %q after kill -9", labels, ts, have[ts])
			}
		}
	}
}

// TestShadowSendsNothingOut runs a configuration that would alert and forward, with --tidemark.shadow.
func TestShadowSendsNothingOut(t *testing.T) {
	var mu sync.Mutex
	var came []string
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		came = append(came, r.Method+" "+r.URL.Path)
	}))
	t.Cleanup(sink.Close)
	trigger := newTarget(t)
	trigger.value.Store(1)
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
alerting:
  alertmanagers:
    - static_configs: [{targets: [%q]}]
rule_files: [rules.yml]
remote_write:
  - url: %s/remote-write
scrape_configs:
  - job_name: trigger
    static_configs: [{targets: [%q]}]
tidemark:
  webhooks: [{url_file: hook}]
`, strings.TrimPrefix(sink.URL, "http://"), sink.URL, trigger.host())
	run := func(flags ...string) *instance {
		s := newInstance(t, config, flags...)
		s.write(t, "hook", sink.URL+"/webhook")
		s.write(t, "rules.yml", alertRules)
		s.start(t)
		eventually(t, 30*time.Second, "the alert fires", func() error {
			var data struct{ Alerts []struct{ State string } }
			if err := get(s.url("/api/v1/alerts"), &data); err != nil {
				return err
			}
			if len(data.Alerts) != 1 || data.Alerts[0].State != "firing" {
				return fmt.Errorf("alerts are %v", data.Alerts)
			}
			return nil
		})
		return s
	}
	received := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(came)
	}

	s := run("--tidemark.shadow")
	time.Sleep(5 * time.Second) // several evaluations after it began to fire
	s.Stop(t)
	if got := received(); len(got) > 0 {
		t.Errorf("with --tidemark.shadow %d requests left the process: %v", len(got), got)
	}

	// The same configuration without the flag does send: the silence above was not an accident.
	s = run()
	eventually(t, 30*time.Second, "the alert is sent", func() error {
		if slices.Contains(received(), "POST /api/v2/alerts") {
			return nil
		}
		return fmt.Errorf("came: %v", received())
	})
	s.Stop(t)
}
