// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/rules"
	"github.com/tidemarkdb/tidemark/tsdb"
)

// BenchmarkBacktest backtests three rules that are evaluated every 15 seconds over a day of 100 series, asking ahead and
// asking for each evaluation apart.
func BenchmarkBacktest(b *testing.B) {
	const text = `groups: [{name: g, interval: 15s, rules: [
  {alert: Slow, expr: "rate(m[5m]) > 0.9", for: 5m}, {alert: Down, expr: "m == 0"}, {record: "job:m:rate5m", expr: "sum by (job) (rate(m[5m]))"}]}]`
	db, err := tsdb.Open(b.Context(), tsdb.Options{Dir: b.TempDir(), MaxFuture: -1, Scrub: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	for i := range 100 {
		write(b, db, 4*60*24, labels.FromStrings("__name__", "m", "instance", fmt.Sprint(i), "job", "j"), func(n int) float64 { return float64((n*7+i)%1000 + n) })
	}
	engine := query.NewEngine(db, query.Options{})
	b.Cleanup(func() { _ = engine.Close() })
	for _, room := range []int64{maxHeld, 0} {
		b.Run(fmt.Sprintf("ahead=%v", room > 0), func(b *testing.B) {
			for b.Loop() {
				r, err := run(b.Context(), Options{
					Rules: rules.Config{Files: []string{"rules.yml"}, Read: func(string) ([]byte, error) { return []byte(text), nil }},
					Start: start, End: start.Add(24 * time.Hour), Engine: engine, History: db, Scratch: db, Parser: parser.NewParser(parser.Options{}),
				}, room)
				if err != nil || r.Rules[0].Evaluations != 4*60*24 {
					b.Fatal(r, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(3*4*60*24), "us/evaluation")
		})
	}
}
