// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// BenchmarkMatchers lists label values and the series of matchers, ours and Prometheus', with everything in the heads
// and then with everything in one block: 100,000 series, or as many as MATCHER_SERIES says, 20 to a pod. Each time the
// question is another one, so that no cache has the answer.
func BenchmarkMatchers(b *testing.B) {
	n := 100_000
	if text := os.Getenv("MATCHER_SERIES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 10_000 {
			b.Fatalf("MATCHER_SERIES=%q is not a number of at least 10000", text)
		}
	}
	pair := openMatchers(b, n)
	b.Run("head", pair.run)
	pair.flush(b)
	b.Run("block", pair.run)
}

// matcherPair is two stores with the same series, one sample each.
type matcherPair struct {
	ours *DB
	prom *promtsdb.DB
	pods int
	at   int64
}

func openMatchers(b *testing.B, n int) *matcherPair {
	b.Helper()
	p := &matcherPair{
		ours: openTest(b, Options{Dir: b.TempDir(), MaxFuture: -1, Sync: journal.Process}),
		prom: openPrometheus(b), pods: n / 20, at: 60_000,
	}
	p.prom.DisableCompactions()
	var ls []labels.Labels
	for i := range n {
		pod, metric := i/20, i%20
		ls = append(ls, labels.FromStrings(
			labels.MetricName, fmt.Sprintf("metric_%03d_total", pod%10*20+metric), "cluster", fmt.Sprintf("eu-west-%d", pod%4),
			"code", []string{"200", "404", "500", "503"}[pod%4], "instance", fmt.Sprintf("host-%05d.example:9100", pod/20), "job", "node",
			"pod", fmt.Sprintf("web-%06d-%s", pod, podTail(pod)),
		))
	}
	fillAt(b, p.ours, ls, p.at)
	fillPrometheus(b, p.prom, ls, p.at)
	return p
}

func (p *matcherPair) flush(b *testing.B) {
	b.Helper()
	if err := p.ours.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := p.prom.CompactHead(promtsdb.NewRangeHead(p.prom.Head(), 0, p.at)); err != nil {
		b.Fatal(err)
	}
	if n := len(p.prom.Blocks()); n != 1 {
		b.Fatalf("Prometheus has %d blocks", n)
	}
}

// question is a family of questions alike: question i has the matchers of(i), and after so many they come again.
type question struct {
	name   string
	period int
	of     func(i int) []*labels.Matcher
}

// run asks label values and series. An i that no label has makes a question another one and leaves its answer alone.
func (p *matcherPair) run(b *testing.B) {
	const metrics = 200
	matcher := labels.MustNewMatcher
	one := func(op labels.MatchType, name, format string) func(i int) []*labels.Matcher {
		return func(i int) []*labels.Matcher { return []*labels.Matcher{matcher(op, name, fmt.Sprintf(format, i))} }
	}
	metric := func(op labels.MatchType, name, format string) func(i int) []*labels.Matcher {
		return func(i int) []*labels.Matcher {
			return []*labels.Matcher{
				matcher(labels.MatchEqual, labels.MetricName, fmt.Sprintf("metric_%03d_total", i%metrics)), matcher(op, name, fmt.Sprintf(format, i)),
			}
		}
	}
	none := func(int) []*labels.Matcher { return nil }
	p.values(b, "instance", question{"values/instance", 1, none})
	p.values(b, "pod", question{"values/pod", 1, none})
	p.values(b, "pod", question{"values/pod_of_metric", p.pods, metric(labels.MatchNotEqual, "code", "%d")})
	for _, q := range []question{
		{"series/equal", p.pods / 20, one(labels.MatchEqual, "instance", "host-%05d.example:9100")},
		{"series/prefix", p.pods, one(labels.MatchRegexp, "pod", "web-%06d-.*")},
		{"series/contains", min(p.pods, 1000), one(labels.MatchRegexp, "pod", ".*%03d-.*")},
		{"series/alternatives", p.pods, one(labels.MatchRegexp, "pod", "web-000001-.*|nothing-%d|web-000017-.*")},
		{"series/suffix", p.pods, func(i int) []*labels.Matcher {
			return []*labels.Matcher{matcher(labels.MatchRegexp, "pod", ".*-"+podTail(i))}
		}},
		{"series/metric_and_prefix", p.pods, metric(labels.MatchRegexp, "pod", "web-.*|%d")},
		{"series/metric_and_not", p.pods, metric(labels.MatchNotRegexp, "pod", "web-.*1|%d")},
		{"series/metric_and_unequal", p.pods, metric(labels.MatchNotEqual, "code", "%d")},
	} {
		p.series(b, q)
	}
}

