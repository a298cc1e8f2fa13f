// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// write puts a file into a fresh directory and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return Load(Options{File: write(t, "prometheus.yml", text)})
}

const jobs = "scrape_configs:\n- job_name: self\n  static_configs:\n  - targets: [localhost:9090]\n"

func TestSectionIsReadWhereverItStands(t *testing.T) {
	check := func(name, text string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			c, err := load(t, text)
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Duration(c.Tidemark.Storage.MaxFuture); got != 7*time.Minute {
				t.Errorf("max_future is %v, want 7m", got)
			}
			if n := len(c.Prom.ScrapeConfigs); n != 1 || c.Prom.ScrapeConfigs[0].JobName != "self" {
				t.Errorf("%d scrape configs, want the job self", n)
			}
		})
	}
	block := "tidemark:\n  storage:\n    max_future: 7m\n"
	check("at the end", jobs+block)
	check("first", block+jobs)
	check("in the middle", "global:\n  scrape_interval: 5s\n"+block+jobs)
	check("at the end without a last line end", jobs+strings.TrimSuffix(block, "\n"))
	check("in flow style", jobs+"tidemark: {storage: {max_future: 7m}}\n")
	check("in flow style over lines", jobs+"tidemark: {\n  storage: {\n max_future: 7m\n}}\n")
	check("with a quoted key", "\"tidemark\":\n  storage: {max_future: 7m}\n"+jobs)
	check("with comments", "# one\n"+jobs+"# two\ntidemark: # three\n  # four\n  storage:\n# five\n    max_future: 7m # six\n")
	check("with carriage returns", strings.ReplaceAll("global: {}\n"+block+jobs, "\n", "\r\n"))
	check("behind a byte order mark", "\ufeff"+block+jobs)
	check("behind a document start", "---\n"+block+jobs+"...\n")
	check("before an empty second document", jobs+block+"---\n")
	check("before a second document", jobs+block+"---\nfoo: bar\n")
	check("after a literal block that keeps its end", "global:\n  external_labels:\n    a: |+\n      x\n\n"+block+jobs)
	check("in a root of flow style", "{scrape_configs: [{job_name: self, static_configs: [{targets: [\"a:1\"]}]}], tidemark: {storage: {max_future: 7m}}}\n")
	check("first in a root of flow style", "{\"tidemark\": {storage: {max_future: 7m}},\n \"scrape_configs\": [{job_name: self}]}\n# }\n")
	check("behind other characters than ASCII", "{global: {external_labels: {a: é}}, scrape_configs: [{job_name: self}], tidemark: {storage: {max_future: 7m}}}\n")
	check("with an anchor from outside", "global:\n  scrape_interval: &x 7m\n"+jobs+"tidemark:\n  storage:\n    max_future: *x\n")
	check("with an anchor inside", jobs+"tidemark:\n  rules: {catch_up: &x 7m}\n  storage:\n    max_future: *x\n")
	check("with a merge", jobs+"tidemark:\n  storage:\n    <<: {max_future: 7m, on_full: delete_oldest}\n    on_full: read_only\n")
	check("indented", "  scrape_configs:\n  - job_name: self\n  tidemark:\n    storage: {max_future: 7m}\n")
}

