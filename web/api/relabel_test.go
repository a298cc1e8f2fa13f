// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// answerTo is the data of a successful answer, taken apart.
func answerTo(t *testing.T, h http.Handler, method, path string, form url.Values) any {
	t.Helper()
	target, body := "/api/v1/"+path, ""
	if method == http.MethodGet {
		target += "?" + form.Encode()
	} else {
		body = form.Encode()
	}
	r := ask(t, h, method, target, body)
	m, _ := r.Body.(map[string]any)
	if r.Status != http.StatusOK || m["status"] != "success" {
		t.Fatalf("%s %s: %d %v", method, path, r.Status, r.Body)
	}
	return m["data"]
}

func TestDroppedTargetsNameTheRuleThatDroppedThem(t *testing.T) {
	h := newPair(t).ours
	list := answerTo(t, h, http.MethodGet, "targets", url.Values{"state": {"dropped"}}).(map[string]any)["droppedTargets"].([]any)
	got := map[string]string{}
	for _, target := range list {
		m := target.(map[string]any)
		text, err := json.Marshal(m["droppedBy"])
		if err != nil {
			t.Fatal(err)
		}
		got[m["scrapePool"].(string)+" "+m["discoveredLabels"].(map[string]any)["extra"].(string)+" "+job(m)] = string(text)
	}
	want := map[string]string{
		"alpha 1 gone": `{"index":1,"rule":{"action":"drop","regex":"gone","source_labels":["job"]}}`,
		"alpha 1 ":     "null", // no rule of today's drops it
		"zeta 1 ":      "null", // its pool is gone
	}
	for k, v := range want {
		var a, b any
		_ = json.Unmarshal([]byte(got[k]), &a)
		_ = json.Unmarshal([]byte(v), &b)
		if m, ok := a.(map[string]any); ok { // what a rule leaves at its default is Prometheus' matter
			rule := m["rule"].(map[string]any)
			for field := range rule {
				if !strings.Contains(v, field) {
					delete(rule, field)
				}
			}
		}
		if diff := cmp.Diff(b, a); diff != "" {
			t.Errorf("%s (-want +got):\n%s", k, diff)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d dropped targets: %v", len(got), got)
	}
}

func job(target map[string]any) string {
	s, _ := target["discoveredLabels"].(map[string]any)["job"].(string)
	return s
}

// flow is what metric relabelling did to one series: kept or not, error, and the labels after each rule.
func flow(t *testing.T, series any) []string {
	t.Helper()
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	m := series.(map[string]any)
	out := []string{text(m["keep"]) + text(m["error"]), text(m["input"])}
	before := text(m["input"])
	for _, s := range m["steps"].([]any) {
		s := s.(map[string]any)
		if text(s["input"]) != before || s["rule"] == nil {
			t.Errorf("a step begins with %v, the last ended with %s", s["input"], before)
		}
		before = text(s["output"])
		out = append(out, before)
	}
	if text(m["output"]) != before {
		t.Errorf("the output is %v, that of the last step %s", m["output"], before)
	}
	return out
}

func TestMetricRelabellingIsShownRuleByRule(t *testing.T) {
	h := newPair(t).ours
	check := func(form url.Values, want ...[]string) {
		t.Helper()
		form.Set("scrapePool", "alpha")
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			list := answerTo(t, h, method, "targets/metric_relabel_steps", form).(map[string]any)["series"].([]any)
			var got [][]string
			for _, series := range list {
				got = append(got, flow(t, series))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %v (-want +got):\n%s", method, form, diff)
			}
		}
	}
	up := []string{`truenull`, `{"__name__":"up","job":"a","pod_id":"7"}`, `{"__name__":"up","job":"a"}`, `{"__name__":"up","job":"a"}`, `{"__name__":"up","job":"a"}`}
	check(url.Values{"labels": {`{"__name__":"up","pod_id":"7","job":"a"}`}}, up)
	check(url.Values{"series[]": {`up{pod_id="7",job="a"}`}}, up)
	dropped := []string{`falsenull`, `{"__name__":"go_threads"}`, `{"__name__":"go_threads"}`, `{}`, `{}`}
	check(url.Values{"series[]": {`go_threads`, `{"up", job="a", pod_id="7"}`}}, dropped, up)
	nameless := `{"rename":"nothing"}`
	check(url.Values{"series[]": {`up{rename="nothing"}`}},
		[]string{`true"missing metric name (__name__ label)"`, `{"__name__":"up","rename":"nothing"}`, `{"__name__":"up","rename":"nothing"}`, `{"__name__":"up","rename":"nothing"}`, nameless})
	check(url.Values{"labels": {`{"pod_id":"7"}`}}, []string{`falsenull`, `{"pod_id":"7"}`, `{}`, `{}`, `{}`})
}

func TestBadRequestsForMetricRelabellingAreRefused(t *testing.T) {
	h := newPair(t).ours
	check := func(form url.Values, reason string) {
		t.Helper()
		rec := do(h, httptest.NewRequest(http.MethodGet, "/api/v1/targets/metric_relabel_steps?"+form.Encode(), nil))
		if rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), reason) {
			t.Errorf("%v: %d %s, want %q", form, rec.Code, rec.Body, reason)
		}
	}
	check(url.Values{"series[]": {"up"}}, "no scrapePool parameter")
	check(url.Values{"scrapePool": {"none"}, "series[]": {"up"}}, "not found")
	check(url.Values{"scrapePool": {"alpha"}}, "no labels and no series[] parameter")
	check(url.Values{"scrapePool": {"alpha"}, "labels": {"x"}}, "error parsing labels")
	check(url.Values{"scrapePool": {"alpha"}, "series[]": {"up{"}}, "error parsing series")
	check(url.Values{"scrapePool": {"alpha"}, "series[]": make([]string, 1001)}, "more than the 1000")
}
