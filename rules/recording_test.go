// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestRecordingRuleOverridesNameAndLabels(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m{job="a",zone="x"}`, epoch, time.Minute, 1)
	f.store.load(`m{job="b",zone="x"}`, epoch, time.Minute, 2)
	f.rules(`
groups:
- name: g
	labels: {team: "group", zone: "from group"}
	rules:
	- record: out
		expr: m
		labels: {team: "rule", zone: ""}
`)
	f.eval(at(0))
	f.wantSeries("out", `{__name__="out", job="a", team="rule"} 0=1
{__name__="out", job="b", team="rule"} 0=2`)
}

func TestScalarExpressionIsRecordedAsOneSeries(t *testing.T) {
	f := newFixture(t)
	f.rules("groups: [{name: g, rules: [{record: one, expr: '1'}]}]")
	f.eval(at(time.Minute))
	f.wantSeries("one", `{__name__="one"} 60=1`)
}

func TestLaterRuleSeesWhatEarlierOnesWrote(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m`, epoch, time.Minute, 1, 2)
	f.rules("groups: [{name: g, rules: [{record: a, expr: m}, {record: b, expr: a * 10}, {record: c, expr: b + a}]}]")
	f.eval(at(0))
	f.eval(at(time.Minute))
	f.wantSeries("b", `{__name__="b"} 0=10 60=20`)
	f.wantSeries("c", `{__name__="c"} 0=11 60=22`)
}

func TestVanishedSeriesGetOneStaleMarker(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m{i="1"}`, epoch, time.Minute, 1, 1, nan, nan, nan, nan, nan, nan, nan, nan)
	f.store.load(`m{i="2"}`, epoch, time.Minute, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5)
	f.rules("groups: [{name: g, rules: [{record: out, expr: 'm'}]}]")
	for i := range 10 {
		f.eval(at(time.Duration(i) * time.Minute))
	}
	f.wantSeries(`out{i="1"}`, `{__name__="out", i="1"} 0=1 60=1 120=1 180=1 240=1 300=1 360=stale`)
	if n := len(f.group("g").rules[0].out.known); n != 1 {
		t.Errorf("%d series are remembered, want the one that is left", n)
	}
}

func TestSeriesThatComesBackAfterAStaleMarkerIsWrittenAgain(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m`, epoch, time.Minute, 1, 0, 1)
	f.rules("groups: [{name: g, rules: [{record: out, expr: 'm > 0'}]}]")
	for i := range 3 {
		f.eval(at(time.Duration(i) * time.Minute))
	}
	f.wantSeries(`out`, `{__name__="out"} 0=1 60=stale 120=1`)
}

func TestFailedEvaluationWritesNothingAndForgetsNothing(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m{i="1"}`, epoch, time.Minute, 1, 1, 0, 1)
	f.store.load(`m{i="2"}`, epoch, time.Minute, 0, 1, 0, 0)
	f.rules("groups: [{name: g, rules: [{record: out, expr: m > 0, labels: {i: ''}}]}]")
	f.eval(at(0))
	f.eval(at(time.Minute)) // two elements become one
	r := f.m.Groups()[0].Rules[0]
	if r.Health != HealthBad || r.LastError != ErrDuplicateRecordingLabelSet.Error() {
		t.Errorf("health %s, error %q", r.Health, r.LastError)
	}
	f.eval(at(2 * time.Minute))
	if r := f.m.Groups()[0].Rules[0]; r.Health != HealthGood || r.LastError != "" {
		t.Errorf("health %s, error %q after it was well again", r.Health, r.LastError)
	}
	f.wantSeries(`out`, `{__name__="out"} 0=1 120=stale`)
}

func TestRecordingLimitFailsTheWholeRule(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m{i="1"}`, epoch, time.Minute, 1, 1)
	f.store.load(`m{i="2"}`, epoch, time.Minute, nan, 1)
	f.rules("groups: [{name: g, limit: 1, rules: [{record: out, expr: m}]}]")
	f.eval(at(0))
	f.eval(at(time.Minute))
	f.wantSeries(`out`, `{__name__="out", i="1"} 0=1`)
	if got, want := f.m.Groups()[0].Rules[0].LastError, "exceeded limit of 1 with 2 series"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if n := len(f.group("g").rules[0].out.known); n != 1 {
		t.Errorf("%d series are remembered after a failed evaluation, want 1", n)
	}
}

func TestQueryOffsetMovesTheLookAndTheSamples(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m`, epoch, time.Minute, 1, 2, 3, 0)
	f.config.QueryOffset = time.Minute
	f.rules(`
groups:
- {name: global, rules: [{record: a, expr: 'm > 0'}]}
- {name: own, query_offset: 2m, rules: [{record: b, expr: m}]}
- {name: none, query_offset: 0s, rules: [{record: c, expr: m}]}
`)
	f.eval(at(3 * time.Minute))
	f.eval(at(4 * time.Minute))
	f.wantSeries(`a`, `{__name__="a"} 120=3 180=stale`)
	f.wantSeries(`b`, `{__name__="b"} 60=2 120=3`)
	f.wantSeries(`c`, `{__name__="c"} 180=0 240=0`)
}

