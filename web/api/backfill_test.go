// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/rules/backtest"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// fakeBackfill notes what is asked of it.
type fakeBackfill struct {
	what       string
	files      []string
	start, end time.Time
	err        error
}

func (f *fakeBackfill) Begin(what string, c rules.Config, start, end time.Time) (backtest.Job, error) {
	f.what, f.files, f.start, f.end = what, c.Files, start, end
	return backtest.Job{ID: "7", State: backtest.JobWaiting}, f.err
}

func (*fakeBackfill) Jobs() []backtest.Job {
	return []backtest.Job{{ID: "7", State: backtest.JobDone, Progress: 1}}
}
func (*fakeBackfill) Cancel(id string) bool { return id == "7" }

func TestBackfillsAreBegunListedAndCanceled(t *testing.T) {
	f := &fakeBackfill{}
	inUse := func() (rules.Config, error) { return rules.Config{Files: []string{"a.yml", "b.yml"}}, nil }
	serve := func(admin bool) string {
		a, err := New(Sources{
			Engine: query.NewEngine(&columntest.Store{}, query.Options{}), Data: &columntest.Store{}, Admin: &fakeAdmin{}, Backfill: f, RulesInUse: inUse,
		}, Options{EnableAdmin: admin})
		if err != nil {
			t.Fatal(err)
		}
		r := mux.NewRouter()
		a.Register(r.PathPrefix("/api/v1").Subrouter(), nil)
		s := httptest.NewServer(r)
		t.Cleanup(s.Close)
		return s.URL + "/api/v1/admin/tidemark/backfill"
	}
	open, closed := serve(true), serve(false)
	check := func(what, method, url, body string, status int, want string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || !strings.Contains(string(text), want) || !json.Valid(text) {
			t.Errorf("%s: %s %s %v, want %d and %q", what, resp.Status, text, err, status, want)
		}
	}
	check("rules in use", "POST", open, `{"start": "10", "end": "2026-01-01T00:00:00Z"}`, 200, `"id":"7"`)
	if f.what != "rules in use" || len(f.files) != 2 || f.start.Unix() != 10 || f.end.Year() != 2026 {
		t.Errorf("asked for %+v", f)
	}
	check("rules of the request", "POST", open, `{"rules": "groups: []", "start": "10"}`, 200, `"state":"waiting"`)
	if f.what != "rules of the request" || len(f.files) != 1 || time.Since(f.end) > time.Minute {
		t.Errorf("asked for %+v", f)
	}
	check("the list", "GET", closed, "", 200, `"state":"done"`)
	check("a cancellation", "POST", open+"/cancel?id=7", "", 200, `"canceled":"7"`)
	check("of another job", "POST", open+"/cancel?id=8", "", 404, "no job")
	check("no admin API", "POST", closed, `{"start": "10"}`, 500, "admin APIs disabled")
	check("no admin API", "POST", closed+"/cancel?id=7", "", 500, "admin APIs disabled")
	check("no JSON", "POST", open, "x", 400, "JSON object")
	check("no start", "POST", open, "{}", 400, "start")
	check("a bad interval", "POST", open, `{"start": "1", "rules": "x", "interval": "0s"}`, 400, "interval")
	f.err = backtest.ErrTooManyJobs
	check("too many", "POST", open, `{"start": "10"}`, 503, "too many")
	f.err = errors.New("rule file: oh")
	check("bad rules", "POST", open, `{"start": "10"}`, 400, "oh")
}
