// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// downStore makes a data path with a day of a series that is 0 from 10 to 11 o'clock.
func downStore(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	refs := make([]sample.Ref, 1)
	if err := db.Resolve([]labels.Labels{labels.FromStrings("__name__", "up", "instance", "a")}, refs); err != nil {
		t.Fatal(err)
	}
	var b sample.Batch
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for minute := range 24 * 60 {
		up := 1.0
		if minute/60 == 10 {
			up = 0
		}
		b.AppendFloat(refs[0], 0, day.Add(time.Duration(minute)*time.Minute).UnixMilli(), up, 0)
	}
	if _, err := db.Commit(t.Context(), &b, &sample.Result{}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func ruleFile(t *testing.T, hold string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rules.yml")
	text := "groups: [{name: g, rules: [{alert: Down, expr: up == 0, for: " + hold + "}, {record: down, expr: count(up == 0)}]}]"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRulesAreBacktestedOverADataPath(t *testing.T) {
	data := downStore(t)
	check := func(what string, code int, want []string, args ...string) {
		t.Helper()
		var out bytes.Buffer
		if got := run(t.Context(), append([]string{"rules", "backtest"}, args...), &out, &out); got != code {
			t.Errorf("%s: exit code %d, want %d\n%s", what, got, code, &out)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: %q is missing in\n%s", what, w, &out)
			}
		}
	}
	day := []string{"--data=" + data, "--from=2026-03-01T00:00:00Z", "--to=2026-03-01T23:59:00Z"}
	check("one", exitDone, []string{
		"Down (group g): 1439 evaluations, fired 1 times, 2 notifications", "pending 2026-03-01T10:0", "fires 2026-03-01T10:3", "ends 2026-03-01T11:0",
		`{alertname="Down", instance="a"}`, "down (group g): 1439 evaluations, 60 samples", "100 %",
	}, append(day, ruleFile(t, "30m"))...)
	check("two", exitDone, []string{"+ pending 2026-03-01T10:0"}, append(day, "--against="+ruleFile(t, "2h"), ruleFile(t, "30m"))...)
	check("other times", exitDone, []string{"~ pending 2026-03-01T10:0"}, append(day, "--against="+ruleFile(t, "10m"), ruleFile(t, "30m"))...)
	check("the same", exitDone, []string{"Both versions fire at the same times"}, append(day, "--against="+ruleFile(t, "10m"), ruleFile(t, "10m"))...)
	check("JSON", exitDone, []string{`"firings":1`}, append(day, "--json", ruleFile(t, "30m"))...)
	check("no rules", exitFailed, []string{"no such file"}, append(day, "none.yml")...)
	check("no time", exitFailed, []string{"--from"}, "--from=yesterday", ruleFile(t, "1m"))
}

func TestAServersBacktestIsShown(t *testing.T) {
	check := func(what, answer string, code int, want string) {
		t.Helper()
		asked := ""
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			asked = r.Method + " " + r.URL.Path + " " + string(body)
			_, _ = io.WriteString(w, answer)
		}))
		defer s.Close()
		var out bytes.Buffer
		if got := run(t.Context(), []string{"rules", "backtest", "--url=" + s.URL + "/prefix/", "--to=2026-03-01T00:00:00Z", ruleFile(t, "1m")}, &out, &out); got != code {
			t.Errorf("%s: exit code %d, want %d", what, got, code)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q is missing in\n%s", what, want, &out)
		}
		if !strings.HasPrefix(asked, "POST /prefix/api/v1/rules/backtest {") || !strings.Contains(asked, `"start":"2026-02-28T00:00:00Z"`) {
			t.Errorf("%s: asked %s", what, asked)
		}
	}
	report := `{"status":"success","data":{"report":{"start":"2026-02-28T00:00:00Z","end":"2026-03-01T00:00:00Z","rules":[{"name":"Down","group":"g","type":"alerting","evaluations":9,"failures":3,"lastError":"oh"}]}}}`
	check("a report", "{\"progress\":0.5}\n"+report+"\n", exitDone, "Down (group g): 9 evaluations, 3 FAILED, last: oh, fired 0 times")
	check("progress", "{\"progress\":0.5}\n"+report+"\n", exitDone, " 50 %")
	check("an error", `{"status":"error","error":"rules: nonsense"}`, exitFailed, "rules: nonsense")
	check("no end", "{\"progress\":0.5}\n", exitFailed, "ends before")
	check("another server", "<html>", exitFailed, "not the answer of a Tidemark")
}
