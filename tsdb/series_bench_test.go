// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// BenchmarkSeries lists 100,000 series that the head and 20 blocks all hold, in label order.
func BenchmarkSeries(b *testing.B) {
	const blocks = 20
	db := openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process, Slot: time.Minute})
	ls := fleet(250)
	for i := range blocks {
		fillAt(b, db, ls, int64(i)*60_000)
		if err := db.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	fillAt(b, db, ls, blocks*60_000)
	run := func(name string, mint int64, ms ...*labels.Matcher) {
		b.Run(name, func(b *testing.B) {
			v, err := db.View(mint, maxTime)
			if err != nil {
				b.Fatal(err)
			}
			defer v.Close()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				set, err := v.Series(b.Context(), ms, column.Hint{})
				if err != nil {
					b.Fatal(err)
				}
				n = set.N
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/series")
		})
	}
	all := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")
	run("head", blocks*60_000, all)
	run("head+20blocks", 0, all)
	run("head+20blocks/one-metric", 0, equal(labels.MetricName, "node_metric_07_total"))
}