func TestMistakesHaveFileLineAndAdvice(t *testing.T) {
	check := func(name, text string, line int, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			_, err := load(t, text)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error is %v, want an *Error", err)
			}
			if e.Line != line || !strings.Contains(e.Msg, want) {
				t.Errorf("line %d: %s\nwant line %d and %q", e.Line, e.Msg, line, want)
			}
			if !strings.Contains(err.Error(), "prometheus.yml") {
				t.Errorf("%q does not name the file", err)
			}
		})
	}
	check("unknown key", jobs+"tidemark:\n  storage:\n    max_futur: 7m\n", 7, "unknown key storage.max_futur: the keys here are wal_sync,")
	check("unknown section", "tidemark:\n  nope: 1\n", 2, "unknown key nope")
	check("unknown key through a merge", "global: {scrape_interval: 5s}\ntidemark:\n  storage:\n    <<: {bad: 1}\n", 4, "unknown key storage.bad")
	check("key twice", "tidemark:\n  shadow: true\n  shadow: true\n", 3, "set twice, first in line 2")
	check("section twice", "tidemark: {}\n"+jobs+"tidemark: {}\n", 6, "set twice, first in line 1")
	check("section of the wrong shape", "tidemark: [1]\n", 1, "not a mapping")
	check("anchor used outside", "tidemark:\n  storage: {max_future: &x 7m}\nglobal:\n  scrape_interval: *x\n", 4, "anchor x is defined inside")
	check("bad size", "tidemark:\n  memory: {limit: 12 parsecs}\n", 2, "memory.limit: \"12 parsecs\" is not a size")
	check("share above 100%", "tidemark:\n  memory: {limit: 101%}\n", 2, "between 0% and 100%")
	check("too little memory", "tidemark:\n  memory: {limit: 1MiB}\n", 2, "at least 64MiB")
	check("bad duration", "tidemark:\n  storage:\n    max_future: soon\n", 3, "storage.max_future: ")
	check("zero duration", "tidemark:\n  storage:\n    max_future: 0s\n", 3, "above 0")
	check("bad window", "tidemark:\n  storage:\n    late_window: {push: never}\n", 3, "storage.late_window.push: \"never\"")
	check("bad word", "tidemark:\n  storage:\n    wal_sync: maybe\n", 3, "not one of durable, process")
	check("bad word in a list", "tidemark:\n  receive:\n    http: [influx, smtp]\n", 3, "\"smtp\" is not one of")
	check("bad boolean", "tidemark:\n  shadow: perhaps\n", 2, "shadow: cannot unmarshal")
	check("too many retention rules", "tidemark:\n  storage:\n    retention:\n"+strings.Repeat("    - {name: a, match: '{a=\"b\"}', keep: 1d}\n", 8), 3, "at most 7")
	check("bad selector", "tidemark:\n  storage:\n    retention:\n    - {name: a, match: '{job=', keep: 1d}\n", 4, "not a series selector")
	check("webhook without file", "tidemark:\n  webhooks:\n  - send_resolved: true\n", 3, "url_file is missing")
	check("secret in the clear", "tidemark:\n  webhooks:\n  - url: http://x\n", 3, "unknown key webhooks[0].url")
	check("empty list element", "tidemark:\n  webhooks:\n  -\n", 3, "is empty")
	check("list of the wrong shape", "tidemark:\n  webhooks: 7\n", 2, "not a list")
	check("limit named twice", "tidemark:\n  series_limits:\n  - {name: a, per: job}\n  - {name: a, per: pod}\n", 4, "name of its own")
	check("zero limit", "tidemark:\n  series_limits:\n  - {name: a, per: job, max: 0}\n", 3, "above 0")
	check("bad address", "tidemark:\n  receive: {graphite_listen: here}\n", 2, "not an address")
	check("bad url", "tidemark:\n  alertmanager: {external_url: here}\n", 2, "not an http or https URL")
	check("unknown key of Prometheus keeps its line", "tidemark:\n  storage:\n    max_future: 7m\nglobal:\n  scrape_intervall: 5s\n", 5, "field scrape_intervall not found")
	check("bad value of Prometheus keeps its line", "tidemark: {}\nglobal:\n  sample_limit: many\n", 3, "cannot unmarshal")
	check("value that Prometheus refuses without a line", jobs+"  relabel_configs:\n  - {source_labels: [a], regex: 'b', action: keep}\n  - source_labels: [a]\n    regex: '('\n    action: keep\nglobal:\n  scrape_interval: 1m\n", 8, "missing closing )")
	check("bad duration of Prometheus", "tidemark: {}\nglobal:\n  scrape_timeout: 1s\n  scrape_interval: 5x\n", 4, "unknown unit")
	check("target of another form", "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets:\n    - ok:1\n    - http://x\n", 6, "not a valid hostname")
	check("job twice", jobs+"- {job_name: b}\n- job_name: b\n- job_name: c\n", 6, "multiple scrape configs")
	check("timeout above interval", jobs+"- job_name: b\n  scrape_interval: 1s\n  scrape_timeout: 2s\n", 7, "greater than scrape interval")
	check("key that is missing", jobs+"- scrape_interval: 1s\n- {job_name: c}\n", 5, "job_name is empty")
	check("bad value behind an alias", "global:\n  scrape_interval: &x 5x\n  evaluation_interval: *x\n", 2, "unknown unit")
	check("tab", "tidemark:\n\tshadow: true\n", 2, "cannot start any token")
	check("kind that is not linked", jobs+"- job_name: b\n  kubernetes_sd_configs: [{role: pod}]\n", 6, "build with -tags enable_kubernetes_sd")
	check("alertmanager kind that is not linked", "alerting:\n  alertmanagers:\n  - consul_sd_configs: [{server: x}]\n", 3, "build with -tags enable_consul_sd")
	check("kind that does not exist", jobs+"- job_name: b\n  magic_sd_configs: [{}]\n", 6, "field magic_sd_configs not found")
}

