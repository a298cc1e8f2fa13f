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

// BenchmarkSeries lists 200,000 series of the head, and the same 100,000 of the head and 20 blocks, in label order:
// for the first time (cold), and again; and the first 100 of those of the head.
func BenchmarkSeries(b *testing.B) {
	const blocks = 20
	db := openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process, Slot: time.Minute})
	ls := fleet(500)
	for i := range blocks {
		fillAt(b, db, ls[:len(ls)/2], int64(i)*60_000)
		if err := db.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	fillAt(b, db, ls, blocks*60_000)
	run := func(name string, mint int64, ms ...*labels.Matcher) {
		v, err := db.View(mint, maxTime)
		if err != nil {
			b.Fatal(err)
		}
		defer v.Close()
		series := func(b *testing.B, before func()) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				before()
				set, err := v.Series(b.Context(), ms, column.Hint{})
				if err != nil {
					b.Fatal(err)
				}
				n = set.N
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/series")
		}
		b.Run(name+"/cold", func(b *testing.B) { series(b, db.sets.empty) })
		b.Run(name+"/again", func(b *testing.B) { series(b, func() {}) })
	}
	all := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")
	half := labels.MustNewMatcher(labels.MatchRegexp, "instance", "host-00[01].*|host-002[0-4].*")
	run("head", blocks*60_000, all)
	b.Run("head/limit", func(b *testing.B) {
		v := viewOf(b, db)
		for b.Loop() {
			if _, err := v.Series(b.Context(), []*labels.Matcher{all}, column.Hint{MinT: blocks * 60_000, MaxT: maxTime, Limit: 100}); err != nil {
				b.Fatal(err)
			}
		}
	})
	run("head+20blocks", 0, all)
	run("head+20blocks/half", 0, half)
	run("head+20blocks/one-metric", 0, equal(labels.MetricName, "node_metric_07_total"))
}
