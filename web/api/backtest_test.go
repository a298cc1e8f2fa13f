// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/rules/backtest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var backtestStart = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func backtestStore(dir string) (*tsdb.DB, error) {
	return tsdb.Open(context.Background(), tsdb.Options{Dir: dir, Sync: journal.Process, MaxFuture: -1, Shards: 1, Scrub: -1, SegmentBytes: 1 << 20})
}

// backtestServer serves the API over a day of a series that is 0 for an hour.
func backtestServer(t *testing.T, scratch OpenScratch) *httptest.Server {
	t.Helper()
	db, err := backtestStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	refs := make([]sample.Ref, 1)
	if err := db.Resolve([]labels.Labels{labels.FromStrings("__name__", "up", "instance", "a")}, refs); err != nil {
		t.Fatal(err)
	}
	var b sample.Batch
	for minute := range 24 * 60 {
		up := 1.0
		if minute >= 600 && minute < 660 {
			up = 0
		}
		b.AppendFloat(refs[0], 0, backtestStart.Add(time.Duration(minute)*time.Minute).UnixMilli(), up, 0)
	}
	if _, err := db.Commit(t.Context(), &b, &sample.Result{}); err != nil {
		t.Fatal(err)
	}
	engine := query.NewEngine(db, query.Options{})
	t.Cleanup(func() { _ = engine.Close() })
	a, err := New(Sources{Engine: engine, Data: db, Scratch: scratch}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := mux.NewRouter()
	a.Register(r.PathPrefix("/api/v1").Subrouter(), nil)
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s
}

func scratchIn(t *testing.T) OpenScratch {
	return func(context.Context) (backtest.Scratch, func() error, error) {
		db, err := backtestStore(t.TempDir())
		if err != nil {
			return nil, nil, err
		}
		return db, db.Close, nil
	}
}

const downFor = `groups: [{name: g, rules: [{alert: Down, expr: up == 0, for: %s}]}]`

// backtestBody is a request for a backtest of the day.
func backtestBody(t *testing.T, rules, against string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"rules": rules, "against": against, "start": "2026-03-01T00:00:00Z", "end": "2026-03-01T23:59:00Z"})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestABacktestTellsItsProgressAndWhatWouldHaveFired(t *testing.T) {
	s := backtestServer(t, scratchIn(t))
	resp, err := http.Post(s.URL+"/api/v1/rules/backtest", "application/json", strings.NewReader(backtestBody(t, fmt.Sprintf(downFor, "30m"), fmt.Sprintf(downFor, "2h"))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%s, %s", resp.Status, resp.Header)
	}
	var last struct {
		Status string
		Data   backtestAnswer
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if last.Status != "" {
			t.Error("a line behind the last one")
		}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
	}
	d := last.Data
	if last.Status != "success" || d.Report.Rules[0].Firings != 1 || d.Against.Rules[0].Firings != 0 {
		t.Fatalf("%+v", last)
	}
	e := d.Report.Rules[0].Episodes[0]
	if e.Labels.Get("instance") != "a" || e.Firing.Sub(e.Pending) != 30*time.Minute || e.End.Sub(e.Pending) != time.Hour {
		t.Errorf("episode %+v", e)
	}
	if len(d.Difference) != 1 || d.Difference[0].Rule != "Down" || len(d.Difference[0].Added) != 1 {
		t.Errorf("difference %+v", d.Difference)
	}
}

func TestBacktestsThatCannotBeRunAreRefused(t *testing.T) {
	good := fmt.Sprintf(downFor, "1m")
	check := func(what, body string, scratch OpenScratch, status int, want string) {
		t.Helper()
		s := backtestServer(t, scratch)
		resp, err := http.Post(s.URL+"/api/v1/rules/backtest", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var got struct{ Status, Error string }
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if resp.StatusCode != status || got.Status != "error" || !strings.Contains(got.Error, want) {
			t.Errorf("%s: %s, %+v, want %d and %q", what, resp.Status, got, status, want)
		}
	}
	broken := func(context.Context) (backtest.Scratch, func() error, error) { return nil, nil, errors.New("no room") }
	check("no JSON", "rules=x", scratchIn(t), 400, "must be a JSON object")
	check("an unknown key", `{"rule": "x"}`, scratchIn(t), 400, `unknown field "rule"`)
	check("two bodies", backtestBody(t, good, "")+"{}", scratchIn(t), 400, "after the JSON object")
	check("no start", `{"rules": "groups: []"}`, scratchIn(t), 400, `"start"`)
	check("an end before the start", `{"rules": "groups: []", "start": "20", "end": "10"}`, scratchIn(t), 400, "not after")
	check("a bad interval", `{"rules": "groups: []", "start": "20", "interval": "-1m"}`, scratchIn(t), 400, `"interval"`)
	check("bad rules", backtestBody(t, "groups: [{name: g, rules: [{record: a, expr: sum(}]}]", ""), scratchIn(t), 400, "rules: ")
	check("bad rules to compare with", backtestBody(t, good, "nonsense"), scratchIn(t), 400, "against: ")
	check("no place", backtestBody(t, good, ""), nil, 500, "no place")
	check("a place that cannot be made", backtestBody(t, good, ""), broken, 500, "no room")
}

func TestOneBacktestRunsAtATime(t *testing.T) {
	running, end := make(chan struct{}), make(chan struct{})
	open := scratchIn(t)
	s := backtestServer(t, func(ctx context.Context) (backtest.Scratch, func() error, error) {
		close(running)
		<-end
		return open(ctx)
	})
	post := func() int {
		resp, err := http.Post(s.URL+"/api/v1/rules/backtest", "application/json", strings.NewReader(backtestBody(t, fmt.Sprintf(downFor, "1m"), "")))
		if err != nil {
			t.Error(err)
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	first := make(chan int)
	go func() { first <- post() }()
	<-running
	if code := post(); code != http.StatusServiceUnavailable {
		t.Errorf("the second one: %d", code)
	}
	close(end)
	if code := <-first; code != http.StatusOK {
		t.Errorf("the first one: %d", code)
	}
}
