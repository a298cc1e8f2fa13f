// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

const countedData = `
load 10s
  a{x="1"} 1+1x100
  a{x="2"} 1+2x40 _x10 stale 1+1x60
  b{x="1", y="1"} 1+1x100
  b{x="1", y="2"} 5+1x20 _x60 3+1x20
  h{x="1"} {{schema:1 count:5 sum:20 buckets:[1 2 1 1]}}+{{schema:1 count:10 sum:5 buckets:[1 2 3 4]}}x100
  mixed 1 2 3 {{schema:1 count:5 sum:20 buckets:[1 2 1 1]}}x10 4 5 6
  c_bucket{le="1"} 0+1x100
  c_bucket{le="2"} 0+2x100
  c_bucket{le="+Inf"} 0+3x100
  target_info{instance="i", job="j", k="v"} 1x100
  m{instance="i", job="j"} 0+1x100
`

// counted are queries of every kind that the statistics tell apart.
var counted = []string{
	"1", "1 + 2 * 3", "time()", "vector(1)", "-a", "+a", "a", "h", "mixed", "a @ 100", "a offset 1m", "h @ 100 offset -1m",
	"a smoothed", "h smoothed", "a[1m]", "h[1m]", "mixed[1m]", "a[1m] @ 100", "a[1m] anchored", "a[1m] smoothed",
	"rate(a[1m])", "rate(h[1m])", "rate(mixed[1m])", "rate(a[1m] @ 100)", "rate(a[5s])", "rate(a[1m] anchored)",
	"increase(a[1m] smoothed)", "quantile_over_time(0.5, a[2m])", "absent_over_time(a[1m])", "absent_over_time(nothing[1m])",
	"predict_linear(a[1m] @ 100, 60)", "last_over_time(h[35s])", "timestamp(a)", "timestamp(a @ 100)", "timestamp(a @ 500 offset 5m)", "timestamp(a @ 500 offset -1m)", "timestamp(a @ 500 offset 2m)",
	"timestamp(-a)", "timestamp(h)",
	"start_timestamp(a)", "sum(a)", "sum by (x) (a)", "topk(1, a)", "topk(0, a)", "quantile(0.5, a)", "count_values('v', a)", "sum(h)",
	"avg(rate(a[1m]))", "limitk(1, a)", "a + b", "a + on (x) group_right b", "a > 50", "a and b", "a or b", "a unless on (x) b",
	"a * 2", "2 - a", "a == bool a", "h + h", "h * 2", "absent(a)", "absent(nothing)", "scalar(a)", "scalar(m) + a", "clamp(a, 1, 5)",
	"label_replace(a, 'z', '$1', 'x', '(.*)')", "label_join(a, 'z', '-', 'x')", "sort(a)", "histogram_quantile(0.9, rate(c_bucket[1m]))",
	"histogram_quantile(0.9, h)", "histogram_count(h)", "histogram_sum(rate(h[1m]))", "info(m)", "sum(info(m))", "hour()", "hour(a)",
	"a[1m:5s]", "rate(a[1m:5s])", "rate(a[1m:15s] offset 20s)", "rate(a[10s:1s] @ 100)", "max_over_time(h[1m:5s])", "a[1m:5s] @ 100",
	"rate(a[10s:1s] @ 100) + rate(a[10s:1s] @ 300)", "rate(a[10s:1s]) + rate(a[10s:1s] @ 30)", "max_over_time(rate(a[1m])[3m:20s])",
	"rate(rate(b[10:1s] @ 100)[100s:25s] @ 1000)[100s:20s] @ 2000", "max_over_time(sum(rate(a[1m]))[5m:30s] offset 1m)",
	"max_over_time((a @ 100)[1m:10s])", "max_over_time(h[61s])[20s:5s]", "sum_over_time(rate(a[20s:10s])[10s:5s])",
	"quantile_over_time(scalar(m), a[1m:10s])", "sum(a) / count(a)", "sum(a + a)", "a + a + a", "max(a) - min(a)", "rate(a[1m]) / rate(a[1m])",
	"sum(rate(a[1m])) + sum(rate(b[1m]))", "a - a offset 1m", "nothing", "sum(nothing)", "rate(nothing[1m])", "a @ start()", "pi() * a", "'text'",
	"max_of(1, 2)", "max_over_time(timestamp(a)[1m:10s])", "histogram_fraction(0, 1, h)", "a[1m:5s] offset 5m", "vector(scalar(sum(a)))",
}

