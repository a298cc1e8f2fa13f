// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

func metric(job string) labels.Labels { return labels.FromStrings("__name__", "m", "job", job) }

func floats(fs ...float64) promql.Matrix {
	s := promql.Series{Metric: metric("a")}
	for i, f := range fs {
		s.Floats = append(s.Floats, promql.FPoint{T: int64(i), F: f})
	}
	return promql.Matrix{s}
}

func histograms(change func(*histogram.FloatHistogram)) promql.Vector {
	h := &histogram.FloatHistogram{
		Schema: 1, Count: 6, Sum: 3, ZeroCount: 1, ZeroThreshold: 0.1,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{2, 3},
	}
	change(h)
	return promql.Vector{{Metric: metric("a"), H: h}}
}

func result(v any) Outcome {
	r := &promql.Result{}
	switch v := v.(type) {
	case promql.Vector:
		r.Value = v
	case promql.Matrix:
		r.Value = v
	case promql.Scalar:
		r.Value = v
	case promql.String:
		r.Value = v
	case error:
		r.Err = v
	}
	return Outcome{Result: r, Samples: &stats.QuerySamples{}}
}

func noted(err error) Outcome {
	o := result(promql.Vector{})
	o.Result.Warnings.Add(err)
	return o
}

func counted(s stats.QuerySamples) Outcome {
	o := result(promql.Vector{})
	o.Samples = &s
	return o
}

func TestDiffSeesEveryDifference(t *testing.T) {
	stale, same := math.Float64frombits(value.StaleNaN), func(*histogram.FloatHistogram) {}
	at := func(p posrange.Pos) posrange.PositionRange { return posrange.PositionRange{Start: p, End: p + 1} }
	ab := promql.Vector{{Metric: metric("a")}, {Metric: metric("b")}}
	ba := promql.Vector{ab[1], ab[0]}
	check := func(name string, equal bool, got, want Outcome) {
		t.Helper()
		for _, pair := range [][2]Outcome{{got, want}, {want, got}} {
			if d := (Comparison{}).Diff(At("sort(m)", time.Time{}), pair[0], pair[1]); (d == "") != equal {
				t.Errorf("%s: equal should be %v, difference is %q", name, equal, d)
			}
		}
	}
	check("itself", true, result(floats(1, math.NaN(), stale)), result(floats(1, math.NaN(), stale)))
	check("last digits", true, result(floats(1)), result(floats(1+1e-12)))
	check("other NaN", true, result(floats(math.NaN())), result(floats(math.Float64frombits(value.NormalNaN+7))))
	check("empty buckets", true, result(histograms(same)), result(histograms(func(h *histogram.FloatHistogram) {
		h.PositiveSpans[0].Length, h.PositiveBuckets = 3, []float64{2, 3, 0}
	})))
	check("value", false, result(floats(1)), result(floats(1+1e-8)))
	check("zero", false, result(floats(0)), result(floats(1e-300)))
	check("sign of zero", true, result(floats(0)), result(floats(math.Copysign(0, -1))))
	check("infinity", false, result(floats(math.Inf(1))), result(floats(math.MaxFloat64)))
	check("NaN", false, result(floats(math.NaN())), result(floats(stale)))
	check("points", false, result(floats(1, 2)), result(floats(1)))
	check("series", false, result(floats(1)), result(promql.Matrix{}))
	check("order", false, result(ab), result(ba))
	check("more samples", false, result(ab), result(ab[:1]))
	check("labels", false, result(ab[:1]), result(ab[1:]))
	check("types", false, result(ab), result(promql.Matrix{}))
	check("scalar", false, result(promql.Scalar{V: 1}), result(promql.Scalar{V: 2}))
	check("string", false, result(promql.String{V: "a"}), result(promql.String{V: "b"}))
	check("float or histogram", false, result(histograms(same)), result(ab[:1]))
	check("schema", false, result(histograms(same)), result(histograms(func(h *histogram.FloatHistogram) { h.Schema = 2 })))
	check("bucket", false, result(histograms(same)), result(histograms(func(h *histogram.FloatHistogram) { h.PositiveBuckets[1]++ })))
	check("sum", false, result(histograms(same)), result(histograms(func(h *histogram.FloatHistogram) { h.Sum++ })))
	check("hint", false, result(histograms(same)), result(histograms(func(h *histogram.FloatHistogram) { h.CounterResetHint = histogram.GaugeType })))
	check("error", false, result(errors.New("a")), result(errors.New("b")))
	check("no error", false, result(errors.New("a")), result(ab))
	check("class of error", false, result(promql.ErrStorage{Err: errors.New("a")}), result(errors.New("a")))
	check("refusal", false, Outcome{Refused: errors.New("a")}, result(errors.New("a")))
	check("annotation", false, noted(annotations.NewInvalidQuantileWarning(2, at(1))), result(promql.Vector{}))
	check("position", false, noted(annotations.NewInvalidQuantileWarning(2, at(1))), noted(annotations.NewInvalidQuantileWarning(2, at(2))))
	check("samples", false, counted(stats.QuerySamples{TotalSamples: 1}), counted(stats.QuerySamples{}))
	check("samples read", false, counted(stats.QuerySamples{SamplesRead: 1}), counted(stats.QuerySamples{}))
	check("samples per step", false, counted(stats.QuerySamples{TotalSamplesPerStep: []int64{1}}), counted(stats.QuerySamples{}))
	check("peak is for who asks", true, counted(stats.QuerySamples{PeakSamples: 1}), counted(stats.QuerySamples{}))
}

