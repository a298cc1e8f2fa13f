// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

func BenchmarkBuilder(b *testing.B) {
	series := sortedFleet(100_000)
	b.ReportAllocs()
	for b.Loop() {
		x := NewBuilder(nil)
		for _, ls := range series {
			if err := x.AddSeries(ls); err != nil {
				b.Fatal(err)
			}
		}
		raw, err := x.AppendTo(nil)
		if err != nil {
			b.Fatal(err)
		}
		x.Close()
		b.ReportMetric(float64(len(raw))/float64(len(series)), "B/series")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(series)), "ns/series")
}

func BenchmarkReader(b *testing.B) {
	const hosts, perHost = 500, 427
	sorted := sortedFleet(hosts * perHost)
	r, raw := build(b, sorted)
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := OpenReader(raw); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(sorted)), "ns/series")
		b.ReportMetric(float64(len(raw))/float64(len(sorted)), "B/series")
		b.ReportMetric(float64(r.Bytes())/float64(len(sorted)), "memory-B/series")
	})
	b.Run("hash", func(b *testing.B) {
		task := budget.NewTask(b.Context(), nil)
		ids := readerView{r}.all(task)
		hashes := make([]Hash128, 0, len(ids))
		for b.Loop() {
			hashes = r.Hashes(task, testSeed, ids, hashes[:0])
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(sorted)), "ns/series")
	})
	b.Run("count", func(b *testing.B) {
		for b.Loop() {
			if _, err := StatsOf(budget.NewTask(b.Context(), nil), 10, r); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(r.lists)), "ns/pair")
	})
	b.Run("pairs", func(b *testing.B) {
		var dst []uint32
		id := uint32(0)
		for b.Loop() {
			dst = r.Pairs(id%uint32(r.N()), dst[:0])
			id += 7919
		}
	})
	b.Run("symbol", func(b *testing.B) {
		sym := uint32(0)
		for b.Loop() {
			r.Symbol(sym % uint32(r.Symbols()))
			sym += 7919
		}
	})
	match := labels.MustNewMatcher
	name := match(labels.MatchEqual, labels.MetricName, "http_requests_total")
	for what, ms := range map[string][]*labels.Matcher{
		"metric":          {name},
		"one":             {name, match(labels.MatchEqual, "instance", "host-00100.example:9100"), match(labels.MatchEqual, "code", "200")},
		"metric,dense":    {name, match(labels.MatchEqual, "job", "node"), match(labels.MatchEqual, "env", "prod")},
		"metric,contains": {name, match(labels.MatchRegexp, "pod", ".*-0.*")},
	} {
		b.Run("select="+what, func(b *testing.B) {
			for b.Loop() {
				if ids, err := r.Select(budget.NewTask(b.Context(), nil), ms); err != nil || len(ids) == 0 {
					b.Fatal(len(ids), err)
				}
			}
		})
	}
}
