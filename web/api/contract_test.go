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
	"gopkg.in/yaml.v3"
)

// reply is what a client sees of an answer.
type reply struct {
	Status      int
	ContentType string
	Body        any
}

func ask(t *testing.T, h http.Handler, method, target, form string) reply {
	t.Helper()
	req := httptest.NewRequest(method, target, strings.NewReader(form))
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	r := reply{Status: rec.Code, ContentType: rec.Header().Get("Content-Type")}
	if rec.Body.Len() == 0 {
		return r
	}
	dec := json.NewDecoder(rec.Body)
	dec.UseNumber() // Numbers must be printed alike.
	if err := dec.Decode(&r.Body); err != nil {
		t.Fatalf("%s %s: answer is no JSON: %v", method, target, err)
	}
	return r
}

// strip removes what differs from run to run.
func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"timings", "tidemark", "droppedBy"} {
			delete(v, key)
		}
		for k := range v {
			v[k] = strip(v[k])
		}
		if text, ok := v["yaml"].(string); ok {
			var parsed any
			if err := yaml.Unmarshal([]byte(text), &parsed); err == nil {
				v["yaml"] = parsed // Indentation is no matter.
			}
		}
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
	}
	return v
}

// contract lists requests whose answers must be those of Prometheus in every byte that a client reads.
var contract = []string{
	"query?query=requests_total", "query?query=requests_total&time=300", "query?query=requests_total&time=300.123",
	"query?query=requests_total&time=1970-01-01T00:05:00Z", "query?query=requests_total&time=-1", "query?query=vector(1)&time=-1.5",
	"query?query=1", "query?query=1e-9", "query?query=1e30", "query?query=-0", "query?query=NaN", "query?query=Inf", "query?query=-Inf",
	"query?query=vector(1e-9)", "query?query=vector(1e21)", "query?query=vector(123456789012345678)", "query?query=vector(0.1)",
	"query?query=vector(-0)", "query?query=vector(NaN)", "query?query=vector(-Inf)", "query?query=%22text%20%3C%22&time=1.001",
	"query?query=requests_total[1m]&time=600", "query?query=latency", "query?query=latency[1m]", "query?query=latency_float",
	"query?query=latency_custom", "query?query=rate(latency[5m])", "query?query=odd", "query?query=nothing", "query?query=nothing[5m]",
	"query?query=rate(latency_custom[5m])", "query?query=histogram_quantile(0.9,latency)", "query?query=sum(requests_total)%20by%20(job)",
	"query?query=rate(requests_total[1m])", "query?query=requests_total&limit=2", "query?query=requests_total&limit=6",
	"query?query=requests_total&limit=0", "query?query=requests_total&limit=-1", "query?query=requests_total&limit=x",
	"query?query=requests_total&stats=true", "query?query=requests_total&stats=all", "query?query=requests_total&stats=yes",
	"query?query=requests_total&lookback_delta=1s&time=301", "query?query=requests_total&lookback_delta=x", "query?query=requests_total&timeout=x",
	"query?query=requests_total&timeout=10s", "query?query=requests_total&timeout=0", "query?query=requests_total&timeout=99999999999999999999",
	"query?query=requests_total&time=x", "query", "query?query=", "query?query=sum(", "query?query=a%20b",
	"query?query=requests_total{job=~%22(%22}", "query?query=%22", "query?query=foo%00", "query?query=label_replace(requests_total,%22job%22,%22x%22,%22%22,%22%22)%2Bon()%20odd",
	"query?query=requests_total%20/%20on(job)%20requests_total", "query?query=abs(%22a%22)", "query?query=quantile(2,requests_total)",
	"query?query=-{__name__=~%22.%2b%22}", "query?query=requests_total%20and%201", "query?query=info(requests_total)",
	"query?query=requests_total&time=-292273086-05-16T16:47:06Z", "query?query=vector(1)&time=292277025-08-18T07:12:54.999999999Z",

	"query_range?query=requests_total&start=0&end=600&step=60", "query_range?query=requests_total&start=0&end=600&step=1m",
	"query_range?query=requests_total&start=0.5&end=600&step=7.25", "query_range?query=latency&start=0&end=60&step=15",
	"query_range?query=1&start=0&end=60&step=30", "query_range?query=time()&start=-60&end=60&step=30.5", "query_range?query=nothing&start=0&end=60&step=30",
	"query_range?query=requests_total&start=0&end=60&step=30&limit=3", "query_range?query=requests_total&start=0&end=60&step=30&stats=all",
	"query_range?query=latency%20or%20requests_total&start=0&end=60&step=30", "query_range?query=%22x%22&start=0&end=60&step=30",
	"query_range?query=requests_total[1m]&start=0&end=60&step=30", "query_range?query=requests_total&start=60&end=0&step=30",
	"query_range?query=requests_total&start=0&end=60&step=0", "query_range?query=requests_total&start=0&end=60&step=-1",
	"query_range?query=requests_total&start=0&end=60&step=x", "query_range?query=requests_total&start=0&end=60", "query_range?query=requests_total&start=0&step=5",
	"query_range?query=requests_total&end=0&step=5", "query_range?query=requests_total&start=x&end=1&step=5", "query_range?query=requests_total&start=0&end=11001&step=1",
	"query_range?query=requests_total&start=0&end=11000&step=1", "query_range?query=requests_total&start=0&end=60&step=1ms&timeout=x",
	"query_range?query=requests_total&start=0&end=60&step=99999999999999999999", "query_range?query=sum(&start=0&end=60&step=1",
	"query_range?query=requests_total&start=0&end=60&step=30&limit=a", "query_range?query=requests_total&start=0&end=60&step=30&lookback_delta=a",
	"query_range?query=rate(requests_total[30s])&start=0&end=100&step=10", "query_range?query=rate(odd[2m])%2Blatency&start=0&end=100&step=10",

	"query_exemplars?query=requests_total", "query_exemplars?query=rate(requests_total{job=%22db%22}[5m])", "query_exemplars?query=1",
	"query_exemplars?query=requests_total&start=40&end=50", "query_exemplars?query=requests_total&start=50&end=40", "query_exemplars?query=",
	"query_exemplars?query=a(", "query_exemplars?query=requests_total&start=x", "query_exemplars?query=requests_total&end=x",

	"labels", "labels?start=0&end=600", "labels?match[]=odd", "labels?match[]=odd&match[]=latency", "labels?limit=1", "labels?limit=2&match[]=requests_total",
	"labels?limit=x", "labels?match[]={}", "labels?match[]=", "labels?match[]=a(", "labels?start=x", "labels?end=x", "labels?match[]={job=~%22.*%22}",
	"labels?match[]=nothing", "labels?limit=-5",
	"label/job/values", "label/__name__/values", "label/none/values", "label/job/values?match[]=odd", "label/instance/values?match[]=requests_total{job=%22api%22}",
	"label/instance/values?match[]=requests_total{job=%22api%22}&match[]=odd", "label/job/values?limit=1", "label/job/values?limit=2", "label/job/values?limit=x",
	"label/U__my_2e_label/values", "label/my.label/values", "label/quoted/values", "label/job/values?match[]={}", "label/job/values?start=x",
	"label/job/values?end=x", "label/job/values?match[]=(", "label/%FF/values", "label/job/values?start=1&end=0",
	"series?match[]=requests_total", "series", "series?match[]={}", "series?match[]=requests_total&match[]=odd", "series?match[]=requests_total&match[]=requests_total{job=%22db%22}",
	"series?match[]=requests_total&limit=2", "series?match[]=requests_total&limit=6", "series?match[]=requests_total&limit=x", "series?match[]=requests_total&start=x",
	"series?match[]=requests_total&end=x", "series?match[]=(", "series?match[]=nothing", "series?match[]={__name__=~%22lat.*%22}", "series?match[]=odd&start=0&end=10",
	"series?match[]={job=~%22a.*%22,instance!=%220%22}", "series?match[]=requests_total&start=-292273086-05-16T16:47:06Z",

	"metadata", "metadata?metric=requests_total", "metadata?metric=none", "metadata?limit=0", "metadata?limit=1", "metadata?limit=x", "metadata?limit_per_metric=1",
	"metadata?limit_per_metric=x",
	"targets", "targets?state=active", "targets?state=dropped", "targets?state=ANY", "targets?state=other", "targets?scrapePool=alpha", "targets?scrapePool=none",
	"targets/metadata?match_target={job=%22none%22}", "targets/metadata?match_target=(", "targets/metadata?limit=x", "targets/metadata?limit=0",
	"targets/metadata?metric=none",
	"targets/relabel_steps", "targets/relabel_steps?scrapePool=alpha", "targets/relabel_steps?scrapePool=alpha&labels=x", "targets/relabel_steps?scrapePool=none&labels={}",
	"targets/relabel_steps?scrapePool=alpha&labels={%22job%22:%22a%22}", "targets/relabel_steps?scrapePool=alpha&labels={%22job%22:%22gone%22}",
	"scrape_pools", "scrape_pools/config", "scrape_pools/config?scrapePool=alpha", "scrape_pools/config?scrapePool=none", "alertmanagers",
	"rules", "rules?type=alert", "rules?type=record", "rules?type=RECORD", "rules?type=x", "rules?rule_name[]=Hot", "rules?rule_group[]=second", "rules?file[]=b.yml",
	"rules?rule_name[]=none", "rules?match[]={severity=%22Hot%22}", "rules?match[]={severity=%22none%22}", "rules?match[]={}", "rules?match[]=(",
	"rules?exclude_alerts=true", "rules?exclude_alerts=x", "rules?group_limit=1", "rules?group_limit=2", "rules?group_limit=3", "rules?group_limit=0", "rules?group_limit=x",
	"rules?group_next_token=abc", "rules?group_limit=1&group_next_token=abc", "rules?group_limit=1&group_next_token=" + groupTokenOf("a.yml", "second"),
	"rules?group_limit=1&group_next_token=" + groupTokenOf("b.yml", "third"), "alerts",

	"format_query?query=sum(rate(requests_total[5m]))by(job)", "format_query?query=(", "format_query",
	"parse_query?query=(", "parse_query?query=1", "parse_query?query=5m", "parse_query?query=-(a%2Bb)", "parse_query?query=sum%20by(x)(rate(a{b=~%22c%22}[5m]%20offset%201m))",
	"parse_query?query=a%20/%20on(x)%20group_left(y)%20b", "parse_query?query=max_over_time(a[1h:5m]%20@%20end())", "parse_query?query=topk(3,a)", "parse_query?query=%22s%22",
	"parse_query?query=a[step()*2]", "parse_query?query=a[(5m)]", "parse_query?query=a%20offset%20-(5m*2)", "parse_query?query=a%20@%20123.4", "parse_query?query=a%20==%20bool%201",
	"parse_query?query=sum_over_time(a[5m*2:step()])", "parse_query?query=label_replace(a,%22b%22,%22c%22,%22d%22,%22e%22)",

	"status/config", "status/flags", "status/buildinfo", "status/walreplay", "status/tsdb", "status/tsdb?limit=5", "status/tsdb?limit=0", "status/tsdb?limit=x",
	"status/tsdb?limit=10001", "status/tsdb?limit=7", "status/tsdb/blocks", "features", "notifications",
}

