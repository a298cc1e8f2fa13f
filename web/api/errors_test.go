// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// serving is our API over one series, m = 1 at second 600.
func serving(t *testing.T, opts Options, with func(*Sources)) (http.Handler, *columntest.Store) {
	t.Helper()
	store := &columntest.Store{}
	store.Append(labels.FromStrings("__name__", "m"), columntest.Sample{T: 600_000, V: 1})
	e := query.NewEngine(store, query.Options{})
	src := Sources{Engine: e, Data: store}
	if with != nil {
		with(&src)
	}
	a, err := New(src, opts)
	if err != nil {
		t.Fatal(err)
	}
	r := mux.NewRouter()
	a.Register(r.PathPrefix("/api/v1").Subrouter(), nil)
	return r, store
}

func do(h http.Handler, req *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

const oneQuery = "/api/v1/query?query=m&time=600"

func TestErrorsOfTheStoreHaveTheirStatus(t *testing.T) {
	check := func(cause error, status int, typ string) {
		t.Helper()
		h, store := serving(t, Options{}, nil)
		store.ScanErr = cause
		rec := do(h, httptest.NewRequest(http.MethodGet, oneQuery, nil))
		if rec.Code != status || !strings.Contains(rec.Body.String(), `"errorType":"`+typ+`"`) {
			t.Errorf("%v: %d %s, want %d %s", cause, rec.Code, rec.Body, status, typ)
		}
	}
	check(errors.New("bad checksum"), 422, "execution")
	check(&budget.ExceededError{Account: "query", Limit: 1, Want: 2}, 422, "execution")
	check(&sample.UnavailableError{Condition: "restoring", RetryAfter: time.Second}, 503, "unavailable")
	check(context.DeadlineExceeded, 503, "timeout")
	check(context.Canceled, 499, "canceled")
}

func TestUnavailableStoreSaysWhenToTryAgain(t *testing.T) {
	h, store := serving(t, Options{}, nil)
	store.ScanErr = &sample.UnavailableError{Condition: "restoring", RetryAfter: 4500 * time.Millisecond}
	rec := do(h, httptest.NewRequest(http.MethodGet, oneQuery, nil))
	if got := rec.Header().Get("Retry-After"); got != "5" {
		t.Errorf("Retry-After %q, want 5", got)
	}
	if !strings.Contains(rec.Body.String(), "restoring") {
		t.Errorf("the answer does not name the state: %s", rec.Body)
	}
}

func TestClientThatLeftIsNoServerError(t *testing.T) {
	h, _ := serving(t, Options{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, path := range []string{oneQuery, "/api/v1/labels", "/api/v1/series?match[]=m"} {
		if rec := do(h, httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx)); rec.Code != 499 {
			t.Errorf("%s: %d %s, want 499", path, rec.Code, rec.Body)
		}
	}
}

func TestWarningsAreListed(t *testing.T) {
	h, store := serving(t, Options{}, nil)
	store.Warning = errors.New("block 01 is quarantined")
	rec := do(h, httptest.NewRequest(http.MethodGet, oneQuery, nil))
	if want := `"warnings":["block 01 is quarantined"]}`; !strings.HasSuffix(rec.Body.String(), want) {
		t.Errorf("got %s, want it to end in %s", rec.Body, want)
	}
}

func TestAdminRoutesAreClosedUntilEnabled(t *testing.T) {
	admin := &fakeAdmin{}
	h, _ := serving(t, Options{}, func(s *Sources) { s.Admin = admin })
	for _, path := range []string{"delete_series?match[]=m", "clean_tombstones", "snapshot"} {
		rec := do(h, httptest.NewRequest(http.MethodPost, "/api/v1/admin/tsdb/"+path, nil))
		if rec.Code != 500 || !strings.Contains(rec.Body.String(), "admin APIs disabled") {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if len(admin.deleted) > 0 || admin.cleaned > 0 {
		t.Error("a closed route changed the store")
	}
}

func TestAdminRoutesReportWhatFailed(t *testing.T) {
	check := func(cause error, status int) {
		t.Helper()
		h, _ := serving(t, Options{EnableAdmin: true}, func(s *Sources) { s.Admin = &fakeAdmin{err: cause} })
		for _, path := range []string{"delete_series?match[]=m", "clean_tombstones", "snapshot"} {
			rec := do(h, httptest.NewRequest(http.MethodPost, "/api/v1/admin/tsdb/"+path, nil))
			if rec.Code != status || !strings.Contains(rec.Body.String(), cause.Error()) {
				t.Errorf("%s: %d %s, want %d", path, rec.Code, rec.Body, status)
			}
		}
	}
	check(errors.New("disk full"), 500)
	check(&sample.UnavailableError{Condition: "read_only"}, 503)
}

func TestSnapshotAnswersItsName(t *testing.T) {
	admin := &fakeAdmin{}
	h, _ := serving(t, Options{EnableAdmin: true}, func(s *Sources) { s.Admin = admin })
	rec := do(h, httptest.NewRequest(http.MethodPost, "/api/v1/admin/tsdb/snapshot?skip_head=true", nil))
	if want := `{"status":"success","data":{"name":"20260101T000000Z-0001"}}`; rec.Body.String() != want || !admin.skipHead {
		t.Errorf("got %s, skip head %v", rec.Body, admin.skipHead)
	}
}

func TestServerWithoutPartsAnswersAsAnEmptyOne(t *testing.T) {
	h, _ := serving(t, Options{}, nil)
	check := func(path, data string) {
		t.Helper()
		rec := do(h, httptest.NewRequest(http.MethodGet, "/api/v1/"+path, nil))
		if want := `{"status":"success","data":` + data + `}`; rec.Body.String() != want {
			t.Errorf("%s: %s, want %s", path, rec.Body, want)
		}
	}
	check("rules", `{"groups":[]}`)
	check("alerts", `{"alerts":[]}`)
	check("targets", `{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":null}`)
	check("scrape_pools", `{"scrapePools":[]}`)
	check("alertmanagers", `{"activeAlertmanagers":[],"droppedAlertmanagers":[]}`)
	check("metadata", `{}`)
	check("targets/metadata", `[]`)
	check("status/conditions", `[]`)
	check("status/series_limits", `[]`)
	check("status/rejected", `[]`)
	check("status/flags", `{}`)
	check("status/config", `{"yaml":""}`)
	check("status/tsdb/blocks", `{"blocks":[]}`)
	check("features", `{}`)
}

func TestWritesAreHandedOnToTheirReceivers(t *testing.T) {
	off, _ := serving(t, Options{}, nil)
	answering := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	on, _ := serving(t, Options{}, func(s *Sources) { s.RemoteWrite, s.OTLP = answering(204), answering(202) })
	check := func(path, flag string, code int) {
		t.Helper()
		if rec := do(off, httptest.NewRequest(http.MethodPost, path, nil)); rec.Code != 404 || !strings.Contains(rec.Body.String(), flag) {
			t.Errorf("%s while it is off: %d %s", path, rec.Code, rec.Body)
		}
		if rec := do(on, httptest.NewRequest(http.MethodPost, path, nil)); rec.Code != code {
			t.Errorf("%s: %d, want %d", path, rec.Code, code)
		}
	}
	check("/api/v1/write", "--web.enable-remote-write-receiver", 204)
	check("/api/v1/otlp/v1/metrics", "--web.enable-otlp-receiver", 202)
}

func TestBrowsersAreToldWhoMayRead(t *testing.T) {
	check := func(allowed *regexp.Regexp, origin, want string) {
		t.Helper()
		h, _ := serving(t, Options{CORSOrigin: allowed}, nil)
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			req := httptest.NewRequest(method, oneQuery, nil)
			if origin != "" {
				req.Header.Set("Origin", origin)
			}
			rec := do(h, req)
			if got := rec.Header().Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s from %q: allowed %q, want %q", method, origin, got, want)
			}
			if !strings.Contains(strings.Join(rec.Header().Values("Vary"), ","), "Origin") {
				t.Errorf("%s from %q: Vary %q", method, origin, rec.Header().Values("Vary"))
			}
			if method == http.MethodOptions && rec.Code != 204 {
				t.Errorf("OPTIONS: %d", rec.Code)
			}
		}
	}
	only := regexp.MustCompile(`^(?:https://dash\.example)$`)
	check(nil, "", "")
	check(nil, "https://any.example", "*")
	check(only, "https://dash.example", "https://dash.example")
	check(only, "https://evil.example", "")
}

func TestUnknownRoutesAndMethodsAreRefused(t *testing.T) {
	h, _ := serving(t, Options{}, nil)
	check := func(method, path string, status int) {
		t.Helper()
		if rec := do(h, httptest.NewRequest(method, "/api/v1/"+path, nil)); rec.Code != status {
			t.Errorf("%s %s: %d, want %d", method, path, rec.Code, status)
		}
	}
	check(http.MethodGet, "nothing", 404)
	check(http.MethodDelete, "query", 405)
	check(http.MethodGet, "admin/tsdb/snapshot", 405)
	check(http.MethodPost, "targets", 405)
	check(http.MethodHead, "labels", 200)
}

func TestSourcesThatAreMissingAreNamed(t *testing.T) {
	if _, err := New(Sources{}, Options{}); err == nil {
		t.Error("an API over nothing was made")
	}
}
