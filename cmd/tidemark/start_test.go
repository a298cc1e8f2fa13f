// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/cmd/tidemark/internal/peers"
)

// endsWith runs a server that must not start and checks its exit code and that every pattern is in its output.
func endsWith(t *testing.T, s *instance, code int, patterns ...string) {
	t.Helper()
	p := peers.Run(t, s.spec(t))
	if got := p.Wait(t, 30*time.Second); got != code {
		t.Errorf("exit code %d, want %d; output:\n%s", got, code, p.Output())
	}
	for _, pattern := range patterns {
		if !regexp.MustCompile(pattern).MatchString(p.Output()) {
			t.Errorf("output does not match %q:\n%s", pattern, p.Output())
		}
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Run("unknown flag", func(t *testing.T) {
		endsWith(t, newInstance(t, "", "--no-such-flag"), exitUsage, "no-such-flag")
	})
	t.Run("agent flag", func(t *testing.T) {
		endsWith(t, newInstance(t, "", "--storage.agent.path=x"), exitMode, `--storage\.agent\.path`)
	})
	t.Run("no configuration", func(t *testing.T) {
		endsWith(t, newInstance(t, "", "--tidemark.config.file=/nowhere/t.yml"), exitConfig, `/nowhere/t\.yml`)
	})
	t.Run("unknown key", func(t *testing.T) {
		s := newInstance(t, "global:\n  scrape_interval: 1s\n  scrape_intervall: 1s\n")
		endsWith(t, s, exitConfig, regexp.QuoteMeta(s.file("prometheus.yml")), `(:|line )3\b`, "scrape_intervall")
	})
	t.Run("unknown key of ours", func(t *testing.T) {
		s := newInstance(t, "global: {}\n\ntidemark:\n  storage:\n    wal_sink: durable\n")
		endsWith(t, s, exitConfig, regexp.QuoteMeta(s.file("prometheus.yml")), `(:|line )5\b`, "wal_sink")
	})
	t.Run("bad rule file", func(t *testing.T) {
		s := newInstance(t, "rule_files: [rules.yml]\n")
		s.write(t, "rules.yml", "groups:\n  - name: g\n    rules:\n      - record: a\n        expr: sum(\n")
		endsWith(t, s, exitConfig, `rules\.yml`, `(:|line )\d`, "unclosed left parenthesis|parse error")
	})
	t.Run("discovery kind that is not linked", func(t *testing.T) {
		s := newInstance(t, "scrape_configs:\n  - job_name: j\n    gce_sd_configs: [{project: p, zone: z}]\n")
		endsWith(t, s, exitConfig, regexp.QuoteMeta(s.file("prometheus.yml")), `(:|line )3\b`, "gce_sd_configs", "enable_gce_sd")
	})
	t.Run("port in use", func(t *testing.T) {
		s := newInstance(t, "")
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		endsWith(t, s, exitConfig, regexp.QuoteMeta(s.addr), "address already in use")
	})
	t.Run("data directory in use", func(t *testing.T) {
		s := newInstance(t, "")
		s.start(t)
		second := &instance{owner: t, addr: peers.FreeAddr(t), dir: s.dir}
		for _, arg := range s.args {
			second.args = append(second.args, strings.ReplaceAll(arg, s.addr, second.addr))
		}
		endsWith(t, second, exitConfig, regexp.QuoteMeta(s.file("data")), "lock|in use")
	})
}

func TestVersionAndHelpNeedNoConfiguration(t *testing.T) {
	for flag, want := range map[string]string{"--version": "tidemark, version", "--help": "--tidemark.config.file"} {
		p := peers.Run(t, peers.Spec{Name: "tidemark", Path: peers.BuildServer(t), Args: []string{flag}, Dir: t.TempDir()})
		if code := p.Wait(t, 10*time.Second); code != 0 || !strings.Contains(p.Output(), want) {
			t.Errorf("%s: exit code %d, want 0 and %q:\n%s", flag, code, want, p.Output())
		}
	}
}

// TestReloadKeepsTheOldConfigurationWhenTheNewOneIsBad reloads a series of mistakes.
func TestReloadKeepsTheOldConfigurationWhenTheNewOneIsBad(t *testing.T) {
	good := "global: {scrape_interval: 1s}\nrule_files: [rules.yml]\nscrape_configs:\n  - job_name: self\n    static_configs: [{targets: [$ADDR]}]\n"
	s := newInstance(t, good)
	s.write(t, "rules.yml", "groups: [{name: g, rules: [{record: kept, expr: vector(1)}]}]\n")
	s.start(t)
	running := func() string {
		t.Helper()
		var data struct{ YAML string }
		if err := get(s.url("/api/v1/status/config"), &data); err != nil {
			t.Fatal(err)
		}
		return data.YAML
	}
	before := running()
	if !strings.Contains(before, "job_name: self") {
		t.Fatalf("status/config is\n%s", before)
	}
	reload := func(code int, reason string) {
		t.Helper()
		got, text := post(t, s.url("/-/reload"), "", nil)
		if got != code || !strings.Contains(text, reason) {
			t.Errorf("reload: %d %s, want %d and %q", got, text, code, reason)
		}
	}
	successful := func(want string) {
		t.Helper()
		eventually(t, 10*time.Second, "prometheus_config_last_reload_successful is "+want, func() error {
			text, err := body(s.url("/metrics"))
			if err == nil && !strings.Contains(text, "prometheus_config_last_reload_successful "+want+"\n") {
				err = errors.New("not in /metrics")
			}
			return err
		})
	}

	s.configure(t, good+"no_such_section: 1\n")
	reload(500, "no_such_section")
	successful("0")
	s.configure(t, good)
	s.write(t, "rules.yml", "groups: [{name: g, rules: [{record: changed, expr: 'sum('}]}]\n")
	reload(500, "rules.yml")
	if after := running(); after != before {
		t.Errorf("a refused configuration is in force:\n%s", after)
	}
	var rules struct {
		Groups []struct{ Rules []struct{ Name string } }
	}
	if err := get(s.url("/api/v1/rules"), &rules); err != nil {
		t.Fatal(err)
	}
	if len(rules.Groups) != 1 || rules.Groups[0].Rules[0].Name != "kept" {
		t.Errorf("after a refused reload the rules are %+v", rules)
	}

	s.write(t, "rules.yml", "groups: [{name: g, rules: [{record: changed, expr: vector(2)}]}]\n")
	s.configure(t, strings.ReplaceAll(good, "self", "renamed"))
	reload(200, "")
	successful("1")
	if after := running(); !strings.Contains(after, "job_name: renamed") {
		t.Errorf("after a good reload the configuration is\n%s", after)
	}
}

// TestQueryLogIsOpenedAgainOnReload does what logrotate does. The file's name is relative to the configuration.
func TestQueryLogIsOpenedAgainOnReload(t *testing.T) {
	s := newInstance(t, "global: {query_log_file: queries.log}\n")
	s.start(t)
	logged := func(expr string) {
		t.Helper()
		if _, err := instant(s.url(""), expr, time.Now()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, expr+" is in the query log", func() error {
			text, err := os.ReadFile(s.file("queries.log"))
			if err == nil && !strings.Contains(string(text), expr) {
				err = errors.New("not logged")
			}
			return err
		})
	}
	logged("vector(17)")
	if err := os.Rename(s.file("queries.log"), s.file("queries.log.1")); err != nil {
		t.Fatal(err)
	}
	if code, text := post(t, s.url("/-/reload"), "", nil); code != 200 {
		t.Fatalf("reload: %d %s", code, text)
	}
	logged("vector(18)")
}

// TestExampleShowsDataWithin20Seconds runs what make run runs, on a free port.
func TestExampleShowsDataWithin20Seconds(t *testing.T) {
	example := filepath.Join(peers.Root(t), "docs", "example")
	text, err := os.ReadFile(filepath.Join(example, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	const port = "127.0.0.1:9090"
	if !strings.Contains(string(text), port) {
		t.Fatalf("the example does not scrape %s, where make run listens", port)
	}
	s := newInstance(t, strings.ReplaceAll(string(text), port, "$ADDR"))
	if err := os.CopyFS(s.file("rules"), os.DirFS(filepath.Join(example, "rules"))); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s.start(t)
	for _, expr := range []string{`up{job="tidemark"} == 1`, `job:up:avg{job="tidemark"} == 1`} {
		eventually(t, time.Until(begin.Add(20*time.Second)), expr, func() error {
			got, err := instant(s.url(""), expr, time.Now())
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("got %v", got)
			}
			return err
		})
	}
}

// TestServerFitsIntoItsSize keeps an eye on what is linked: 80 MB, of which 6 are for the rest of
// Alertmanager (its API, cluster and receivers cost 5.3 MB, see docs/adr/0005-discovery-by-build-tag.md).
func TestServerFitsIntoItsSize(t *testing.T) {
	info, err := os.Stat(peers.BuildServer(t))
	if err != nil {
		t.Fatal(err)
	}
	const limit = 74_000_000
	if info.Size() > limit {
		t.Errorf("the server has %d bytes, want %d at most: look at the last changes of docs/deps.txt", info.Size(), limit)
	}
}
