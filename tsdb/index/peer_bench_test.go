// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// BenchmarkPeer asks Prometheus' indexes and ours the same, head against head and block against block: 100,000 series,
// or as many as INDEX_SERIES says. It asks for the ids of matching series, without their labels, and for label values.
// No answer is kept. CPU time is that of the process, the collector's share included.
func BenchmarkPeer(b *testing.B) {
	n := 100_000
	if text := os.Getenv("INDEX_SERIES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 10_000 {
			b.Fatalf("INDEX_SERIES=%q is not a number of at least 10000", text)
		}
	}
	series := podSeries(n)
	peer := openPeer(b, series)
	mem := newHead()
	for i, ls := range series {
		mem.add(b, uint32(i), ls)
	}
	b.Run("head", func(b *testing.B) { compareIndexes(b, n, headOf(b, peer), mem.mem) })
	if err := peer.CompactHead(promtsdb.NewRangeHead(peer.Head(), 0, peerTime)); err != nil {
		b.Fatal(err)
	}
	slices.SortFunc(series, labels.Compare)
	r, _ := build(b, series)
	block, err := peer.Blocks()[0].Index()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = block.Close() }()
	b.Run("block", func(b *testing.B) { compareIndexes(b, n, block, r) })
}

// podSeries returns n series, 20 to a pod, 20 pods to an instance, and 4 to a session.
func podSeries(n int) []labels.Labels {
	out := make([]labels.Labels, 0, n)
	for i := range n {
		pod, metric := i/20, i%20
		out = append(out, labels.FromStrings(
			labels.MetricName, fmt.Sprintf("metric_%03d_total", pod%10*20+metric), "cluster", fmt.Sprintf("eu-west-%d", pod%4),
			"code", []string{"200", "404", "500", "503"}[pod%4], "instance", fmt.Sprintf("host-%05d.example:9100", pod/20), "job", "node",
			"pod", fmt.Sprintf("web-%06d-%05x", pod, mix(uint64(pod))&0xfffff), "session", fmt.Sprintf("%016x", mix(uint64(i/4))),
		))
	}
	return out
}

const peerTime = 60_000