func groupTokenOf(file, name string) string {
	return groupToken(groupNamed(file, name))
}

func TestAnswersAreThoseOfPrometheus(t *testing.T) {
	p := newPair(t)
	compare := func(method, path, form string) {
		t.Helper()
		want, got := ask(t, p.theirs, method, path, form), ask(t, p.ours, method, path, form)
		want.Body, got.Body = strip(want.Body), strip(got.Body)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s %s\n(-Prometheus +ours):\n%s", method, path, form, diff)
		}
	}
	for _, c := range contract {
		if strings.HasPrefix(c, "query?") && !strings.Contains(c, "time=") {
			c += "&time=600" // Prometheus' handler cannot be told what time it is.
		}
		path, args, _ := strings.Cut(c, "?")
		compare(http.MethodGet, "/api/v1/"+c, "")
		switch path {
		case "query", "query_range", "query_exemplars", "labels", "series", "format_query", "parse_query":
			compare(http.MethodPost, "/api/v1/"+path, args)
		}
	}
	if n := p.store.OpenViews(); n != 0 {
		t.Errorf("%d views of the store are left open", n)
	}
}

func TestAdminAnswersAreThoseOfPrometheus(t *testing.T) {
	p := newPair(t)
	compare := func(method, path string) {
		t.Helper()
		want, got := ask(t, p.theirs, method, "/api/v1/admin/tsdb/"+path, ""), ask(t, p.ours, method, "/api/v1/admin/tsdb/"+path, "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s (-Prometheus +ours):\n%s", method, path, diff)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		compare(method, "delete_series")
		compare(method, "delete_series?match[]=up")
		compare(method, "delete_series?match[]=(")
		compare(method, "delete_series?match[]=up&start=x")
		compare(method, "delete_series?match[]=up&end=x")
		compare(method, "clean_tombstones")
		compare(method, "snapshot?skip_head=x")
	}
}

func TestDeleteTakesItsRangeAndSelectors(t *testing.T) {
	p := newPair(t)
	ask(t, p.ours, http.MethodPost, "/api/v1/admin/tsdb/delete_series", url.Values{"match[]": {`up{job="a"}`}, "start": {"1"}, "end": {"2.5"}}.Encode())
	if diff := cmp.Diff([]string{`job="a"`, `__name__="up"`}, p.admin.deleted); diff != "" || p.admin.from != 1000 || p.admin.to != 2500 {
		t.Fatalf("deleted %v in [%d, %d]", p.admin.deleted, p.admin.from, p.admin.to)
	}
}
