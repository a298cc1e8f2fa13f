// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// stack is everything the end-to-end test starts: a server of ours between real programs.
type stack struct {
	node    string // node_exporter's address
	trigger *target
	hook    *webhook
	am      string // Alertmanager's URL
	server  *instance
	pinned  string // URL of the Prometheus of our library's version, which writes to us by remote write 2.0
	old     string // URL of Debian's Prometheus, which writes by remote write 1.0
}

// TestEndToEnd is one story told in order: each step needs what the steps before it left.
func TestEndToEnd(t *testing.T) {
	st := startStack(t)
	start := time.Now().Truncate(time.Second)
	steps := []struct {
		name string
		run  func(t *testing.T, st *stack, start time.Time)
	}{
		{"the scraped target is up and its series are there", scrapesNodeExporter},
		{"what the pinned Prometheus remote-wrote is what it has", equalsPinned},
		{"what Debian's old Prometheus remote-wrote is what it has", equalsOld},
		{"an alert fires and resolves at the webhook and at Alertmanager", deliversAlerts},
		{"kill -9 and a restart lose no acknowledged sample", survivesKill},
		{"SIGTERM ends cleanly and the data is there again", stopsCleanly},
	}
	for _, step := range steps {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, st, start) }) {
			return
		}
	}
}

func startStack(t *testing.T) *stack {
	t.Helper()
	st := &stack{node: peers.FreeAddr(t), trigger: newTarget(t), hook: newWebhook(t)}
	peers.Start(t, peers.Spec{
		Name: "node_exporter", Path: peers.Debian(t, "prometheus-node-exporter"),
		Args: []string{"--web.listen-address=" + st.node}, Ready: "http://" + st.node + "/metrics",
	})
	st.am = startAlertmanager(t)
	st.server = newInstance(t, fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
alerting:
  alertmanagers:
    - static_configs: [{targets: [%q]}]
rule_files: [rules.yml]
scrape_configs:
  - job_name: node
    static_configs: [{targets: [%q]}]
  - job_name: trigger
    file_sd_configs: [{files: [trigger.json]}]
tidemark:
  webhooks:
    - {url_file: hook, send_resolved: true}
`, strings.TrimPrefix(st.am, "http://"), st.node))
	st.server.write(t, "trigger.json", fmt.Sprintf(`[{"targets": [%q]}]`, st.trigger.host()))
	st.server.write(t, "hook", st.hook.URL)
	st.server.write(t, "rules.yml", alertRules)
	st.server.start(t)

	pinned := peers.Build(t)
	st.pinned = startPrometheus(t, pinned.Prometheus, writing{st, "node_v2", "protobuf_message: io.prometheus.write.v2.Request"})
	st.old = startPrometheus(t, peers.Debian(t, "prometheus"), writing{st, "node_v1", ""})
	return st
}

const alertRules = `
groups:
  - name: e2e
    interval: 1s
    rules:
      - record: e2e:trigger:double
        expr: e2e_trigger * 2
      - alert: Triggered
        expr: e2e_trigger == 1
        for: 2s
        labels: {severity: page}
        annotations: {summary: "value {{ $value }}"}
`

func startAlertmanager(t *testing.T) string {
	t.Helper()
	dir, addr := t.TempDir(), peers.FreeAddr(t)
	config := "route: {receiver: none, group_wait: 1s}\nreceivers: [{name: none}]\n"
	if err := os.WriteFile(filepath.Join(dir, "am.yml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	peers.Start(t, peers.Spec{
		Name: "alertmanager", Path: peers.Debian(t, "prometheus-alertmanager"), Dir: dir, Ready: "http://" + addr + "/-/ready",
		Args: []string{"--config.file=am.yml", "--storage.path=data", "--web.listen-address=" + addr, "--cluster.listen-address="},
	})
	return "http://" + addr
}

// writing is a Prometheus that scrapes node_exporter as job and remote-writes to the stack's server.
type writing struct {
	st       *stack
	job      string
	protocol string // a line of the remote_write section
}

func startPrometheus(t *testing.T, path string, w writing) string {
	t.Helper()
	dir, addr := t.TempDir(), peers.FreeAddr(t)
	config := fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: %s
    static_configs: [{targets: [%q]}]
remote_write:
  - url: %s
    %s
    queue_config: {batch_send_deadline: 500ms, min_backoff: 100ms, max_backoff: 1s}
`, w.job, w.st.node, w.st.server.url("/api/v1/write"), w.protocol)
	if err := os.WriteFile(filepath.Join(dir, "p.yml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	peers.Start(t, peers.Spec{
		Name: "prometheus " + w.job, Path: path, Dir: dir, Ready: "http://" + addr + "/-/ready",
		Args: []string{"--config.file=p.yml", "--storage.tsdb.path=data", "--web.listen-address=" + addr},
	})
	return "http://" + addr
}

