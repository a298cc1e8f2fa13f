// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb"
)

func fillOptions(t *testing.T, db *tsdb.DB, text string) FillOptions {
	t.Helper()
	engine := query.NewEngine(db, query.Options{})
	t.Cleanup(func() { _ = engine.Close() })
	return FillOptions{
		Rules: rules.Config{Files: []string{"rules.yml"}, Read: func(string) ([]byte, error) { return []byte(text), nil }},
		Start: start, End: start.Add(time.Hour), Engine: engine, Appender: db, Parser: parser.NewParser(parser.Options{}),
	}
}

// recorded returns the samples of a metric within the hour.
func recorded(t *testing.T, e promql.QueryEngine, name string) []promql.FPoint {
	t.Helper()
	q, err := e.NewInstantQuery(t.Context(), nil, nil, name+"[1h1m]", start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	res := q.Exec(t.Context())
	m, ok := res.Value.(promql.Matrix)
	if res.Err != nil || !ok || len(m) > 1 {
		t.Fatalf("%s: %v, %v", name, res.Value, res.Err)
	}
	if len(m) == 0 {
		return nil
	}
	return append([]promql.FPoint(nil), m[0].Floats...)
}

func TestRecordingRulesAreFilledIn(t *testing.T) {
	db := open(t)
	write(t, db, 240, labels.FromStrings("__name__", "load", "instance", "a"), func(i int) float64 { return float64(i) })
	text := `groups: [{name: g, interval: 1m, rules: [{record: "load:double", expr: load * 2}, {record: "load:four", expr: "load:double * 2"}, {alert: High, expr: load > 1}]}]`
	o := fillOptions(t, db, text)
	paused := 0
	o.Pause = func(context.Context, time.Duration) { paused++ }
	f, err := Fill(t.Context(), o)
	if err != nil || f.Stored != 120 || f.Kept+f.Refused+f.Failures != 0 || paused != 60 {
		t.Fatalf("%+v, %v, %d pauses", f, err, paused)
	}
	double, four := recorded(t, o.Engine, "load:double"), recorded(t, o.Engine, "load:four")
	if len(double) != 60 || len(four) != 60 {
		t.Fatalf("%d and %d samples, want 60", len(double), len(four))
	}
	for i := range double {
		at := time.UnixMilli(double[i].T).Sub(start)
		if want := 2 * math.Floor(at.Seconds()/15); double[i].F != want || four[i].F != 2*want || four[i].T != double[i].T {
			t.Errorf("at %v: %v and %v, want %v and its double", at, double[i].F, four[i].F, want)
		}
	}
	if alerts := recorded(t, o.Engine, "ALERTS"); len(alerts) != 0 {
		t.Errorf("alerts were written: %v", alerts)
	}
	// Once more: everything is there.
	if f, err = Fill(t.Context(), o); err != nil || f.Stored != 0 || f.Kept != 120 || f.Failures != 0 {
		t.Errorf("the second time: %+v, %v", f, err)
	}
}

func TestFillingInChangesNothingThatIsThere(t *testing.T) {
	db := open(t)
	write(t, db, 160, labels.FromStrings("__name__", "load"), func(i int) float64 { return float64(i) })
	o := fillOptions(t, db, `groups: [{name: g, interval: 1m, rules: [{record: "load:one", expr: load}]}]`)
	if _, err := Fill(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	was := recorded(t, o.Engine, "load:one")
	last := was[len(was)-1]
	if was[len(was)-1].T == start.Add(time.Hour).UnixMilli() || value.IsStaleNaN(last.F) {
		t.Errorf("the last sample is %v", last)
	}
	o.Rules.Read = func(string) ([]byte, error) {
		return []byte(`groups: [{name: g, interval: 1m, rules: [{record: "load:one", expr: load + 1}]}]`), nil
	}
	f, err := Fill(t.Context(), o)
	if err != nil || f.Stored != 0 || f.Kept == 0 {
		t.Errorf("%+v, %v", f, err)
	}
	if now := recorded(t, o.Engine, "load:one"); len(now) != len(was) || now[5] != was[5] {
		t.Errorf("%v was %v", now, was)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Fill(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