// values asks for the values of a label of the series that match.
func (p *matcherPair) values(b *testing.B, label string, q question) {
	b.Helper()
	p.measure(b, q, func(b *testing.B, i int) int {
		prom := p.querier(b)
		defer func() { _ = prom.Close() }()
		found, _, err := prom.LabelValues(b.Context(), label, nil, q.of(i)...)
		if err != nil {
			b.Fatal(err)
		}
		return len(found)
	}, func(b *testing.B, i int) int {
		v := p.view(b)
		defer func() { _ = v.Close() }()
		found, err := v.(column.LabelReader).LabelValues(b.Context(), label, q.of(i), 0)
		if err != nil {
			b.Fatal(err)
		}
		return len(found)
	})
}

// series asks for the labels of the series that match.
func (p *matcherPair) series(b *testing.B, q question) {
	b.Helper()
	p.measure(b, q, func(b *testing.B, i int) int {
		prom := p.querier(b)
		defer func() { _ = prom.Close() }()
		n := 0
		set := prom.Select(b.Context(), false, &storage.SelectHints{Start: 0, End: p.at, Func: "series"}, q.of(i)...)
		for set.Next() {
			n += min(1, set.At().Labels().Len())
		}
		if set.Err() != nil {
			b.Fatal(set.Err())
		}
		return n
	}, func(b *testing.B, i int) int {
		v := p.view(b)
		defer func() { _ = v.Close() }()
		set, err := v.Series(b.Context(), q.of(i), column.Hint{})
		if err != nil {
			b.Fatal(err)
		}
		if set.Cached {
			b.Fatal("the answer was kept from before")
		}
		return set.N
	})
}

// measure asks both, and first whether they find as much.
func (p *matcherPair) measure(b *testing.B, q question, prom, ours func(b *testing.B, i int) int) {
	b.Helper()
	for i := range min(3, q.period) {
		if want, got := prom(b, i), ours(b, i); want != got || want == 0 {
			b.Errorf("%s %d: found %d, Prometheus %d", q.name, i, got, want)
		}
	}
	for _, of := range []struct {
		name string
		ask  func(b *testing.B, i int) int
	}{{"prometheus", prom}, {"tidemark", ours}} {
		b.Run(q.name+"/"+of.name, func(b *testing.B) {
			b.ReportAllocs()
			found, n := 0, 0
			before := processTime(b)
			for b.Loop() {
				if n%q.period == 0 {
					p.ours.sets.empty() // questions come again
				}
				found += of.ask(b, n%q.period)
				n++
			}
			b.ReportMetric(float64((processTime(b)-before).Nanoseconds())/float64(n), "CPU-ns/op")
			b.ReportMetric(float64(found)/float64(n), "found")
		})
	}
}

func (p *matcherPair) querier(b *testing.B) storage.Querier {
	b.Helper()
	q, err := p.prom.Querier(0, p.at)
	if err != nil {
		b.Fatal(err)
	}
	return q
}

func (p *matcherPair) view(b *testing.B) column.View {
	b.Helper()
	v, err := p.ours.View(0, p.at)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// podTail is how the name of a pod ends.
func podTail(pod int) string { return fmt.Sprintf("%05x", uint32(pod)*2654435761>>12) }