func scrapesNodeExporter(t *testing.T, st *stack, _ time.Time) {
	base := st.server.url("")
	eventually(t, time.Minute, "both targets up", func() error {
		var data struct {
			ActiveTargets []struct {
				Health string
				Labels map[string]string
			}
		}
		if err := get(base+"/api/v1/targets?state=active", &data); err != nil {
			return err
		}
		up := map[string]string{}
		for _, a := range data.ActiveTargets {
			up[a.Labels["job"]] = a.Health
		}
		if up["node"] != "up" || up["trigger"] != "up" {
			return fmt.Errorf("targets are %v", up)
		}
		return nil
	})
	eventually(t, time.Minute, "node_exporter's series", func() error {
		got, err := instant(base, `count by (job) ({__name__=~"node_.+", job="node"})`, time.Now())
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("got %v", got)
		}
		return err
	})
	eventually(t, time.Minute, "five seconds of them by range query", func() error {
		now := time.Now()
		got, err := ranged(base, `node_load1{job="node"}`, now.Add(-5*time.Second), now)
		for _, points := range got {
			if len(points) >= 5 {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("got %v", got))
	})
}

func equalsPinned(t *testing.T, st *stack, start time.Time) {
	t.Helper()
	equals(t, st, st.pinned, "node_v2", start)
}

func equalsOld(t *testing.T, st *stack, start time.Time) {
	t.Helper()
	equals(t, st, st.old, "node_v1", start)
}

// equals compares the answers of two servers about a job whose samples one of them sent to the
// other: sample by sample, and through functions.
func equals(t *testing.T, st *stack, peer, job string, start time.Time) {
	t.Helper()
	from := start.Add(3 * time.Second)
	to := from.Add(12 * time.Second)
	time.Sleep(time.Until(to.Add(2 * time.Second)))
	sameSamples(t, st, peer, job, from, to)

	exprs := []string{
		`node_load1{job="$job"}`,
		`sum by (mode) (rate(node_cpu_seconds_total{job="$job"}[5s]))`,
		`node_memory_MemTotal_bytes{job="$job"} - node_memory_MemAvailable_bytes{job="$job"}`,
		`topk(3, node_filesystem_avail_bytes{job="$job"})`,
		`quantile_over_time(0.9, node_load1{job="$job"}[10s])`,
		`node_network_receive_bytes_total{job="$job"} and on (device) node_network_up{job="$job"}`,
		`count by (__name__) ({job="$job"})`,
		`up{job="$job"}`,
	}
	for _, expr := range exprs {
		expr = strings.ReplaceAll(expr, "$job", job)
		c := func(kind string, query func(base string) (answer, error)) {
			t.Helper()
			want, err := query(peer)
			if err != nil {
				t.Fatal(err)
			}
			got, err := query(st.server.url(""))
			if err != nil {
				t.Fatal(err)
			}
			if len(want) == 0 {
				t.Errorf("%s %s is empty: it compares nothing", kind, expr)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %s (-Prometheus +Tidemark):\n%s", kind, expr, diff)
			}
		}
		c("instant", func(base string) (answer, error) { return instant(base, expr, to) })
		c("range", func(base string) (answer, error) { return ranged(base, expr, from.Add(5*time.Second), to) })
	}
}

