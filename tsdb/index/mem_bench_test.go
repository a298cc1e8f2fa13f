// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

func BenchmarkMemAdd(b *testing.B) {
	series := fleet(200_000)
	b.ReportAllocs()
	for b.Loop() {
		m := NewMem(nil)
		var pairs []uint32
		for i, ls := range series {
			pairs, _ = m.Intern(ls, pairs[:0])
			if err := m.Add(uint32(i), pairs); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(m.Bytes())/float64(len(series)), "B/series")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(series)), "ns/series")
}

func BenchmarkMemSelect(b *testing.B) {
	m := NewMem(nil)
	var pairs []uint32
	for i, ls := range fleet(1_000_000) {
		pairs, _ = m.Intern(ls, pairs[:0])
		if err := m.Add(uint32(i), pairs); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%.1f B/series at 1M series", float64(m.Bytes())/1e6)
	match := labels.MustNewMatcher
	name := match(labels.MatchEqual, labels.MetricName, "http_requests_total")
	run := func(what string, ms ...*labels.Matcher) {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				ids, err := m.Select(budget.NewTask(b.Context(), nil), ms)
				if err != nil || len(ids) == 0 {
					b.Fatal(len(ids), err)
				}
			}
		})
	}
	run("one", name, match(labels.MatchEqual, "instance", "host-01000.example:9100"), match(labels.MatchEqual, "code", "200"))
	run("metric", name)
	run("metric,dense", name, match(labels.MatchEqual, "job", "node"), match(labels.MatchEqual, "env", "prod"))
	run("metric,not", name, match(labels.MatchNotEqual, "code", "200"))
	run("metric,regexp", name, match(labels.MatchRegexp, "instance", "host-01.*"))
	run("metric,contains", name, match(labels.MatchRegexp, "pod", ".*-0.*"))
	run("all", match(labels.MatchRegexp, labels.MetricName, ".+"))
}

func BenchmarkMemRemove(b *testing.B) {
	series := fleet(200_000)
	pairs := make([][]uint32, len(series))
	var every []uint32
	for i := range series {
		if i%10 == 0 {
			every = append(every, uint32(i))
		}
	}
	var took time.Duration
	for b.Loop() {
		m := NewMem(nil)
		for i, ls := range series {
			pairs[i], _ = m.Intern(ls, pairs[i][:0])
			if err := m.Add(uint32(i), pairs[i]); err != nil {
				b.Fatal(err)
			}
		}
		start := time.Now()
		m.Remove(every, func(id uint32, dst []uint32) []uint32 { return append(dst, pairs[id]...) })
		took += time.Since(start)
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N*len(every)), "removal-ns/series")
}
