// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query/querytest"
)

// The data of minutes: two series with a sample every minute from 0 to 19. A window counts in full at every step in
// the total; what is read counts each sample once.
func TestStatisticsCountSamples(t *testing.T) {
	o := querytest.SuiteOptions()
	o.Features.PerStepStats = true
	bothEngines(t, o, func(t *testing.T, e promql.QueryEngine) {
		check := func(text string, steps int, total, read []int64) {
			t.Helper()
			q := querytest.At(text, time.UnixMilli(600_000))
			if steps > 1 {
				q = querytest.Between(text, q.Start, q.Start.Add(time.Duration(steps-1)*time.Minute), time.Minute)
			}
			q.Opts = promql.NewPrometheusQueryOpts(true, 0)
			r := querytest.Ask(t.Context(), e, minutes(t), q)
			if r.Failed() != nil {
				t.Errorf("%s: %v", text, r.Failed())
				return
			}
			s := r.Samples
			if !slices.Equal(s.TotalSamplesPerStep, total) || !slices.Equal(s.SamplesReadPerStep, read) || s.TotalSamples != sum(total) || s.SamplesRead != sum(read) {
				t.Errorf("%s: total %d %v, read %d %v; want %v, %v", text, s.TotalSamples, s.TotalSamplesPerStep, s.SamplesRead, s.SamplesReadPerStep, total, read)
			}
		}
		check("1", 3, []int64{0, 0, 0}, []int64{0, 0, 0})
		check("m", 1, []int64{2}, []int64{2})
		check("m", 3, []int64{2, 2, 2}, []int64{2, 2, 2})
		check(`m{job="a"} offset 30s`, 3, []int64{1, 1, 1}, []int64{1, 1, 1})
		check("m @ 300", 3, []int64{2, 2, 2}, []int64{2, 0, 0})
		check("m + m", 2, []int64{4, 4}, []int64{4, 4})
		check("m[3m]", 1, []int64{6}, []int64{6})
		check("rate(m[3m])", 1, []int64{6}, []int64{6})
		check("rate(m[3m])", 3, []int64{6, 6, 6}, []int64{6, 2, 2})
		check("rate(m[30s])", 2, []int64{2, 2}, []int64{2, 2})
		check("rate(m[3m] @ 300)", 3, []int64{6, 6, 6}, []int64{6, 0, 0})
		check("sum_over_time(m[4m:1m])", 1, []int64{8}, []int64{8})
		check("sum_over_time(m[4m:1m])", 3, []int64{8, 8, 8}, []int64{8, 2, 2})
		check("sum(rate(m[2m])) + sum(m)", 2, []int64{6, 6}, []int64{6, 4})
		check("timestamp(m)", 2, []int64{2, 2}, []int64{2, 2})
		check("absent(m)", 2, []int64{2, 2}, []int64{2, 2})
		check("vector(time())", 2, []int64{0, 0}, []int64{0, 0})
	})
}

func sum(xs []int64) (n int64) {
	for _, x := range xs {
		n += x
	}
	return n
}

// A query fails if and only if it would hold more samples at once than allowed.
func TestTooManySamplesAtOnceAreAnError(t *testing.T) {
	ref := querytest.NewReference(querytest.SuiteOptions())
	for _, q := range readers() {
		peak := querytest.Ask(t.Context(), ref, minutes(t), q).Samples.PeakSamples
		for limit, fails := range map[int]bool{peak: false, peak - 1: true, 1: true} {
			if limit < 1 {
				continue
			}
			o := querytest.SuiteOptions()
			o.MaxSamples = limit
			bothEngines(t, o, func(t *testing.T, e promql.QueryEngine) {
				var many promql.ErrTooManySamples
				err := querytest.Ask(t.Context(), e, minutes(t), q).Failed()
				switch {
				case !fails && err != nil:
					t.Errorf("%s: %v at the peak of %d", q, err, peak)
				case fails && (!errors.As(err, &many) || err.Error() != "query processing would load too many samples into memory in query execution"):
					t.Errorf("%s: error %v with a limit of %d, peak is %d", q, err, limit, peak)
				}
			})
		}
	}
}

