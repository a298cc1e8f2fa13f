// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/web/api"
)

// federated is a federation handler whose clock stands at 1000 s.
func federated(t *testing.T, store *columntest.Store, external labels.Labels) http.Handler {
	t.Helper()
	return &federation{
		server: newServer(t, Options{}), now: func() time.Time { return time.Unix(1000, 0) },
		src: api.Sources{Data: store, ExternalLabels: func() labels.Labels { return external }},
	}
}

func federate(t *testing.T, h http.Handler, args, accept string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/federate?"+args, nil)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func federationStore() *columntest.Store {
	store := &columntest.Store{}
	add := func(t int64, v float64, ls ...string) {
		store.Append(labels.FromStrings(ls...), columntest.Sample{T: t * 1000, V: v})
	}
	add(980, 1, "__name__", "b_metric", "job", "x")
	add(995, 2, "__name__", "b_metric", "job", "x")
	add(990, 3, "__name__", "b_metric", "job", "y", "instance", "h:1", "cluster", "own")
	add(699, 4, "__name__", "b_metric", "job", "older than the lookback")
	add(1001, 5, "__name__", "b_metric", "job", "in the future")
	add(980, 6, "__name__", "b_metric", "job", "stale")
	add(990, math.Float64frombits(value.StaleNaN), "__name__", "b_metric", "job", "stale")
	add(1000, math.Inf(1), "__name__", "a_metric")
	add(1000, 7, "job", "nameless")
	return store
}

func TestFederationGivesTheNewestSamples(t *testing.T) {
	check := func(args string, external labels.Labels, want ...string) {
		t.Helper()
		rec := federate(t, federated(t, federationStore(), external), args, "")
		got := strings.TrimSuffix(rec.Body.String(), "\n")
		if rec.Code != 200 || got != strings.Join(want, "\n") {
			t.Errorf("%s: %d\n%s", args, rec.Code, cmp.Diff(strings.Join(want, "\n"), got))
		}
	}
	none := labels.EmptyLabels()
	check("", none, "")
	check("match[]=nothing", none, "")
	check("match[]=b_metric", none, "# TYPE b_metric untyped",
		`b_metric{cluster="own",instance="h:1",job="y"} 3 990000`, `b_metric{job="x",instance=""} 2 995000`)
	check("match[]=b_metric{job='x'}&match[]=b_metric{job='x'}", none, "# TYPE b_metric untyped", `b_metric{job="x",instance=""} 2 995000`)
	check("match[]={job=~'x|nameless'}&match[]=a_metric", none, "# TYPE a_metric untyped", `a_metric{instance=""} +Inf 1000000`,
		"# TYPE b_metric untyped", `b_metric{job="x",instance=""} 2 995000`)
	check("match[]=b_metric", labels.FromStrings("cluster", "eu", "zone", "1"), "# TYPE b_metric untyped",
		`b_metric{cluster="own",instance="h:1",job="y",zone="1"} 3 990000`, `b_metric{job="x",cluster="eu",instance="",zone="1"} 2 995000`)
	check("match[]=a_metric", labels.FromStrings("instance", "me"), "# TYPE a_metric untyped", `a_metric{instance="me"} +Inf 1000000`)
}

func TestFederationRefusesWhatItCannotRead(t *testing.T) {
	store := federationStore()
	if rec := federate(t, federated(t, store, labels.EmptyLabels()), "match[]=(", ""); rec.Code != 400 {
		t.Errorf("broken selector: %d", rec.Code)
	}
	store.ScanErr = errors.New("bad checksum")
	if rec := federate(t, federated(t, store, labels.EmptyLabels()), "match[]=b_metric", ""); rec.Code != 500 || !strings.Contains(rec.Body.String(), "bad checksum") {
		t.Errorf("failing store: %d %s", rec.Code, rec.Body)
	}
	store.ScanErr = &sample.UnavailableError{Condition: "restoring"}
	if rec := federate(t, federated(t, store, labels.EmptyLabels()), "match[]=b_metric", ""); rec.Code != 503 {
		t.Errorf("restoring store: %d", rec.Code)
	}
	if n := store.OpenViews(); n != 0 {
		t.Errorf("%d views are open", n)
	}
}

// scrape reads protobuf as a scrape does, and returns the histograms by series.
func scrapeHistograms(t *testing.T, body []byte) map[string]*histogram.FloatHistogram {
	t.Helper()
	out := map[string]*histogram.FloatHistogram{}
	p, err := textparse.New(body, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
		labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if entry != textparse.EntryHistogram {
			continue
		}
		_, _, h, fh := p.Histogram()
		if h != nil {
			fh = h.ToFloat(nil)
		}
		var ls labels.Labels
		p.Labels(&ls)
		out[ls.Get(model.MetricNameLabel)] = fh
	}
}

func TestFederationGivesNativeHistogramsInProtobuf(t *testing.T) {
	store := &columntest.Store{}
	counter, gauge, custom := tsdbutil.GenerateTestHistogram(3), tsdbutil.GenerateTestFloatHistogram(4), tsdbutil.GenerateTestCustomBucketsHistogram(5)
	gauge.CounterResetHint = histogram.GaugeType
	store.Append(labels.FromStrings("__name__", "counter"), columntest.Sample{T: 990_000, H: counter})
	store.Append(labels.FromStrings("__name__", "gauge"), columntest.Sample{T: 990_000, FH: gauge})
	store.Append(labels.FromStrings("__name__", "custom"), columntest.Sample{T: 990_000, H: custom})
	h := federated(t, store, labels.EmptyLabels())
	const all = "match[]={__name__=~'.%2b'}"
	rec := federate(t, h, all, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	got := scrapeHistograms(t, rec.Body.Bytes())
	if f := got["counter"]; f == nil || !f.Equals(counter.ToFloat(nil)) {
		t.Errorf("counter histogram %v, want %v", f, counter)
	}
	if f := got["gauge"]; f == nil || !f.Equals(gauge) || f.CounterResetHint != histogram.GaugeType {
		t.Errorf("gauge histogram %v, want %v", f, gauge)
	}
	text := federate(t, h, all, "").Body.Bytes()
	if bytes.Contains(text, []byte("gauge")) || bytes.Contains(text, []byte("counter")) {
		t.Errorf("text has native histograms:\n%s", text)
	}
	want := strings.Join([]string{
		"# TYPE custom histogram", `custom_bucket{instance="",le="0"} 6 990000`, `custom_bucket{instance="",le="1"} 13 990000`,
		`custom_bucket{instance="",le="2"} 13 990000`, `custom_bucket{instance="",le="3"} 19 990000`, `custom_bucket{instance="",le="4"} 25 990000`,
		`custom_bucket{instance="",le="+Inf"} 25 990000`, `custom_sum{instance=""} 110.39999999999999 990000`, `custom_count{instance=""} 25 990000`,
	}, "\n")
	if got := strings.TrimSuffix(string(text), "\n"); got != want {
		t.Errorf("custom buckets in text:\n%s", text)
	}
}
