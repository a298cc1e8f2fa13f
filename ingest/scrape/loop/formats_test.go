// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	promscrape "github.com/prometheus/prometheus/scrape"
)

const (
	openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	protobuf    = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

// TestFormatsAreStoredAsByTheJudge: OpenMetrics with exemplars, start times, metadata and timestamps, protobuf with native
// histograms, each under every limit and conversion, with each feature flag.
func TestFormatsAreStoredAsByTheJudge(t *testing.T) {
	t.Parallel()
	scripts := slices.Concat(openMetricsScripts(), protobufScripts(seed(t)))
	for name, o := range optionSets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, scripts)
			judge, ours := s.play(o)
			s.compare(judge, ours)
			s.requireUp(judge)
			s.compareMetadata(judge, ours)
			for _, name := range []string{"exceeded_sample_limit", "exceeded_native_histogram_bucket_limit", "exemplar_out_of_order"} {
				name = "prometheus_target_scrapes_" + name + "_total"
				if want, got := counter(t, judge.reg, name), counter(t, ours.reg, name); want == 0 || got == 0 {
					t.Errorf("%s is %g, the judge's %g", name, got, want)
				}
			}
		})
	}
}

// optionSets are the feature flags that change what is stored.
func optionSets() map[string]promscrape.Options {
	with := func(set func(*promscrape.Options)) promscrape.Options {
		o := features()
		set(&o)
		return o
	}
	return map[string]promscrape.Options{
		"no flags":             features(),
		"start times":          with(func(o *promscrape.Options) { o.ParseST = true }),
		"synthesized starts":   with(func(o *promscrape.Options) { o.SynthesizeST = true }),
		"both":                 with(func(o *promscrape.Options) { o.SynthesizeST, o.ParseST = true, true }),
		"labels of type, unit": with(func(o *promscrape.Options) { o.EnableTypeAndUnitLabels = true }),
	}
}

func openMetricsScripts() (scripts []script) {
	body := func(n int, more string) string {
		return fmt.Sprintf(`# TYPE a_seconds counter
# HELP a_seconds Things.
# UNIT a_seconds seconds
a_seconds_total{x="1"} %d # {trace_id="t%d"} 0.5 1600000000.%d
a_seconds_created{x="1"} 1600000000
a_seconds_total{x="2"} %d # {trace_id="without"} 1
# TYPE h histogram
h_bucket{le="1"} 1 # {trace_id="b"} 0.7
h_bucket{le="+Inf"} 2 # {trace_id="old"} 3 %d
h_count 2
h_sum 3
h_created 1600000001
# TYPE s stateset
s{s="on"} 1
%s# EOF
`, n, n, n, n*2, 1_500_000_000-n, more)
	}
	steps := []string{
		body(1, ""), body(2, ""), body(3, "late 3 1600000003\n"), body(3, "late 4 1600000002\n"), body(4, "early 3 9000000000\n"),
		body(2, ""), strings.Replace(body(6, ""), "# EOF\n", "", 1), body(7, ""),
	}
	for i, config := range []string{
		"", "convert_classic_histograms_to_nhcb: true", "sample_limit: 4", "track_timestamps_staleness: true",
		"convert_classic_histograms_to_nhcb: true\nalways_scrape_classic_histograms: true",
	} {
		scripts = append(scripts, script{job: fmt.Sprint("om", i), config: config, answers: texts(openMetrics, steps...)})
	}
	return scripts
}

func protobufScripts(rng *rand.Rand) (scripts []script) {
	var answers []answer
	total := uint64(0)
	for i := range 9 {
		if i == 6 {
			answers = append(answers, answer{contentType: protobuf, text: "garbage"})
			total = 0
		}
		total += rng.Uint64N(10)
		answers = append(answers, answer{contentType: protobuf, text: delimited(families(rng, total, i != 4)...)})
	}
	answers = append(answers, answer{contentType: plain, text: "last 1\n"})
	for i, config := range []string{
		"scrape_native_histograms: true", "", "scrape_native_histograms: true\nalways_scrape_classic_histograms: true",
		"scrape_native_histograms: true\nnative_histogram_bucket_limit: 6", "scrape_native_histograms: true\nnative_histogram_min_bucket_factor: 2",
		"scrape_native_histograms: true\nnative_histogram_bucket_limit: 1", "convert_classic_histograms_to_nhcb: true",
		"scrape_native_histograms: true\nsample_limit: 2",
	} {
		scripts = append(scripts, script{job: fmt.Sprint("pb", i), config: config, answers: answers})
	}
	return scripts
}

func families(rng *rand.Rand, total uint64, counter bool) []*dto.MetricFamily {
	id := []*dto.LabelPair{{Name: new("id"), Value: new("x")}}
	hist := &dto.Histogram{
		SampleCount: new(total + 20), SampleSum: new(float64(total)), Schema: new(int32(3)),
		ZeroThreshold: new(1e-9), ZeroCount: new(total),
		PositiveSpan:  []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(5))}, {Offset: new(int32(90)), Length: new(uint32(5))}},
		PositiveDelta: []int64{2, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		Bucket: []*dto.Bucket{{
			CumulativeCount: new(total), UpperBound: new(float64(1)), Exemplar: &dto.Exemplar{Value: new(float64(1)), Label: id},
		}},
	}
	out := []*dto.MetricFamily{
		{Name: new("native"), Help: new("A histogram."), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: hist}}},
		{Name: new("g"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: new(rng.Float64())}}}},
	}
	if counter {
		out = append(out, &dto.MetricFamily{Name: new("c_total"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{
			Label: id, Counter: &dto.Counter{Value: new(float64(total))}, TimestampMs: new(1_600_000_000_000 + int64(total)),
		}}})
	}
	return out
}

func delimited(all ...*dto.MetricFamily) string {
	var b bytes.Buffer
	e := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeProtoDelim))
	for _, f := range all {
		_ = e.Encode(f) // into memory
	}
	return b.String()
}

// compareMetadata fails where what targets say of their metrics is not what the judge knows.
func (s *scene) compareMetadata(judge, ours *contender) {
	s.t.Helper()
	if len(judge.meta) != len(s.scripts) {
		s.t.Errorf("the judge has metadata of %d jobs", len(judge.meta))
	}
	for job, want := range judge.meta {
		if got := ours.meta[job]; !slices.Equal(got, want) {
			s.t.Errorf("metadata of %s are\n%v, the judge's\n%v", job, got, want)
		}
	}
}

// metadataOf returns what targets say of their metrics, and how they are, by job.
func metadataOf(targets map[string][]*promscrape.Target) map[string][]string {
	out := map[string][]string{}
	for job, all := range targets {
		for _, target := range all {
			for _, m := range target.ListMetadata() {
				one, ok := target.GetMetadata(m.MetricFamily)
				out[job] = append(out[job], fmt.Sprint(m, one, ok))
			}
			slices.Sort(out[job])
			out[job] = append(out[job], fmt.Sprint(target.LengthMetadata(), target.SizeMetadata(), target.LastError(), target.Health()))
		}
	}
	return out
}