// Without the query's wish or the engine's there are no statistics per step.
func TestStatisticsPerStepAreThereOnDemand(t *testing.T) {
	for _, engine := range []bool{true, false} {
		o := querytest.SuiteOptions()
		o.Features.PerStepStats = engine
		bothEngines(t, o, func(t *testing.T, e promql.QueryEngine) {
			for _, wish := range []bool{true, false} {
				q := querytest.At("sum(m)", time.UnixMilli(600_000))
				q.Opts = promql.NewPrometheusQueryOpts(wish, 0)
				s := querytest.Ask(t.Context(), e, minutes(t), q).Samples
				if (s.TotalSamplesPerStep != nil) != (engine && wish) || s.TotalSamples != 2 {
					t.Errorf("engine %v, query %v: %+v", engine, wish, s)
				}
			}
		})
	}
}

// A step of a range query is the instant query at its time, and a range query is its parts one after the other.
// Where Prometheus' engine says otherwise, ours may.
func TestRangeQueriesAreTheirStepsAndTheirParts(t *testing.T) {
	settled, excused := 0, 0
	for seed := range uint64(8) {
		data := querytest.RandomData(seed)
		from := stored(t, seed, data)
		o := optionsOf(seed)
		engine, ref := newEngine(t, nil, o), querytest.NewReference(o)
		g := querytest.NewGenerator(seed+1000, data)
		for range 200 {
			q := g.Query()
			if q.Instant() || strings.Contains(q.Text, "limitk") || strings.Contains(q.Text, "topk") || strings.Contains(q.Text, "bottomk") {
				continue // which of equal values they take is open
			}
			d := apart(t, engine, from, q)
			switch {
			case d == "":
				settled++
			case apart(t, ref, querytest.Foreign(from), q) != "":
				excused++
			default:
				t.Errorf("seed %d: %s\n%s", seed, q, d)
			}
		}
	}
	t.Logf("%d hold, %d do not hold in Prometheus", settled, excused)
	if settled < 500 {
		t.Errorf("only %d queries keep to it, %d do not in Prometheus either", settled, excused)
	}
}

// apart says how the parts of q differ from the whole.
func apart(t *testing.T, e promql.QueryEngine, from storage.Queryable, q querytest.Query) string {
	t.Helper()
	whole := querytest.Ask(t.Context(), e, from, q)
	if whole.Failed() != nil {
		return ""
	}
	exact := querytest.Comparison{NoStatistics: true, NoAnnotations: true}
	steps := int64(q.End.Sub(q.Start) / q.Step)
	half := q.Start.Add(time.Duration(steps/2) * q.Step)
	first := querytest.Ask(t.Context(), e, from, querytest.Between(q.Text, q.Start, half, q.Step))
	second := querytest.Ask(t.Context(), e, from, querytest.Between(q.Text, half.Add(q.Step), q.End, q.Step))
	if second.Failed() == nil && half.Before(q.End.Add(-q.Step)) {
		joined := querytest.Outcome{Result: &promql.Result{Value: querytest.Joined(first, second)}}
		if d := exact.Diff(q, joined, whole); d != "" {
			return "in two halves: " + d
		}
	}
	single := querytest.Between(q.Text, half, half, q.Step)
	step := querytest.Outcome{Result: &promql.Result{Value: querytest.StepOf(whole, half)}}
	if d := exact.Diff(single, querytest.Ask(t.Context(), e, from, single), step); d != "" {
		return "the middle step: " + d
	}
	instant := querytest.Ask(t.Context(), e, from, querytest.At(q.Text, half))
	if instant.Failed() != nil {
		return "the middle step: " + instant.Failed().Error()
	}
	if d := exact.Diff(single, querytest.Outcome{Result: &promql.Result{Value: querytest.AsMatrix(instant)}}, step); d != "" {
		return "the middle step as an instant query: " + d
	}
	return ""
}
