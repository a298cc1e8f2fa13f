// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/tsdb"
)

// TestExactWindowsAddUpAsPrometheusDoes asks for sums over windows of 120 samples that overlap 60 times, of values that
// no sum of prefixes gets right to the last bit.
func TestExactWindowsAddUpAsPrometheusDoes(t *testing.T) {
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	k := &keeping{t: t, db: db}
	start := time.Now().Add(-3 * time.Hour).Truncate(time.Hour)
	app := db.Storage().AppenderV2(t.Context())
	for i := range 600 {
		k.add(app, "m", 1, start.Add(time.Duration(i)*15*time.Second), 1e6*math.Sin(float64(i))/7)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	exact := false
	engine := query.NewEngine(db, query.Options{ExactWindows: func() bool { return exact }})
	t.Cleanup(func() { _ = engine.Close() })
	reference := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e9, Timeout: time.Minute})
	ask := func(e promql.QueryEngine, text string) []promql.FPoint {
		t.Helper()
		q, err := e.NewRangeQuery(t.Context(), db.Storage(), nil, text, start.Add(30*time.Minute), start.Add(2*time.Hour), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		m, err := q.Exec(t.Context()).Matrix()
		if err != nil || len(m) != 1 {
			t.Fatalf("%s: %d series, %v", text, len(m), err)
		}
		return append([]promql.FPoint(nil), m[0].Floats...)
	}
	for _, fn := range []string{"sum", "avg", "stddev", "stdvar"} {
		text := fn + "_over_time(m[30m])"
		want := ask(reference, text)
		for _, exact = range []bool{false, true} {
			got := ask(engine, text)
			if len(got) != len(want) {
				t.Fatalf("%s: %d points, want %d", text, len(got), len(want))
			}
			for i, p := range got {
				off := math.Abs(p.F - want[i].F)
				if p.T != want[i].T || exact && off != 0 || off > 1e-9*1e6 {
					t.Errorf("%s exact=%v at %d: %v, want %v", text, exact, p.T, p.F, want[i].F)
				}
			}
		}
	}
}
