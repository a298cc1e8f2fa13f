// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// halting is a store of which selecting series waits until it is told to go on, or the query ends.
type halting struct {
	*columntest.Store

	reached, goOn chan struct{}
}

func (h *halting) View(mint, maxt int64) (column.View, error) {
	v, err := h.Store.View(mint, maxt)
	return haltingView{v, h}, err
}

type haltingView struct {
	column.View
	halting *halting
}

func (v haltingView) Series(ctx context.Context, ms []*labels.Matcher, h column.Hint) (*column.SeriesSet, error) {
	v.halting.reached <- struct{}{}
	select {
	case <-v.halting.goOn:
		return v.View.Series(ctx, ms, h)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve returns the API over an engine.
func serve(t *testing.T, e promql.QueryEngine, src column.Source, queries Queries) http.Handler {
	t.Helper()
	a, err := New(Sources{Engine: e, Data: src, Queries: queries}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a.now = func() time.Time { return time.Now().Add(time.Second) }
	r := mux.NewRouter()
	a.Register(r.PathPrefix("/api/v1").Subrouter(), nil)
	return r
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	return do(h, httptest.NewRequest(http.MethodGet, "/api/v1/"+path, nil))
}

// entries are those of a list.
func entries(t *testing.T, rec *httptest.ResponseRecorder) (out []map[string]any) {
	t.Helper()
	var body struct{ Data []map[string]any }
	if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil || rec.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
	}
	return body.Data
}

func TestActiveQueriesAreListedAndCanceled(t *testing.T) {
	src := &halting{&columntest.Store{}, make(chan struct{}, 10), make(chan struct{})}
	src.Append(labels.FromStrings("__name__", "m"), columntest.Sample{T: 600_000, V: 1})
	e := query.NewEngine(src, query.Options{MaxConcurrency: 1})
	h := serve(t, e, src, e)
	if got := entries(t, get(h, "status/active_queries")); len(got) != 0 {
		t.Errorf("before any query: %v", got)
	}
	answers := make(chan *httptest.ResponseRecorder, 2)
	go func() { answers <- get(h, "query_range?query=m&start=600&end=660&step=30") }()
	<-src.reached
	go func() { answers <- get(h, "query?query=sum(m)&time=600") }()
	var all []map[string]any
	for range 500 {
		if all = entries(t, get(h, "status/active_queries")); len(all) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(all) != 2 {
		t.Fatalf("listed %v", all)
	}
	first, second := all[0], all[1]
	check := func(entry map[string]any, key string, want any) {
		t.Helper()
		if entry[key] != want {
			t.Errorf("%s is %v, want %v", key, entry[key], want)
		}
	}
	check(first, "query", "m")
	check(first, "state", "running")
	check(first, "source", "api")
	check(first, "stepSeconds", 30.0)
	check(first, "start", "1970-01-01T00:10:00Z")
	check(first, "end", "1970-01-01T00:11:00Z")
	check(second, "query", "sum(m)")
	check(second, "state", "queued")
	if d, _ := first["durationSeconds"].(float64); d < 1 || d > 60 {
		t.Errorf("duration %v", d)
	}
	if origin := fmt.Sprint(first["origin"]); !strings.Contains(origin, "/api/v1/query_range") {
		t.Errorf("origin %s", origin)
	}
	cancel := func(id, site string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPost, "/api/v1/status/active_queries/cancel", strings.NewReader(url.Values{"id": {id}}.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if site != "" {
			req.Header.Set("Sec-Fetch-Site", site)
		}
		return do(h, req)
	}
	id := fmt.Sprint(first["id"])
	if rec := cancel(id, "cross-site"); rec.Code != http.StatusForbidden {
		t.Errorf("a page of another origin: %d %s", rec.Code, rec.Body)
	}
	if rec := get(h, "status/active_queries/cancel?id="+id); rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", rec.Code)
	}
	for id, status := range map[string]int{"12345": 404, "": 400, "x": 400, "-1": 400, "99999999999999999999": 400} {
		if rec := cancel(id, ""); rec.Code != status || !strings.Contains(rec.Body.String(), `"status":"error"`) {
			t.Errorf("id %q: %d %s, want %d", id, rec.Code, rec.Body, status)
		}
	}
	if len(entries(t, get(h, "status/active_queries"))) != 2 {
		t.Error("a request that was refused ended a query")
	}
	for _, entry := range []map[string]any{second, first} {
		id := fmt.Sprint(entry["id"])
		if rec := cancel(id, "same-origin"); rec.Code != 200 || !strings.Contains(rec.Body.String(), `"canceled":"`+id+`"`) {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
		rec := <-answers
		if rec.Code < 400 || !strings.Contains(rec.Body.String(), "canceled by an operator of this server") || !strings.Contains(rec.Body.String(), `"errorType":"canceled"`) {
			t.Errorf("a canceled query: %d %s", rec.Code, rec.Body)
		}
	}
}

func TestTopQueriesAreListed(t *testing.T) {
	store := &columntest.Store{}
	for at := range int64(100) {
		store.Append(labels.FromStrings("__name__", "m"), columntest.Sample{T: at * 1000, V: 1})
	}
	e := query.NewEngine(store, query.Options{})
	h := serve(t, e, store, e)
	for range 3 {
		get(h, "query?query=vector(1)&time=90")
	}
	get(h, "query?query=m[90s]&time=90")
	get(h, "query_range?query=m&start=0&end=90&step=1")
	get(h, "query?query=m%2Bon()m%2Bon()(m%20or%20vector(1))&time=90")
	check := func(params string, n int, first string) []map[string]any {
		t.Helper()
		got := entries(t, get(h, "status/top_queries"+params))
		if len(got) != n || first != "" && got[0]["query"] != first {
			t.Errorf("%s: %v, want %d with %s first", params, got, n, first)
		}
		return got
	}
	check("", 4, "")
	check("?by=time", 4, "")
	check("?by=average", 4, "")
	check("?by=memory", 4, "")
	if top := check("?by=count", 4, "vector(1)"); top[0]["count"] != 3.0 || top[0]["source"] != "api" || top[0]["rangeSeconds"] != 0.0 {
		t.Errorf("%v", top[0])
	}
	if top := check("?by=samples&limit=2", 2, ""); top[0]["samplesRead"].(float64) < 90 {
		t.Errorf("%v", top[0])
	}
	for _, params := range []string{"by=x", "limit=0", "limit=x", "limit=2001", "limit=-1"} {
		if rec := get(h, "status/top_queries?"+params); rec.Code != 400 {
			t.Errorf("%s: %d %s", params, rec.Code, rec.Body)
		}
	}
	bare := serve(t, e, store, nil)
	if got := entries(t, get(bare, "status/top_queries")); len(got) != 0 {
		t.Errorf("without a list: %v", got)
	}
	if rec := do(bare, httptest.NewRequest(http.MethodPost, "/api/v1/status/active_queries/cancel?id=1", nil)); rec.Code != 404 {
		t.Errorf("cancel without a list: %d", rec.Code)
	}
}

// variety is a store of all kinds of values.
func variety() *columntest.Store {
	store := &columntest.Store{}
	for at := range int64(60) {
		for i := range 5 {
			ls := labels.FromStrings("__name__", "m", "i", fmt.Sprint(i), "q", "\"<\\\u00e9\n")
			if (at+int64(i))%7 > 0 {
				store.Append(ls, columntest.Sample{T: at * 10_000, V: float64(at) / float64(i)})
			}
		}
		h := &histogram.Histogram{
			Schema: 1, Count: uint64(6 + 3*at), Sum: float64(at) / 3, ZeroThreshold: 0.01, ZeroCount: uint64(at),
			PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{2, 0, at},
		}
		h.Count = h.ZeroCount + 2 + 2 + uint64(2+at)
		store.Append(labels.FromStrings("__name__", "h"), columntest.Sample{T: at * 10_000, H: h})
		mixed := columntest.Sample{T: at * 10_000, V: 7}
		if at%3 == 0 {
			mixed.H = h
		}
		store.Append(labels.FromStrings("__name__", "mixed"), mixed)
	}
	return store
}

// whole hides that the queries of an engine can hand on rows as they are made.
type whole struct{ promql.QueryEngine }

func (w whole) NewInstantQuery(ctx context.Context, q storage.Queryable, o promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	x, err := w.QueryEngine.NewInstantQuery(ctx, q, o, qs, ts)
	return wholeQuery{x}, err
}

func (w whole) NewRangeQuery(ctx context.Context, q storage.Queryable, o promql.QueryOpts, qs string, start, end time.Time, step time.Duration) (promql.Query, error) {
	x, err := w.QueryEngine.NewRangeQuery(ctx, q, o, qs, start, end, step)
	return wholeQuery{x}, err
}

type wholeQuery struct{ promql.Query }

func TestAnswersThatAreStreamedAreTheSameBytes(t *testing.T) {
	store := variety()
	e := query.NewEngine(store, query.Options{})
	streamed, collected := serve(t, e, store, nil), serve(t, whole{e}, store, nil)
	texts := []string{
		"m", "h", "mixed", "m[1m]", "h[1m]", "mixed[90s]", "1", "-1/0", `"a \" < text"`, "vector(0/0)", "nothing", "nothing[5m]", "time()",
		"sum by (i) (m)", "sort_desc(m)", "topk(2, m)", "rate(h[2m])", "h / 3", "mixed * 2", "rate(mixed[5m])", "m + on (i) m", "m + on () m",
		"max_over_time(m[5m:30s])", "histogram_quantile(0.5, h)", "quantile(2, m)", "label_replace(m, 'i', 'x', '', '')", "(m",
	}
	for _, text := range texts {
		for _, rest := range []string{"", "&limit=2", "&limit=1", "&limit=5", "&limit=100"} {
			for _, path := range []string{"query?time=590&query=", "query?time=-5&query=", "query_range?start=0&end=600&step=45&query=", "query_range?start=5.5&end=9&step=0.125&query="} {
				target := path + url.QueryEscape(text) + rest
				a, b := get(streamed, target), get(collected, target)
				if strings.Contains(rest, "limit") && strings.HasPrefix(path, "query?") && strings.Contains(a.Body.String(), "truncated") && strings.Contains(b.Body.String(), "truncated") {
					continue // which series are left out is not said
				}
				if a.Code != b.Code || a.Body.String() != b.Body.String() || a.Header().Get("Content-Type") != b.Header().Get("Content-Type") {
					t.Errorf("%s: %d %.300s\n  want %d %.300s", target, a.Code, a.Body, b.Code, b.Body)
				}
			}
		}
	}
}

func TestALimitThatIsReachedIsNoFailure(t *testing.T) {
	store := variety()
	e := query.NewEngine(store, query.Options{})
	h := serve(t, e, store, e)
	rec := get(h, "query_range?query=m&start=0&end=600&step=45&limit=2")
	if rec.Code != 200 || strings.Count(rec.Body.String(), `"metric"`) != 2 || !strings.Contains(rec.Body.String(), "truncated") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if top := e.Top(query.TopCount, 1); len(top) != 1 || top[0].Failed != 0 {
		t.Errorf("%+v", top)
	}
}

// A query that fails before much of its answer was sent is answered with its error.
func TestAnErrorBeforeTheFirstByteHasItsStatus(t *testing.T) {
	store := variety()
	store.ScanErr = errors.New("bad checksum")
	e := query.NewEngine(store, query.Options{})
	h := serve(t, e, store, nil)
	for _, path := range []string{"query?query=m&time=590", "query_range?query=m&start=0&end=600&step=45", "query?query=m&time=590&analyze=1"} {
		rec := get(h, path)
		if rec.Code != http.StatusUnprocessableEntity || !json.Valid(rec.Body.Bytes()) || !strings.HasPrefix(rec.Body.String(), `{"status":"error","errorType":"execution"`) {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
}

func TestQueriesAreExplained(t *testing.T) {
	store := variety()
	e := query.NewEngine(store, query.Options{})
	h := serve(t, e, store, nil)
	const ranged = "query_range?query=sum%20by%20(i)%20(max_over_time(m[5m]))&start=0&end=600&step=45"
	check := func(path, contentType string, want ...string) string {
		t.Helper()
		rec := get(h, path)
		if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), contentType) {
			t.Errorf("%s: %d %s %s", path, rec.Code, rec.Header().Get("Content-Type"), rec.Body)
		}
		for _, w := range want {
			if !strings.Contains(rec.Body.String(), w) {
				t.Errorf("%s: %s\n  lacks %s", path, rec.Body, w)
			}
		}
		return rec.Body.String()
	}
	text := check(ranged+"&explain=text", "text/plain", "max_over_time", "m[5m]")
	analyzed := check(ranged+"&analyze=text", "text/plain", "max_over_time", "m[5m]",
		"result cache: 0 steps reused, 14 computed, 0 kept, others not: the result cache is off\n", " samples decoded", "\ntotal ")
	if len(analyzed) <= len(text) {
		t.Errorf("what each operator did:\n%s\nis not more than the plan:\n%s", analyzed, text)
	}
	if body := check(ranged+"&explain=1", "application/json", `"status":"success"`, `"explanation":{`); strings.Contains(body, `"resultType"`) {
		t.Errorf("a query that was to be explained was run: %s", body)
	}
	full := check(ranged+"&analyze=1", "application/json", `"resultType":"matrix"`, `"explanation":{`,
		`"resultCache":{"stepsReused":0,"stepsComputed":14,"stepsOutdated":0,"stepsKept":0,"notKept":"the result cache is off"}`)
	if !json.Valid([]byte(full)) {
		t.Errorf("no JSON: %s", full)
	}
	plain := check(ranged, "application/json")
	if strings.Contains(plain, "explanation") || !strings.HasPrefix(full, strings.TrimSuffix(plain, "}}")) {
		t.Errorf("the answer is another one when it is analyzed: %s\n%s", plain, full)
	}
	check("query?query=m&time=590&explain=json", "application/json", `"explanation":{`)
	check("query?query=m>1%2B1&time=590&explain=1", "application/json", `{"pass":"constants","before":"m \u003e (1 + 1)","after":"m \u003e 2"}`)
	check("query?query=m>1%2B1&time=590&analyze=text&limit=1", "text/plain", "pass constants:\n  m > (1 + 1)\n  m > 2\n")
	check("query?query=m&time=590&explain=0", "application/json", `"resultType":"vector"`)
	for _, path := range []string{"query?query=m&explain=x", "query?query=m&analyze=yes", ranged + "&explain=xml", "query?query=m(&explain=1"} {
		if rec := get(h, path); rec.Code != 400 {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if rec := get(serve(t, whole{e}, store, nil), "query?query=m&explain=1"); rec.Code != 400 {
		t.Errorf("an engine that does not explain: %d %s", rec.Code, rec.Body)
	}
}

// uncached notes which queries are told not to use the cache.
type uncached struct {
	promql.QueryEngine
	told *int
}

func (u uncached) NewInstantQuery(ctx context.Context, q storage.Queryable, o promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	x, err := u.QueryEngine.NewInstantQuery(ctx, q, o, qs, ts)
	return uncachedQuery{x, u.told}, err
}

type uncachedQuery struct {
	promql.Query
	told *int
}

func (q uncachedQuery) NoCache() { *q.told++ }

func TestACacheIsBypassedWhereAskedTo(t *testing.T) {
	store, told := variety(), 0
	h := serve(t, uncached{query.NewEngine(store, query.Options{}), &told}, store, nil)
	for params, want := range map[string]int{"": 0, "&nocache=0": 0, "&nocache=1": 1} {
		told = 0
		if rec := get(h, "query?query=m&time=590"+params); rec.Code != 200 || told != want {
			t.Errorf("%q: %d, told %d times, want %d", params, rec.Code, told, want)
		}
	}
}