func openPeer(b *testing.B, series []labels.Labels) *promtsdb.DB {
	b.Helper()
	db, err := promtsdb.Open(b.TempDir(), nil, nil, promtsdb.DefaultOptions(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	db.DisableCompactions()
	for part := range slices.Chunk(series, 10_000) {
		app := db.Appender(b.Context())
		for _, ls := range part {
			if _, err := app.Append(0, ls, peerTime, 1); err != nil {
				b.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

func headOf(b *testing.B, db *promtsdb.DB) promtsdb.IndexReader {
	b.Helper()
	ix, err := db.Head().Index()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ix.Close() })
	return ix
}

func compareIndexes(b *testing.B, n int, prom promtsdb.IndexReader, ours querier) {
	b.Helper()
	m := labels.MustNewMatcher
	metric := m(labels.MatchEqual, labels.MetricName, "metric_007_total")
	instance := m(labels.MatchEqual, "instance", "host-00008.example:9100")
	match := func(op labels.MatchType, name, value string) *labels.Matcher { return m(op, name, value) }
	for _, q := range []struct {
		name string
		ms   []*labels.Matcher
	}{
		{"equal", []*labels.Matcher{instance}},
		{"equal_and_big", []*labels.Matcher{instance, match(labels.MatchEqual, "job", "node"), match(labels.MatchEqual, "code", "200")}},
		{"metric_and_unequal", []*labels.Matcher{metric, match(labels.MatchNotEqual, "code", "200")}},
		{"big_and_big", []*labels.Matcher{match(labels.MatchEqual, "code", "200"), match(labels.MatchEqual, "job", "node")}},
		{"unequal", []*labels.Matcher{match(labels.MatchNotEqual, "code", "200")}},
		{"prefix", []*labels.Matcher{match(labels.MatchRegexp, "pod", "web-0001.*")}},
		{"suffix", []*labels.Matcher{match(labels.MatchRegexp, "pod", ".*-00[0-9a-f]{3}")}},
		{"contains", []*labels.Matcher{match(labels.MatchRegexp, "pod", ".*0017.*")}},
		{"contains_session", []*labels.Matcher{match(labels.MatchRegexp, "session", ".*beef.*")}},
		{"alternatives", []*labels.Matcher{match(labels.MatchRegexp, "instance", "host-00001.example:9100|host-00007.example:9100|host-00011.example:9100")}},
		{"alternatives_of_prefixes", []*labels.Matcher{match(labels.MatchRegexp, "pod", "web-000001-.*|web-000017-.*")}},
		{"metric_and_prefix", []*labels.Matcher{metric, match(labels.MatchRegexp, "pod", "web-0000.*")}},
		{"metric_and_any", []*labels.Matcher{metric, match(labels.MatchRegexp, "session", ".+")}},
		{"metric_and_not_regexp", []*labels.Matcher{metric, match(labels.MatchNotRegexp, "pod", "web-.*1")}},
		{"not_regexp", []*labels.Matcher{match(labels.MatchNotRegexp, "instance", "host-00[0-4].*")}},
		{"empty", []*labels.Matcher{metric, match(labels.MatchEqual, "zone", "")}},
		{"not_empty", []*labels.Matcher{metric, match(labels.MatchNotEqual, "session", "")}},
	} {
		askBoth(b, "series/"+q.name, func(b *testing.B) int { return promSelect(b, prom, q.ms) }, func(b *testing.B) int {
			ids, err := ours.Select(budget.NewTask(b.Context(), nil), q.ms)
			if err != nil {
				b.Fatal(err)
			}
			return len(ids)
		})
	}
	for _, q := range []struct {
		name, label string
		limit       int
		ms          []*labels.Matcher
	}{
		{"instance", "instance", 0, nil},
		{"session", "session", 0, nil},
		{"session_limit_10", "session", 10, nil},
		{"pod_of_metric", "pod", 0, []*labels.Matcher{metric}},
		{"session_of_instance", "session", 0, []*labels.Matcher{instance}},
		{"metric_of_code", labels.MetricName, 0, []*labels.Matcher{match(labels.MatchEqual, "code", "200")}},
	} {
		askBoth(b, "values/"+q.name, func(b *testing.B) int {
			found, err := prom.SortedLabelValues(b.Context(), q.label, &storage.LabelHints{Limit: q.limit}, q.ms...)
			if err != nil {
				b.Fatal(err)
			}
			return len(found)
		}, func(b *testing.B) int {
			found, err := ours.LabelValues(budget.NewTask(b.Context(), nil), q.label, q.ms, q.limit)
			if err != nil {
				b.Fatal(err)
			}
			return len(found)
		})
	}
}

func promSelect(b *testing.B, ix promtsdb.IndexReader, ms []*labels.Matcher) int {
	b.Helper()
	p, err := promtsdb.PostingsForMatchers(b.Context(), ix, ms...)
	if err != nil {
		b.Fatal(err)
	}
	var ids []storage.SeriesRef
	for p.Next() {
		ids = append(ids, p.At())
	}
	if p.Err() != nil {
		b.Fatal(p.Err())
	}
	return len(ids)
}

func askBoth(b *testing.B, name string, prom, ours func(b *testing.B) int) {
	b.Helper()
	if want, got := prom(b), ours(b); want != got || want == 0 {
		b.Errorf("%s: found %d, Prometheus %d", name, got, want)
	}
	for _, of := range []struct {
		name string
		ask  func(b *testing.B) int
	}{{"prometheus", prom}, {"tidemark", ours}} {
		b.Run(name+"/"+of.name, func(b *testing.B) {
			found, n := 0, 0
			before := processTime(b)
			for b.Loop() {
				found += of.ask(b)
				n++
			}
			b.ReportMetric(float64(processTime(b)-before)/float64(n), "cpu-ns/op")
			b.ReportMetric(float64(found)/float64(n), "found")
		})
	}
}

// processTime is the CPU time of this process so far: on a machine that does other things, too, the clock says little.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
