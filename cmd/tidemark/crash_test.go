// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// crashWriter is a client that remembers what it sent and what was acknowledged: the oracle of the test.
type crashWriter struct {
	number int
	sent   map[string]map[int64]bool // by metric, by time: whether it was acknowledged
	last   int64                     // the newest time tried
	acked  int
}

const crashSeries = 20 // in a request

// run writes until stop is closed, whether a server is there or not: in order, now and then late, and new series every
// hundred requests.
func (w *crashWriter) run(t *testing.T, rng *rand.Rand, url string, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		metric := fmt.Sprintf("crash_%d_%d", w.number, n/100)
		w.last = max(time.Now().UnixMilli(), w.last+1)
		ts := w.last
		if rng.IntN(8) == 0 {
			ts -= 60_000 + rng.Int64N(60_000)
		}
		if w.sent[metric] == nil {
			w.sent[metric] = map[int64]bool{}
		}
		if _, ok := w.sent[metric][ts]; ok {
			continue
		}
		w.sent[metric][ts] = false
		switch err := push(url, writeRequest(t, metric, crashSeries, ts, float64(ts))); {
		case err == nil:
			w.sent[metric][ts] = true
			w.acked++
		case errors.Is(err, errRefused):
		default:
			time.Sleep(5 * time.Millisecond) // nobody listens
		}
	}
}

// check asks for all samples of the client.
func (w *crashWriter) check(t *testing.T, s *instance, begin time.Time) {
	t.Helper()
	window := time.Since(begin) + 3*time.Minute
	got, err := instant(s.url(""), fmt.Sprintf(`{__name__=~"crash_%d_.+"}[%dms]`, w.number, window.Milliseconds()), time.Now().Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for labels, points := range got {
		metric := strings.Trim(strings.TrimPrefix(strings.Fields(labels)[0], "__name__="), `"`)
		series[metric]++
		have := map[int64]bool{}
		for _, p := range points {
			v, err := strconv.ParseFloat(p.V, 64)
			if _, sent := w.sent[metric][p.T]; !sent || err != nil || v != float64(p.T) {
				t.Fatalf("%s: %s at %d was never sent", labels, p.V, p.T)
			}
			have[p.T] = true
		}
		for ts, acked := range w.sent[metric] {
			if acked && !have[ts] {
				t.Fatalf("%s: the sample acknowledged at %d is gone after kill -9", labels, ts)
			}
		}
	}
	for metric, times := range w.sent {
		for ts, acked := range times {
			if acked && series[metric] != crashSeries {
				t.Fatalf("%s was acknowledged at %d and has %d series, want %d", metric, ts, series[metric], crashSeries)
			}
		}
	}
}

// TestAcknowledgedSamplesSurviveKill ends the server with kill -9 again and again while clients write to it: in the middle
// of requests, and while a start before restores the head. In the end it asks for every sample that was acknowledged.
func TestAcknowledgedSamplesSurviveKill(t *testing.T) {
	rounds := 6
	if os.Getenv("TIDEMARK_TEST") == "long" {
		rounds = 60
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newInstance(t, "scrape_configs: []\n")
	writers := make([]*crashWriter, 4)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	begin := time.Now()
	s.start(t)
	for i := range writers {
		w := &crashWriter{number: i, sent: map[string]map[int64]bool{}}
		writers[i] = w
		wg.Go(func() { w.run(t, rand.New(rand.NewPCG(seed, uint64(i)+1)), s.url("/api/v1/write"), stop) })
	}
	for round := range rounds {
		time.Sleep(time.Duration(100+rng.IntN(700)) * time.Millisecond)
		s.Kill()
		s.Process = peers.Run(t, s.spec(t))
		if round%3 > 0 { // else it is killed soon, ready or not
			s.WaitReady(t, s.url("/-/ready"))
		}
	}
	s.WaitReady(t, s.url("/-/ready"))
	close(stop)
	wg.Wait()
	for _, w := range writers {
		t.Logf("client %d: %d writes were acknowledged", w.number, w.acked)
		if w.acked < 10*rounds {
			t.Errorf("client %d: %d writes acknowledged in %d rounds: the test shows nothing", w.number, w.acked, rounds)
		}
		w.check(t, s, begin)
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
	eventually(t, 30*time.Second, "the alert and the samples are sent", func() error {
		if slices.Contains(received(), "POST /api/v2/alerts") && slices.Contains(received(), "POST /remote-write") {
			return nil
		}
		return fmt.Errorf("came: %v", received())
	})
	s.Stop(t)
}
