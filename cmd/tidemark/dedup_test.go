// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// writer is a Prometheus of a pair.
type writer struct {
	*peers.Process

	replica, base string
	spec          peers.Spec
}

// newWriter prepares one that scrapes a target every second and writes to a server of ours.
func newWriter(t *testing.T, replica string, g *target, to *instance) *writer {
	t.Helper()
	dir, addr := t.TempDir(), peers.FreeAddr(t)
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, external_labels: {cluster: pair, __replica__: %s}}
scrape_configs: [{job_name: e2e, static_configs: [{targets: [%q]}]}]
remote_write: [{url: %q, queue_config: {batch_send_deadline: 1s}}]
`, replica, g.host(), to.url("/api/v1/write"))
	path := filepath.Join(dir, "p.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return &writer{replica: replica, base: "http://" + addr, spec: peers.Spec{
		Name: "prometheus " + replica, Path: peers.Build(t).Prometheus, Dir: dir, Ready: "http://" + addr + "/-/ready", Owner: t,
		Args: []string{"--config.file=" + path, "--storage.tsdb.path=data", "--web.listen-address=" + addr},
	}}
}

func (w *writer) start(t *testing.T) {
	t.Helper()
	w.Process = peers.Start(t, w.spec)
}

// checkSent looks whether a sender was ever told that what it sends is wrong.
func (w *writer) checkSent(t *testing.T) {
	t.Helper()
	text, err := body(w.base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(text) {
		for _, name := range []string{"prometheus_remote_storage_samples_failed_total{", "prometheus_remote_storage_samples_dropped_total{"} {
			if strings.HasPrefix(line, name) {
				if seen++; !strings.HasSuffix(line, " 0\n") {
					t.Errorf("%s: %s", w.replica, line)
				}
			}
		}
	}
	if seen == 0 {
		t.Errorf("%s says nothing about samples that failed", w.replica)
	}
}

// elected returns who is.
func elected(s *instance) (string, error) {
	text, err := body(s.url("/metrics"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, `tidemark_ha_dedup_elected_timestamp_seconds{cluster="pair",replica="`); ok {
			return rest[:strings.IndexByte(rest, '"')], nil
		}
	}
	return "", errors.New("nobody is elected")
}

// Two Prometheus servers write the same series; the one that is elected is killed and comes back. No sample is there twice, and
// as much is missing as the documents say.
func TestOfAPairOfPrometheusServersOneIsStored(t *testing.T) {
	t.Parallel()
	const failover = 8 * time.Second
	g := newTarget(t)
	s := newInstance(t, fmt.Sprintf("tidemark: {receive: {ha_dedup: {enabled: true, failover: %s}}}\n", failover))
	s.start(t)
	pair := map[string]*writer{"a": newWriter(t, "a", g, s), "b": newWriter(t, "b", g, s)}
	for _, w := range pair {
		w.start(t)
	}
	begin := time.Now()
	who := func(name string) func() error {
		return func() error {
			got, err := elected(s)
			if err == nil && name != "" && got != name {
				err = fmt.Errorf("%s is elected", got)
			}
			return err
		}
	}
	eventually(t, 30*time.Second, "one is elected", who(""))
	first, err := elected(s)
	if err != nil {
		t.Fatal(err)
	}
	second := map[string]string{"a": "b", "b": "a"}[first]
	time.Sleep(5 * time.Second)
	pair[first].Kill()
	eventually(t, 30*time.Second, "the other takes over", who(second))
	pair[first].start(t)
	time.Sleep(5 * time.Second)
	if err := who(second)(); err != nil {
		t.Errorf("after the first one came back: %v", err)
	}
	s.Kill()
	s.start(t)
	time.Sleep(failover)
	if err := who(second)(); err != nil {
		t.Errorf("after the server was killed: %v", err)
	}
	checkPair(t, s, begin, failover)
	for _, w := range pair {
		w.checkSent(t)
	}
}

// checkPair looks at the times of the samples.
func checkPair(t *testing.T, s *instance, begin time.Time, failover time.Duration) {
	t.Helper()
	got, err := instant(s.url(""), fmt.Sprintf("e2e_trigger[%ds]", int(time.Since(begin).Seconds())+10), time.Now())
	if err != nil || len(got) != 1 {
		t.Fatalf("%d series, want 1 without the label of the replica: %v, %v", len(got), got, err)
	}
	for labels, points := range got {
		if strings.Contains(labels, "__replica__") || !strings.Contains(labels, `cluster="pair"`) {
			t.Errorf("labels are %s", labels)
		}
		times := make([]int64, len(points))
		for i, p := range points {
			times[i] = p.T
		}
		if !slices.IsSorted(times) || len(times) < 20 {
			t.Errorf("times %v", times)
		}
		most, near := int64(0), 0
		for i, at := range times[1:] {
			most = max(most, at-times[i])
			if at-times[i] < 900 {
				near++
			}
		}
		// Half a failover, what the killed one had not sent yet, and a scrape.
		if limit := (failover/2 + 3*time.Second).Milliseconds(); most > limit {
			t.Errorf("a gap of %d ms, at most %d are to be missing", most, limit)
		}
		if near > 1 { // where one took over
			t.Errorf("%d samples are less than a scrape interval behind the one before: both replicas were stored", near)
		}
		t.Logf("%d samples, the longest gap %d ms", len(times), most)
	}
}
