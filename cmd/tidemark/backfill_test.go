// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/ingest/config"
	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/rules/backtest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// TestEvaluationsThatAStopCostAreMadeUpFor has a recording rule whose results end half an hour before the start, while
// what it reads has been delivered since.
func TestEvaluationsThatAStopCostAreMadeUpFor(t *testing.T) {
	dir := t.TempDir()
	text := "groups: [{name: g, interval: 1m, rules: [{record: \"load:sum\", expr: sum(load)}]}]"
	if err := os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "prometheus.yml")
	check := func(what, settings string, recorded time.Duration, want bool) {
		t.Helper()
		if err := os.WriteFile(file, []byte("rule_files: [rules.yml]\n"+settings), 0o600); err != nil {
			t.Fatal(err)
		}
		s := catchUpServer(t, file)
		began := time.Now().Truncate(time.Second)
		record(t, s.db, "load", began.Add(-2*time.Hour), began)
		record(t, s.db, "load:sum", began.Add(-4*time.Hour), began.Add(-recorded))
		if err := s.catchUp(t.Context(), began, time.Millisecond); err != nil {
			t.Fatal(err)
		}
		jobs := s.parts.filler.Jobs()
		if (len(jobs) == 1) != want {
			t.Fatalf("%s: jobs %+v", what, jobs)
		}
		if !want {
			return
		}
		for s.parts.filler.Jobs()[0].Ended == nil {
			time.Sleep(time.Millisecond)
		}
		job := s.parts.filler.Jobs()[0]
		if job.State != backtest.JobDone || job.Filled.Stored < int64(min(recorded, time.Hour).Minutes())-2 || job.Filled.Failures > 0 {
			t.Errorf("%s: %+v, %+v", what, job, job.Filled)
		}
		q, err := s.parts.engine.NewInstantQuery(t.Context(), nil, nil, "count_over_time(load:sum[1h])", began)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		if v, ok := q.Exec(t.Context()).Value.(promql.Vector); !ok || len(v) != 1 || v[0].F < 58 {
			t.Errorf("%s: the last hour has %v", what, v)
		}
	}
	check("half an hour", "", 30*time.Minute, true)
	check("three hours", "", 3*time.Hour, true)
	check("new rules", "", 5*time.Hour, false) // there is nothing before four hours
	check("no stop", "", 30*time.Second, false)
	check("switched off", "tidemark: {rules: {catch_up: 0s}}\n", 30*time.Minute, false)
}

// catchUpServer is what of a server makes up for a stop.
func catchUpServer(t *testing.T, file string) *server {
	t.Helper()
	c, err := config.Load(config.Options{File: file})
	if err != nil {
		t.Fatal(err)
	}
	o, err := parseFlags([]string{"--config.file=" + file}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{opts: o, log: slog.New(slog.DiscardHandler), parts: &parts{}}
	s.config.Store(c)
	if s.db, err = tsdb.Open(t.Context(), tsdb.Options{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	s.parts.engine = query.NewEngine(s.db, query.Options{})
	s.parts.filler = s.newFiller(s.parts)
	if s.parts.rules, err = rules.New(rules.Options{Query: rules.EngineQuery(s.parts.engine, nil), Appender: s.db}); err != nil {
		t.Fatal(err)
	}
	if err := s.applyRules(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.parts.filler.Close()
		_ = s.parts.engine.Close()
		_ = s.db.Close()
	})
	return s
}

// record stores a sample of a series every minute.
func record(t *testing.T, db *tsdb.DB, name string, from, to time.Time) {
	t.Helper()
	refs := make([]sample.Ref, 1)
	if err := db.Resolve([]labels.Labels{labels.FromStrings("__name__", name)}, refs); err != nil {
		t.Fatal(err)
	}
	var b sample.Batch
	for ; !from.After(to); from = from.Add(time.Minute) {
		b.AppendFloat(refs[0], 0, from.UnixMilli(), 1, 0)
	}
	if _, err := db.Commit(context.Background(), &b, &sample.Result{}); err != nil {
		t.Fatal(err)
	}
}
