// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

const receivesAll = `
tidemark:
  receive:
    http: [influx, pushgateway, prometheus, csv, json]
    graphite_listen: $GRAPHITE
`

// receiver starts a server that receives everything, and returns its address for Graphite.
func receiver(t *testing.T) (s *instance, graphite string) {
	t.Helper()
	graphite = peers.FreeAddr(t)
	s = newInstance(t, strings.ReplaceAll(receivesAll, "$GRAPHITE", graphite))
	s.start(t)
	return s, graphite
}

// shell runs the commands of a document, of which the first that fails ends them. Requests fail where the answer says so.
func shell(t *testing.T, dir, commands string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "bash", "-ec", strings.ReplaceAll(commands, "curl -", "curl --no-progress-meter --fail-with-body -"))
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s\n%v: %s", commands, err, out)
	}
	return string(out)
}

// TestTheRequestsOfTheDocumentsAreStored runs the commands of docs/receiving.md.
func TestTheRequestsOfTheDocumentsAreStored(t *testing.T) {
	s, graphite := receiver(t)
	host, port, _ := strings.Cut(graphite, ":")
	ran := 0
	for _, snippet := range snippets(t) {
		if snippet.file != "receiving.md" || snippet.language != "sh" || strings.Contains(snippet.text, "victoria") {
			continue
		}
		ran++
		text := strings.NewReplacer("http://localhost:9090", s.url(""), "http://127.0.0.1:9090", s.url(""),
			"nc -w1 localhost 2003", fmt.Sprintf("cat > /dev/tcp/%s/%s", host, port)).Replace(snippet.text)
		shell(t, s.dir, text)
	}
	if ran < 7 {
		t.Errorf("%d blocks of commands were run: the document is not read", ran)
	}
	for _, expr := range []string{
		`cpu_usage_idle{host="a",db="telegraf"} == 97.5`, `mem_free{db="telegraf"} == 1024`, `mem_ok{db="telegraf"} == 1`,
		`{"servers.a.load",dc="x"} == 1.5`, `last_success_timestamp_seconds{job="backup",instance="db1"} > 0`, `push_time_seconds{job="backup",instance="db1"} > 0`,
		`temperature{room="attic",job="import"} == 31.5`, `tidemark_build_info{instance="me"} == 1`,
		`ask{ticker="GOOG"} == 1.5`, `bid{ticker="GOOG"} == 1.25`, `up{job="old"} == 0`,
	} {
		eventually(t, 10*time.Second, expr, func() error {
			got, err := instant(s.url(""), expr, time.Now().Add(time.Second))
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("%d series", len(got))
			}
			return err
		})
	}
}

func TestProtocolsAreTurnedOnByAReload(t *testing.T) {
	s := newInstance(t, "")
	s.start(t)
	post := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Post(s.url(path), "text/plain", strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	words := map[string]string{
		"/influx/write": "influx", "/pushgateway/metrics/job/x": "pushgateway", "/api/v1/import/prometheus": "prometheus",
		"/api/v1/import/csv?format=1:metric:x": "csv", "/api/v1/import": "json",
	}
	for path, word := range words {
		if code, text := post(path); code != http.StatusNotFound || !strings.Contains(text, word) {
			t.Errorf("%s while it is off: %d %s", path, code, text)
		}
	}
	s.configure(t, "tidemark: {receive: {http: [influx, pushgateway, prometheus, csv, json]}}\n")
	if code, text := post("/-/reload"); code != http.StatusOK {
		t.Fatalf("reload: %d %s", code, text)
	}
	for path := range words {
		if code, text := post(path); code/100 != 2 {
			t.Errorf("%s while it is on: %d %s", path, code, text)
		}
	}
}

// exported asks for all samples of a metric and returns them by series; both databases write the same documents.
func exported(t *testing.T, base, metric string) map[string][]string {
	t.Helper()
	resp, err := http.Get(base + "/api/v1/export?match[]=" + metric)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out := map[string][]string{}
	for dec := json.NewDecoder(resp.Body); ; {
		var line struct {
			Metric     map[string]string
			Values     []any
			Timestamps []int64
		}
		err := dec.Decode(&line)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", resp.Status, err)
		}
		for i, v := range line.Values {
			out[fmt.Sprint(line.Metric)] = append(out[fmt.Sprint(line.Metric)], fmt.Sprintf("%v@%d", v, line.Timestamps[i]))
		}
	}
}

func TestHistoryMovesToVictoriaMetricsAndBack(t *testing.T) {
	s, _ := receiver(t)
	v := emptyVictoria(t, peers.Debian(t, "victoria-metrics"))
	peers.Start(t, v.spec)
	var lines strings.Builder
	now := time.Now().UnixMilli()
	for series := range 50 {
		var values, times []string // finite ones: Debian's VictoriaMetrics is older than its texts for the others
		for i := range 500 {
			values, times = append(values, fmt.Sprintf("%d.25", series*i)), append(times, fmt.Sprint(now-8_000_000+int64(i)*15_000))
		}
		fmt.Fprintf(&lines, `{"metric":{"__name__":"moved","series":"s \"%02d\" é"},"values":[%s],"timestamps":[%s]}`+"\n", series, strings.Join(values, ","), strings.Join(times, ","))
	}
	s.write(t, "moved.jsonl", lines.String())
	file := filepath.Join(s.dir, "moved.jsonl")
	shell(t, s.dir, fmt.Sprintf("curl -s %s --data-binary @%s", s.url("/api/v1/import"), file))
	want := exported(t, s.url(""), "moved")
	if len(want) != 50 {
		t.Fatalf("%d series are stored", len(want))
	}
	there := fmt.Sprintf("curl -s %s -d 'match[]=moved' | curl -s %s --data-binary @-", s.url("/api/v1/export"), v.base+"/api/v1/import")
	shell(t, s.dir, there)
	eventually(t, 20*time.Second, "VictoriaMetrics shows what was imported", func() error {
		if diff := cmp.Diff(want, exported(t, v.base, "moved")); diff != "" {
			return fmt.Errorf("%.500s", diff)
		}
		return nil
	})
	second, _ := receiver(t)
	for _, snippet := range snippets(t) {
		if snippet.file == "receiving.md" && strings.Contains(snippet.text, "http://victoria") {
			shell(t, s.dir, strings.NewReplacer("http://localhost:9090", second.url(""), "http://victoria:8428", v.base).Replace(snippet.text))
		}
	}
	if diff := cmp.Diff(want, exported(t, second.url(""), "moved")); diff != "" {
		t.Errorf("%.500s", diff)
	}
}