func TestOptionsOfAComparison(t *testing.T) {
	check := func(name string, c Comparison, equal bool, got, want Outcome) {
		t.Helper()
		if d := c.Diff(At("m", time.Time{}), got, want); (d == "") != equal {
			t.Errorf("%s: equal should be %v, difference is %q", name, equal, d)
		}
	}
	ab := promql.Vector{{Metric: metric("a")}, {Metric: metric("b")}}
	check("bits", Comparison{Bits: true}, false, result(floats(1)), result(floats(1+1e-12)))
	check("bits of zero", Comparison{Bits: true}, false, result(floats(0)), result(floats(math.Copysign(0, -1))))
	check("peak", Comparison{Peak: true}, false, counted(stats.QuerySamples{PeakSamples: 1}), counted(stats.QuerySamples{}))
	check("no statistics", Comparison{NoStatistics: true}, true, counted(stats.QuerySamples{TotalSamples: 1}), counted(stats.QuerySamples{}))
	check("no annotations", Comparison{NoAnnotations: true}, true, noted(errors.New("a")), result(promql.Vector{}))
	check("no order without sort", Comparison{}, true, result(ab), result(promql.Vector{ab[1], ab[0]}))
	hint := func(x histogram.CounterResetHint) Outcome {
		return result(histograms(func(h *histogram.FloatHistogram) { h.CounterResetHint = x }))
	}
	check("no hints", Comparison{NoResetHints: true}, true, hint(histogram.GaugeType), hint(histogram.CounterReset))
}

// An engine that answers another query than asked must be noticed, one whose answer is a matter of order must not.
func TestPairTellsWrongFromOpen(t *testing.T) {
	s := NewPrometheusStorage(t)
	d := DataSet{}
	for _, job := range []string{"a", "b", "c", "d"} {
		d.Series = append(d.Series, Series{metric(job), []Sample{{T: 0, V: 1}}})
	}
	if err := d.Load(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	check := func(instead, text string, open, differs bool) {
		t.Helper()
		ref := NewReference(SuiteOptions())
		v := Pair{Got: replacing{ref, instead}, Want: ref}.Judge(t.Context(), s, s, At(text, time.Unix(0, 0)))
		if v.Open != open || (v.Diff != "") != differs {
			t.Errorf("%q for %q: open %v, difference %q", instead, text, v.Open, v.Diff)
		}
	}
	check("m", "m", false, false)
	check(`m{job="a"}`, "m", false, true)
	check(`topk(2, m{job!="a"})`, "topk(2, m)", true, false)
	check(`topk(2, m * 2)`, "sum(m)", false, true)
	check("", "m", false, true)
}

// replacing is an engine that answers instead of every query the one text; it panics where that is empty.
type replacing struct {
	promql.QueryEngine
	text string
}

func (r replacing) NewInstantQuery(ctx context.Context, q storage.Queryable, o promql.QueryOpts, _ string, ts time.Time) (promql.Query, error) {
	if r.text == "" {
		panic("no text")
	}
	return r.QueryEngine.NewInstantQuery(ctx, q, o, r.text, ts)
}