func TestNativeHistogramsAreRecordedAndTheirEndMarked(t *testing.T) {
	f := newFixture(t)
	h := &histogram.FloatHistogram{
		Schema: 0, Count: 3, Sum: 4.5,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{1, 2},
	}
	f.store.Append(labels.FromStrings("__name__", "m"), columntest.Sample{T: 0, FH: h})
	f.rules("groups: [{name: g, rules: [{record: out, expr: m}]}]")
	f.eval(at(0))
	f.eval(at(time.Hour))
	f.wantSeries(`out`, `{__name__="out"} 0=`+h.String()+` 3600=stale`)
	if last := f.store.series[0]; last.lastV == 0 {
		t.Error("no marker")
	}
	view, err := f.store.View(millis(at(time.Hour)), millis(at(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if s := f.store.dump(t, "out"); !strings.Contains(s, "3600=stale") {
		t.Errorf("no marker in %s", s)
	}
}

func TestKnownSeriesAreNotResolvedAgain(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m{i="1"}`, epoch, time.Minute, 1, 1, 1)
	f.store.load(`m{i="2"}`, epoch, time.Minute, 1, 1, 1)
	f.rules("groups: [{name: g, rules: [{record: out, expr: m}]}]")
	for i := range 3 {
		f.eval(at(time.Duration(i) * time.Minute))
	}
	if f.store.resolved != 2 || f.store.commits != 3 {
		t.Errorf("%d label sets resolved in %d commits, want 2 in 3", f.store.resolved, f.store.commits)
	}
}

func TestSeriesThatLeftTheStoreIsResolvedAgain(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m{i="1"}`, epoch, time.Minute, 1, 2)
	f.store.load(`m{i="2"}`, epoch, time.Minute, 3, 4)
	f.rules("groups: [{name: g, rules: [{record: out, expr: m}]}]")
	f.eval(at(0))
	f.store.evicted[f.store.refs[`{__name__="out", i="2"}`]] = true
	f.eval(at(time.Minute))
	f.wantSeries(`out`, `{__name__="out", i="1"} 0=1 60=2
{__name__="out", i="2"} 0=3 60=4`)
	if r := f.m.Groups()[0].Rules[0]; r.Health != HealthGood {
		t.Errorf("health %s: %s", r.Health, r.LastError)
	}
}

func TestRefusedSeriesDoesNotKeepTheOthersOut(t *testing.T) {
	f := newFixture(t)
	for _, i := range []string{"1", "2", "3"} {
		f.store.load(`m{i="`+i+`"}`, epoch, time.Minute, 1, 2)
	}
	full := errors.New("no room")
	f.store.refuse = func(l labels.Labels) error {
		if l.Get("i") == "2" {
			return full
		}
		return nil
	}
	f.rules("groups: [{name: g, rules: [{record: out, expr: m}]}]")
	f.eval(at(0))
	r := f.m.Groups()[0].Rules[0]
	if want := `series {__name__="out", i="2"}: no room`; r.Health != HealthBad || r.LastError != want {
		t.Errorf("health %s, error %q", r.Health, r.LastError)
	}
	f.store.refuse = nil
	f.eval(at(time.Minute))
	f.wantSeries(`out`, `{__name__="out", i="1"} 0=1 60=2
{__name__="out", i="2"} 60=2
{__name__="out", i="3"} 0=1 60=2`)
}

func TestFailedCommitKeepsTheSeriesForLaterStaleMarkers(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m`, epoch, time.Minute, 1, 1, 0)
	f.rules("groups: [{name: g, rules: [{record: out, expr: m > 0}]}]")
	f.eval(at(0))
	f.store.commitErr = &sample.UnavailableError{Condition: "read_only"}
	f.eval(at(time.Minute))
	if r := f.m.Groups()[0].Rules[0]; r.Health != HealthBad {
		t.Errorf("health %s after a failed commit", r.Health)
	}
	f.store.commitErr = nil
	f.eval(at(2 * time.Minute))
	f.wantSeries(`out`, `{__name__="out"} 0=1 120=stale`)
}

func TestStoreThatStaysClosedIsLoggedOnce(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	f.rules("groups: [{name: g, rules: [{record: out, expr: vector(1)}]}]")
	want := func(lines int) {
		t.Helper()
		if n := strings.Count(log.String(), "writing a rule's samples went wrong"); n != lines {
			t.Errorf("%d lines, want %d:\n%s", n, lines, &log)
		}
	}
	f.store.commitErr = &sample.UnavailableError{Condition: "read_only"}
	f.eval(at(0))
	f.eval(at(time.Minute))
	want(1)
	f.store.commitErr = &sample.UnavailableError{Condition: "failed_sync"}
	f.eval(at(2 * time.Minute))
	want(2)
	f.store.commitErr = nil
	f.eval(at(3 * time.Minute))
	f.store.commitErr = &sample.UnavailableError{Condition: "read_only"}
	f.eval(at(4 * time.Minute))
	want(3)
}

func TestRejectedSamplesMakeTheRuleUnhealthyWithPrometheusWords(t *testing.T) {
	check := func(name string, second time.Duration, want string) {
		t.Helper()
		f := newFixture(t)
		f.store.load(`m`, at(-time.Hour), time.Minute, make([]float64, 120)...)
		f.rules("groups: [{name: g, rules: [{record: out, expr: m + time()}, {record: out, expr: m - time()}]}]")
		f.eval(at(time.Minute))
		if got := f.m.Groups()[0].Rules[1].LastError; !strings.Contains(got, "duplicate sample for timestamp") {
			t.Errorf("%s: second writer of one series: %q", name, got)
		}
		f.eval(at(second))
		if got := f.m.Groups()[0].Rules[0].LastError; !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", name, got, want)
		}
	}
	check("going back", 0, "out of order sample")
}

func TestRejectedSeriesIsNotMarkedStaleLater(t *testing.T) {
	f := newFixture(t)
	f.store.load(`m`, epoch, time.Second, make([]float64, 120)...)
	f.store.load(`n{i="2"}`, epoch, time.Second, make([]float64, 120)...)
	f.rules("groups: [{name: g, rules: [{record: out, expr: m + time() < 100 or n + time() == 30}]}]")
	f.eval(at(60 * time.Second))
	f.eval(at(30 * time.Second)) // the clock was set back: rejected
	f.eval(at(110 * time.Second))
	f.wantSeries(`out`, `{__name__="out", i="2"} 30=30 110=stale
{__name__="out"} 60=60`)
}

func TestNothingIsRememberedOfResultsThatCouldNotBeWritten(t *testing.T) {
	f := newFixture(t)
	n := 0
	f.opts.Query = func(_ context.Context, _ string, ts time.Time) (promql.Vector, error) {
		n++
		return promql.Vector{{Metric: labels.FromStrings("pod", strconv.Itoa(n)), T: millis(ts), F: 1}}, nil
	}
	f.store.commitErr = &sample.UnavailableError{Condition: "read_only"}
	f.rules("groups: [{name: g, rules: [{record: out, expr: m}]}]")
	for i := range 20 {
		f.eval(at(time.Duration(i) * time.Minute))
	}
	out := f.group("g").rules[0].out
	if len(out.known) != 0 || len(out.memo) != 0 {
		t.Errorf("%d series and %d results are remembered", len(out.known), len(out.memo))
	}
}

func TestResultsThatAreRecordedAsOneSeriesInTurnAreForgotten(t *testing.T) {
	f := newFixture(t)
	n := 0
	f.opts.Query = func(_ context.Context, _ string, ts time.Time) (promql.Vector, error) {
		n++
		return promql.Vector{{Metric: labels.FromStrings("pod", strconv.Itoa(n)), T: millis(ts), F: float64(n)}}, nil
	}
	f.rules("groups: [{name: g, rules: [{record: out, expr: m, labels: {pod: ''}}]}]")
	for i := range 20 {
		f.eval(at(time.Duration(i) * time.Minute))
	}
	if n := len(f.group("g").rules[0].out.memo); n != 1 {
		t.Errorf("%d results are remembered, want the last one", n)
	}
	if got := f.store.dump(t, "out"); strings.Count(got, "=") != 21 || strings.Contains(got, "stale") {
		t.Errorf("recorded %s", got)
	}
}
