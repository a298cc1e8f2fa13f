// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	promrules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// The benchmarks measure what the evaluator itself costs: the query answers a ready vector and the storage takes
// everything for free. The same is done with Prometheus' manager.

const benchRules = `groups: [{name: g, rules: [{record: "out:sum", expr: m, labels: {team: x}}]}]`

func benchVector(n int) promql.Vector {
	v := make(promql.Vector, n)
	for i := range v {
		v[i] = promql.Sample{F: float64(i), Metric: labels.FromStrings("__name__", "m",
			"instance", fmt.Sprintf("10.0.%d.%d:9100", i/250, i%250), "job", "node", "mode", "idle")}
	}
	return v
}

// benchQuery answers copies of v, as an engine would.
func benchQuery(v promql.Vector) QueryFunc {
	out := make(promql.Vector, len(v))
	return func(_ context.Context, _ string, ts time.Time) (promql.Vector, error) {
		copy(out, v)
		for i := range out {
			out[i].T = millis(ts)
		}
		return out, nil
	}
}

func benchFile(b *testing.B) string {
	b.Helper()
	name := filepath.Join(b.TempDir(), "rules.yml")
	if err := os.WriteFile(name, []byte(benchRules), 0o600); err != nil {
		b.Fatal(err)
	}
	return name
}

// sink is an Appender that takes everything.
type sink struct{ next sample.Ref }

func (s *sink) Resolve(_ []labels.Labels, refs []sample.Ref) error {
	for i := range refs {
		s.next++
		refs[i] = s.next
	}
	return nil
}

func (*sink) Commit(context.Context, *sample.Batch, *sample.Result) (sample.LSN, error) {
	return 1, nil
}
func (*sink) Durable(context.Context, sample.LSN) error { return nil }

func BenchmarkRecordingRule(b *testing.B) {
	for _, n := range []int{100, 10000} {
		vector := benchVector(n)
		b.Run(fmt.Sprintf("series=%d/tidemark", n), func(b *testing.B) {
			m, err := New(Options{Query: benchQuery(vector), Appender: &sink{}})
			if err != nil {
				b.Fatal(err)
			}
			if err := m.Update(Config{Files: []string{benchFile(b)}}); err != nil {
				b.Fatal(err)
			}
			for _, g := range m.mu.groups {
				bench(b, n, func(ts time.Time) { g.eval(b.Context(), ts) })
			}
		})
		b.Run(fmt.Sprintf("series=%d/prometheus", n), func(b *testing.B) {
			m := promrules.NewManager(&promrules.ManagerOptions{
				QueryFunc: promrules.QueryFunc(benchQuery(vector)), Appendable: promSink{}, Context: b.Context(),
				Logger: slog.New(slog.DiscardHandler), Parser: parser.NewParser(parser.Options{}),
			})
			groups, errs := m.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, benchFile(b))
			if len(errs) > 0 {
				b.Fatal(errs)
			}
			for _, g := range groups {
				bench(b, n, func(ts time.Time) { g.Eval(b.Context(), ts) })
			}
		})
	}
}

func bench(b *testing.B, n int, eval func(time.Time)) {
	b.Helper()
	b.ReportAllocs()
	ts := epoch
	eval(ts) // the first evaluation makes the series
	for b.Loop() {
		ts = ts.Add(time.Minute)
		eval(ts)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/sample")
}

// promSink is a storage.Appendable that takes everything.
type promSink struct{}

func (promSink) Appender(context.Context) storage.Appender { return promSinkAppender{} }

type promSinkAppender struct{}

func (promSinkAppender) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 1, nil
}

func (promSinkAppender) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 1, nil
}

func (promSinkAppender) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 1, nil
}

func (promSinkAppender) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 1, nil
}

func (promSinkAppender) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 1, nil
}

func (promSinkAppender) UpdateMetadata(storage.SeriesRef, labels.Labels, metadata.Metadata) (storage.SeriesRef, error) {
	return 1, nil
}

func (promSinkAppender) SetOptions(*storage.AppendOptions) {}
func (promSinkAppender) Commit() error                     { return nil }
func (promSinkAppender) Rollback() error                   { return nil }
