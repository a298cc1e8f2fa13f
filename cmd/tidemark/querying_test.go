// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCommandsAboutQueriesAnswerAsTheDocumentsShow runs every command of docs/querying.md against a server that scrapes
// itself and compares what it prints with what is shown below it: JSON by its keys and types, text but for its numbers.
func TestCommandsAboutQueriesAnswerAsTheDocumentsShow(t *testing.T) {
	s := newInstance(t, "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: tidemark\n    static_configs: [{targets: [$ADDR]}]\n",
		"--enable-feature=promql-experimental-functions")
	s.start(t)
	const data = `sum by (job) (rate(prometheus_http_requests_total[5m])) and on () (up == 1)`
	eventually(t, 20*time.Second, "data of the server itself", func() error {
		got, err := instant(s.url(""), data, time.Now())
		if err == nil && len(got) == 0 {
			err = errors.New("none")
		}
		return err
	})
	id, ended := endless(t, s)
	ran := 0
	var shown, got string
	for _, x := range snippets(t) {
		switch {
		case x.file != "querying.md":
		case x.language == "sh":
			ran++
			shown = strings.NewReplacer("127.0.0.1:9090", s.addr, "id=17", "id="+id).Replace(x.text)
			out, err := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", shown).CombinedOutput()
			if err != nil {
				t.Errorf("%s\n%v: %s", shown, err, out)
			}
			got = string(out)
		case got == "":
			t.Errorf("nothing is run that prints\n%s", x.text)
		default:
			if diff := unlike(x, got); diff != "" {
				t.Errorf("%s\nprints something else than is shown: %s\n%s", shown, diff, got)
			}
			got = ""
		}
	}
	if ran < 6 {
		t.Errorf("%d commands found: the document is not read", ran)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("the query that was to be canceled: %v", err)
	}
}

// endless asks a query that does not end by itself while the test runs, and returns its ID.
func endless(t *testing.T, s *instance) (id string, ended <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		const text = `max_over_time(double_exponential_smoothing(vector(time())[2d:1s], 0.5, 0.5)[2d:1s])`
		var data any
		done <- get(s.url("/api/v1/query?query="+url.QueryEscape(text)), &data)
	}()
	eventually(t, 10*time.Second, "a query that is listed", func() error {
		var active []struct{ ID, State string }
		if err := get(s.url("/api/v1/status/active_queries"), &active); err != nil {
			return err
		}
		if len(active) != 1 || active[0].State != "running" {
			return fmt.Errorf("listed is %v", active)
		}
		id = active[0].ID
		return nil
	})
	return id, done
}

var figure = regexp.MustCompile(`[0-9]+(\.[0-9]+)?(ns|µs|ms|s)?`)

// unlike says how an output differs from the one shown.
func unlike(shown snippet, got string) string {
	if shown.language != "json" {
		want, got := figure.ReplaceAllString(shown.text, "0"), figure.ReplaceAllString(got, "0")
		if want == got {
			return ""
		}
		return "but for numbers it should be\n" + shown.text
	}
	var w, g any
	if err := json.Unmarshal([]byte(shown.text), &w); err != nil {
		return fmt.Sprintf("what is shown is no JSON: %v", err)
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		return fmt.Sprintf("what is printed is no JSON: %v", err)
	}
	return unlikeJSON("", w, g)
}

// unlikeJSON compares keys and types. Each element of a list that is shown is to be like one of those there are.
func unlikeJSON(at string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if wk, gk := slices.Sorted(maps.Keys(w)), slices.Sorted(maps.Keys(g)); !ok || !slices.Equal(wk, gk) {
			return fmt.Sprintf("at %s the keys are %q, shown are %q", at, gk, wk)
		}
		for k := range w {
			if d := unlikeJSON(at+"."+k, w[k], g[k]); d != "" {
				return d
			}
		}
	case []any:
		g, _ := got.([]any)
		for i, x := range w {
			nearest := fmt.Sprintf("at %s there is nothing", at)
			if !slices.ContainsFunc(g, func(y any) bool {
				nearest = unlikeJSON(fmt.Sprintf("%s[%d]", at, i), x, y)
				return nearest == ""
			}) {
				return nearest
			}
		}
	default:
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) {
			return fmt.Sprintf("at %s is %v, shown is %v", at, got, want)
		}
	}
	return ""
}