// sameSamples waits until both servers hold the same raw samples of a job between two times.
func sameSamples(t *testing.T, st *stack, peer, job string, from, to time.Time) {
	t.Helper()
	selector := fmt.Sprintf(`{job=%q}[%dms]`, job, to.Sub(from).Milliseconds())
	want, err := instant(peer, selector, to)
	if err != nil {
		t.Fatal(err)
	}
	if len(want) < 100 {
		t.Fatalf("only %d series of %s at %s", len(want), job, peer)
	}
	eventually(t, time.Minute, "the remote-written samples of "+job, func() error {
		got, err := instant(st.server.url(""), selector, to)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("%d series, want %d (-Prometheus +Tidemark):\n%.2000s", len(got), len(want), diff)
		}
		return nil
	})
}

func deliversAlerts(t *testing.T, st *stack, _ time.Time) {
	st.trigger.value.Store(1)
	eventually(t, 30*time.Second, "the alert fires", func() error {
		got, err := instant(st.server.url(""), `ALERTS{alertname="Triggered", alertstate="firing"} and on() e2e:trigger:double == 2`, time.Now())
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("got %v", got)
		}
		return err
	})
	var alerts []struct {
		Labels, Annotations map[string]string
		Status              struct{ State string }
	}
	eventually(t, 30*time.Second, "Alertmanager shows the alert", func() error {
		if err := get(st.am+`/api/v2/alerts?filter=alertname%3D"Triggered"`, &alerts); err != nil {
			return err
		}
		if len(alerts) != 1 {
			return fmt.Errorf("%d alerts", len(alerts))
		}
		return nil
	})
	if a := alerts[0]; a.Labels["severity"] != "page" || a.Annotations["summary"] != "value 1" {
		t.Errorf("Alertmanager has %+v", a)
	}
	eventually(t, 30*time.Second, "the webhook gets it firing", func() error { return st.hook.saw("Triggered", "firing") })

	st.trigger.value.Store(0)
	eventually(t, 30*time.Second, "the alert resolves", func() error {
		var data struct{ Alerts []struct{ State string } }
		if err := get(st.server.url("/api/v1/alerts"), &data); err != nil {
			return err
		}
		if len(data.Alerts) != 0 {
			return fmt.Errorf("alerts are %v", data.Alerts)
		}
		return nil
	})
	eventually(t, 30*time.Second, "Alertmanager drops it", func() error {
		if err := get(st.am+`/api/v2/alerts?filter=alertname%3D"Triggered"`, &alerts); err != nil {
			return err
		}
		if len(alerts) != 0 {
			return fmt.Errorf("%d alerts", len(alerts))
		}
		return nil
	})
	eventually(t, time.Minute, "the webhook gets it resolved", func() error { return st.hook.saw("Triggered", "resolved") })
}

// survivesKill ends the server without warning while both Prometheus servers write to it. What it
// acknowledged they do not send again; what it did not, they do: nothing may be missing at the end.
func survivesKill(t *testing.T, st *stack, _ time.Time) {
	from := time.Now().Truncate(time.Second)
	for range 3 {
		time.Sleep(2 * time.Second)
		st.server.Kill()
		time.Sleep(time.Second)
		st.server.start(t)
	}
	to := time.Now().Add(2 * time.Second).Truncate(time.Second)
	time.Sleep(time.Until(to.Add(2 * time.Second)))
	sameSamples(t, st, st.pinned, "node_v2", from, to)
	sameSamples(t, st, st.old, "node_v1", from, to)
}

func stopsCleanly(t *testing.T, st *stack, start time.Time) {
	to := time.Now().Truncate(time.Second)
	expr := fmt.Sprintf(`{job="node"}[%dms]`, to.Sub(start).Milliseconds())
	want, err := instant(st.server.url(""), expr, to)
	if err != nil || len(want) == 0 {
		t.Fatalf("%d series: %v", len(want), err)
	}
	code, took := st.server.Stop(t)
	if code != 0 || took > 10*time.Second {
		t.Errorf("SIGTERM: exit code %d after %s, want 0 within 10s", code, took)
	}
	st.server.start(t)
	got, err := instant(st.server.url(""), expr, to)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the restart (-before +after):\n%s", diff)
	}
}
