// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// targetsConfig has targets that are scraped, that fail, and that relabelling drops, from two kinds of discovery.
const targetsConfig = `
global: {scrape_interval: 200ms, scrape_timeout: 150ms}
scrape_configs:
- job_name: node
  static_configs:
  - targets: ["$TARGET", "$DEAD", "dropped:1", "also.dropped:2"]
    labels: {zone: a}
  relabel_configs:
  - {source_labels: [__address__], regex: "(.*):.*", target_label: host}
  - {source_labels: [__address__], regex: "dropped:.*", action: drop}
  - {source_labels: [host], regex: "also.*", action: drop}
  metric_relabel_configs:
  - {source_labels: [__name__], regex: "node_cpu.*", action: drop}
- job_name: files
  metrics_path: /other
  keep_dropped_targets: 1
  file_sd_configs: [{files: ["$DIR/*.json"]}]
  relabel_configs:
  - {source_labels: [keep], regex: "yes", action: keep}
`

// unsteady takes out of an answer what differs between two servers that do the same.
func unsteady(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"lastScrape", "lastScrapeDuration", "droppedBy"} {
			delete(v, key)
		}
		if text, ok := v["yaml"].(string); ok {
			var parsed any
			if yaml.Unmarshal([]byte(text), &parsed) == nil {
				v["yaml"] = parsed // indentation is no matter
			}
		}
		for k := range v {
			v[k] = unsteady(v[k])
		}
	case []any:
		for i := range v {
			v[i] = unsteady(v[i])
		}
	}
	return v
}

// startTargets starts a tidemark with targetsConfig and, beside it, a Prometheus with the same.
func startTargets(t *testing.T) (ours *instance, theirs string) {
	t.Helper()
	target, dir := newTarget(t), t.TempDir()
	files := `[{"targets": ["` + target.host() + `"], "labels": {"keep": "yes"}}, {"targets": ["x:1", "y:2"], "labels": {"keep": "no"}}]`
	config := strings.NewReplacer("$TARGET", target.host(), "$DEAD", peers.FreeAddr(t), "$DIR", dir).Replace(targetsConfig)
	addr := peers.FreeAddr(t)
	for name, text := range map[string]string{"t.json": files, "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	peers.Start(t, peers.Spec{
		Name: "prometheus", Path: peers.Build(t).Prometheus, Dir: dir, Ready: "http://" + addr + "/-/ready", Owner: t,
		Args: []string{"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--web.external-url=http://monitor.example/"},
	})
	ours = newInstance(t, config, "--web.external-url=http://monitor.example/", "--web.route-prefix=/")
	ours.start(t)
	return ours, "http://" + addr
}

func TestTargetsAreShownAsByPrometheus(t *testing.T) {
	ours, theirs := startTargets(t)
	compare := func(path string) {
		t.Helper()
		var want, got any
		eventually(t, 20*time.Second, path, func() error {
			if err := errors.Join(get(theirs+path, &want), get(ours.url(path), &got)); err != nil {
				return err
			}
			if text, err := json.Marshal(want); err != nil || strings.Contains(string(text), `"health":"unknown"`) {
				return fmt.Errorf("not everything is scraped yet, %w", err)
			}
			if diff := cmp.Diff(unsteady(want), unsteady(got)); diff != "" {
				return fmt.Errorf("(-Prometheus +ours):\n%s", diff)
			}
			return nil
		})
	}
	compare("/api/v1/targets")
	compare("/api/v1/targets?state=active&scrapePool=node")
	compare("/api/v1/targets?state=dropped")
	compare("/api/v1/scrape_pools")
	compare("/api/v1/scrape_pools/config?scrapePool=node")
	compare("/api/v1/scrape_pools/config?scrapePool=files")
	compare("/api/v1/targets/metadata?metric=e2e_trigger&match_target=" + url.QueryEscape(`{job="node"}`))
	compare("/api/v1/targets/relabel_steps?scrapePool=node&labels=" + url.QueryEscape(`{"__address__":"also.dropped:2","job":"node"}`))
}

// TestTheQuestionsAboutTargetsInTheDocumentsAreAnswered runs the commands of docs/scraping.md.
func TestTheQuestionsAboutTargetsInTheDocumentsAreAnswered(t *testing.T) {
	ours, _ := startTargets(t)
	var answers []string
	for _, s := range snippets(t) {
		if s.file != "scraping.md" || s.language != "sh" {
			continue
		}
		command := strings.ReplaceAll(s.text, "http://localhost:9090", ours.url(""))
		eventually(t, 10*time.Second, command, func() error {
			out, err := exec.CommandContext(t.Context(), "sh", "-c", command).Output()
			if err != nil || !strings.Contains(string(out), `"status":"success"`) || strings.Contains(string(out), `"droppedTargets":[]`) {
				return fmt.Errorf("%s, %w", out, err)
			}
			answers = append(answers, string(out))
			return nil
		})
	}
	if len(answers) != 2 {
		t.Fatalf("%d commands", len(answers))
	}
	for _, index := range []string{`"index":0`, `"index":1`, `"index":2`} { // of job files, and of node twice
		if !strings.Contains(answers[0], index) {
			t.Errorf("no target was dropped by the rule with %s: %s", index, answers[0])
		}
	}
	if !strings.Contains(answers[1], `"keep":false`) || !strings.Contains(answers[1], `"regex":"node_cpu.*"`) {
		t.Errorf("steps: %s", answers[1])
	}
}