// counts are the statistics of one run.
type counts struct {
	Total, Read int64
	Peak        int
	PerStep     []int64
}

type asked struct {
	text       string
	start, end time.Time
	step       time.Duration
}

func (a asked) run(t *testing.T, e promql.QueryEngine, st storage.Queryable) (c counts, err error) {
	t.Helper()
	o := promql.NewPrometheusQueryOpts(true, 0)
	var q promql.Query
	if a.step == 0 {
		q, err = e.NewInstantQuery(t.Context(), st, o, a.text, a.start)
	} else {
		q, err = e.NewRangeQuery(t.Context(), st, o, a.text, a.start, a.end, a.step)
	}
	if err != nil {
		return c, err
	}
	defer q.Close()
	res := q.Exec(t.Context())
	s := q.Stats().Samples
	return counts{s.TotalSamples, s.SamplesRead, s.PeakSamples, s.TotalSamplesPerStep}, res.Err
}

// askedOf returns the ways in which each query is evaluated.
func askedOf(text string) []asked {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	return []asked{
		{text: text, start: at(100)},
		{text: text, start: at(1005)},
		{text: text, start: at(5)},
		{text, at(0), at(200), 10 * time.Second},
		{text, at(100), at(1234), 45 * time.Second},
		{text, at(100), at(900), 5 * time.Minute},
		{text, at(100), at(110), time.Minute},
	}
}

// inOrder is a storage that always sorts its series, because the peak depends on their order.
type inOrder struct{ storage.Querier }

func (q inOrder) Select(ctx context.Context, _ bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(ctx, true, h, ms...)
}

// countedStorage returns countedData in Prometheus' storage.
func countedStorage(t *testing.T) storage.Queryable {
	t.Helper()
	st := promqltest.LoadedStorage(t, countedData)
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return storage.QueryableFunc(func(mint, maxt int64) (storage.Querier, error) {
		q, err := st.Querier(mint, maxt)
		return inOrder{q}, err
	})
}

func TestSampleStatisticsAreThoseOfPrometheus(t *testing.T) {
	st := countedStorage(t)
	ours, theirs := newEngine(t), newEngine(t).reference()
	defer func() {
		if err := theirs.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, text := range counted {
		for _, a := range askedOf(text) {
			want, wantErr := a.run(t, theirs, st)
			got, err := a.run(t, ours, st)
			if (err != nil) != (wantErr != nil) {
				t.Errorf("%+v: error %v, want %v", a, err, wantErr)
			}
			if wantErr != nil {
				continue
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s at %d..%d/%s (-want +got):\n%s", text, a.start.Unix(), a.end.Unix(), a.step, diff)
			}
		}
	}
}

func TestTheLimitOfSamplesIsHitWherePrometheusHitsIt(t *testing.T) {
	st := countedStorage(t)
	for _, text := range counted {
		for _, a := range askedOf(text) {
			free := newEngine(t)
			all, err := a.run(t, free, st)
			if err != nil {
				continue
			}
			for _, limit := range []int{all.Peak, all.Peak - 1, all.Peak / 2} {
				if limit <= 0 {
					continue
				}
				ours := newEngine(t)
				ours.options.MaxSamples = limit
				theirs := ours.reference()
				_, want := a.run(t, theirs, st)
				_, got := a.run(t, ours, st)
				if err := theirs.Close(); err != nil {
					t.Error(err)
				}
				if !sameError(got, want) {
					t.Errorf("%s at %d..%d/%s with %d samples: error %v, want %v", text, a.start.Unix(), a.end.Unix(), a.step, limit, got, want)
				}
			}
		}
	}
}

func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Error() == b.Error()
}