func TestEndlessAliasesEnd(t *testing.T) {
	if _, err := load(t, "tidemark: &a\n  storage:\n    <<: *a\n"); err == nil {
		t.Error("a section that contains itself was accepted")
	}
}

func TestSettingsInTheirOwnFile(t *testing.T) {
	own := func(text string) (*Config, error) {
		return Load(Options{File: write(t, "prometheus.yml", jobs), TidemarkFile: write(t, "tidemark.yml", text)})
	}
	c, err := own("storage: {max_future: 7m}\nwebhooks: [{url_file: hook}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(c.Tidemark.Storage.MaxFuture); got != 7*time.Minute {
		t.Errorf("max_future is %v, want 7m", got)
	}
	if hook := c.Tidemark.Webhooks[0]; !filepath.IsAbs(hook.URLFile) || filepath.Base(hook.URLFile) != "hook" || !hook.SendResolved {
		t.Errorf("webhook is %+v, want an absolute file and send_resolved", hook)
	}
	if _, err := own(""); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	check := func(text string, line int, want string) {
		t.Helper()
		_, err := own(text)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Line != line || !strings.Contains(e.Msg, want) || !strings.HasSuffix(e.File, "tidemark.yml") {
			t.Errorf("error is %v, want line %d of tidemark.yml and %q", err, line, want)
		}
	}
	check("shadow: true\nnope: 1\n", 2, "unknown key nope")
	check("tidemark: {shadow: true}\n", 1, "without the outer key")
	check("shadow: true\n---\nshadow: false\n", 0, "more than one YAML document")
	check("a: [\n", 1, "did not find")

	_, err = Load(Options{File: write(t, "prometheus.yml", jobs+"tidemark: {}\n"), TidemarkFile: write(t, "tidemark.yml", "")})
	if e, ok := errors.AsType[*Error](err); !ok || e.Line != 5 || !strings.Contains(e.Msg, "keep one of the two") {
		t.Errorf("settings in both places: error is %v", err)
	}
}

func TestDefaultsHoldWhereNothingIsSet(t *testing.T) {
	want := DefaultSettings()
	for _, text := range []string{"", "# nothing\n", jobs, "tidemark:\n", "tidemark: {}\n", "tidemark:\n  memory:\n  storage: {}\n"} {
		c, err := load(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, c.Tidemark); diff != "" {
			t.Errorf("%q:\n%s", text, diff)
		}
		if got := time.Duration(c.Prom.GlobalConfig.ScrapeInterval); got != time.Minute {
			t.Errorf("%q: scrape interval is %v", text, got)
		}
	}
}

func TestKeysWithoutEffectAreLoggedOnce(t *testing.T) {
	check := func(text, want string) {
		t.Helper()
		var log bytes.Buffer
		c, err := Load(Options{File: write(t, "prometheus.yml", text), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Inert, ", "); got != want {
			t.Errorf("keys without effect are %q, want %q", got, want)
		}
		if n := strings.Count(log.String(), "no effect in this version"); n != min(len(want), 1) {
			t.Errorf("%d log lines:\n%s", n, log.String())
		}
	}
	check(jobs, "")
	check("tidemark:\n  storage: {on_full: delete_oldest, wal_sync: process}\n", "")
	check("tidemark:\n  rules: {on_no_data: keep}\n", "tidemark.rules.on_no_data")
	check("tidemark:\n  alertmanager: {cluster: {peers: [\"a:1\", \"b:1\"]}}\n  query: {slow_log: 1s}\n", "tidemark.alertmanager.cluster.peers")
	check("remote_read: [{url: http://x}]\nstorage: {tsdb: {chunk_encoding: {floats: xor}}, exemplars: {max_exemplars: 5}}\n", "storage.exemplars, storage.tsdb.chunk_encoding")
}

func TestDisplayedConfigurationLoadsAgainAndHidesSecrets(t *testing.T) {
	c, err := load(t, "scrape_configs:\n- job_name: self\n  basic_auth: {username: u, password: hunter2}\ntidemark: {shadow: true}\n")
	if err != nil {
		t.Fatal(err)
	}
	text := c.YAML()
	if strings.Contains(text, "hunter2") {
		t.Error("the password is shown")
	}
	again, err := load(t, text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if diff := cmp.Diff(c.Tidemark, again.Tidemark, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestKeysForARestart(t *testing.T) {
	a, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := load(t, "tidemark: {shadow: true, storage: {wal_sync: process, max_future: 1m}, memory: {limit: 1GiB}}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"tidemark.shadow", "tidemark.memory.limit", "tidemark.storage.wal_sync", "tidemark.storage.max_future"}
	if diff := cmp.Diff(want, RestartKeys(a, b)); diff != "" {
		t.Error(diff)
	}
}

func TestRuleFilesAreGlobbed(t *testing.T) {
	path := write(t, "prometheus.yml", "rule_files: ['rules/*.yml', rules/a.yml, none.yml]\n")
	dir := filepath.Join(filepath.Dir(path), "rules")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "a.yml"), filepath.Join(dir, "b.yml")}
	for _, f := range want {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(Options{File: path})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.RuleFiles()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestScrapeConfigFilesAreChecked(t *testing.T) {
	check := func(text, want string) {
		t.Helper()
		path := write(t, "prometheus.yml", "scrape_config_files: [jobs.yml]\n")
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "jobs.yml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(Options{File: path})
		if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	check("scrape_configs: [{job_name: a}, {job_name: a}]\n", "multiple scrape configs")
	check("scrape_configs:\n- job_name: a\n  dns_sd_configs: [{names: [x]}]\n", "jobs.yml:3: dns_sd_configs: this binary was built without dns")
}

func TestAgentModeRefusesWhatItHasNot(t *testing.T) {
	check := func(text string, line int) {
		t.Helper()
		_, err := Load(Options{File: write(t, "prometheus.yml", text), Agent: true})
		if e, ok := errors.AsType[*Error](err); !ok || e.Line != line || !strings.Contains(e.Msg, "agent mode") {
			t.Errorf("error is %v", err)
		}
	}
	check("global: {}\nrule_files: [a]\n", 2)
	check("remote_read: [{url: http://x}]\n", 1)
	check("alerting: {alertmanagers: [{static_configs: [{targets: [a]}]}]}\n", 1)
}

func TestMissingFileIsNamed(t *testing.T) {
	_, err := Load(Options{File: filepath.Join(t.TempDir(), "gone.yml")})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "gone.yml") {
		t.Errorf("error is %v", err)
	}
}

func TestSizes(t *testing.T) {
	check := func(text string, total, want int64) {
		t.Helper()
		s, err := ParseSize(text)
		if err != nil || s.Of(total) != want {
			t.Errorf("%q of %d is %d, %v, want %d", text, total, s.Of(total), err, want)
		}
		again, err := ParseSize(s.String())
		if err != nil || again != s {
			t.Errorf("%q is shown as %q, which reads as %v, %v", text, s, again, err)
		}
	}
	check("8GiB", 1, 8<<30)
	check("1.5GiB", 1, 3<<29)
	check("10GB", 1, 1e10)
	check("17B", 1, 17)
	check("0", 1, 0)
	check("60%", 1000, 600)
	check("12.5%", 1000, 125)
	for _, bad := range []string{"", "GiB", "8", "8 GiB", "-1GiB", "NaNB", "1e300TiB", "-5%", "NaN%", "%"} {
		if s, err := ParseSize(bad); err == nil {
			t.Errorf("%q was read as %v", bad, s)
		}
	}
}

// FuzzSplit asserts that whatever the section looks like, the rest reaches Prometheus' loader unchanged or not at all.
func FuzzSplit(f *testing.F) {
	f.Add("a: 1\ntidemark:\n  b: 2\nc: 3\n")
	f.Add("{a: 1, tidemark: {b: 2}, c: 3}")
	f.Add("tidemark: |+\n  x\n\nc: 3\r\n")
	f.Add("? tidemark\n: a\n? b\n: c\n")
	f.Add("\ufefftidemark: 1\ra: 2\u0085b: 3")
	f.Add("--- {tidemark: x}\n...\n{}\n")
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := split("f", []byte(text))
		if err != nil || doc.root == nil {
			return
		}
		if doc.section == nil && string(doc.rest) != text {
			t.Errorf("a text without a section was changed: %q", doc.rest)
		}
		if doc.section != nil && strings.Count(string(doc.rest), "\n") != strings.Count(text, "\n") {
			t.Errorf("%q became %q", text, doc.rest)
		}
	})
}

func TestAWindowForLateSamplesIsKnownToBeSetEvenIfItIsZero(t *testing.T) {
	check := func(text string, want bool) {
		t.Helper()
		if c, err := load(t, text); err != nil || c.LateWindowSet != want {
			t.Errorf("%q: set is %v, %v", text, c != nil && c.LateWindowSet, err)
		}
	}
	check("", false)
	check("storage: {tsdb: {retention: {time: 1d}}}\n", false)
	check("storage: {tsdb: {out_of_order_time_window: 0s}}\n", true)
	check("storage: {tsdb: {out_of_order_time_window: 1h}}\n", true)
}
