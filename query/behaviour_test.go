// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// bothEngines runs check for Prometheus' engine, which shows that the check is right, and for ours.
func bothEngines(t *testing.T, o query.Options, check func(t *testing.T, e promql.QueryEngine)) {
	t.Helper()
	t.Run("reference", func(t *testing.T) { check(t, querytest.NewReference(o)) })
	t.Run("engine", func(t *testing.T) { check(t, newEngine(t, nil, o)) })
}

// faulty is a storage that breaks at a stage of reading; each stage is skipped where its function is nil.
type faulty struct {
	storage.Queryable
	querier  func() error
	selected func(context.Context) error
	sample   func() error
}

func (f faulty) Querier(mint, maxt int64) (storage.Querier, error) {
	if f.querier != nil {
		return nil, f.querier()
	}
	q, err := f.Queryable.Querier(mint, maxt)
	return faultyQuerier{q, f}, err
}

type faultyQuerier struct {
	storage.Querier
	f faulty
}

func (q faultyQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	if q.f.selected != nil {
		if err := q.f.selected(ctx); err != nil {
			return storage.ErrSeriesSet(err)
		}
	}
	return faultySet{q.Querier.Select(ctx, sorted, h, ms...), q.f}
}

type faultySet struct {
	storage.SeriesSet
	f faulty
}

func (s faultySet) At() storage.Series { return faultySeries{s.SeriesSet.At(), s.f} }

type faultySeries struct {
	storage.Series
	f faulty
}

func (s faultySeries) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return faultyIterator{s.Series.Iterator(nil), s.f}
}

type faultyIterator struct {
	chunkenc.Iterator
	f faulty
}

func (i faultyIterator) Next() chunkenc.ValueType {
	if i.f.sample != nil && i.f.sample() != nil {
		return chunkenc.ValNone
	}
	return i.Iterator.Next()
}

func (i faultyIterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator has it so
	if i.f.sample != nil && i.f.sample() != nil {
		return chunkenc.ValNone
	}
	return i.Iterator.Seek(t)
}

func (i faultyIterator) Err() error {
	if i.f.sample != nil {
		return i.f.sample()
	}
	return i.Iterator.Err()
}

func minutes(tb testing.TB) storage.Queryable {
	tb.Helper()
	d := querytest.DataSet{}
	for _, job := range []string{"a", "b"} {
		s := querytest.Series{Labels: labels.FromStrings("__name__", "m", "job", job)}
		for i := range int64(20) {
			s.Samples = append(s.Samples, querytest.Sample{T: i * 60_000, V: float64(i)})
		}
		d.Series = append(d.Series, s)
	}
	s := querytest.NewModel(tb)
	if err := d.Load(tb.Context(), s); err != nil {
		tb.Fatal(err)
	}
	return s
}

// readers are queries that read the storage in every way there is.
func readers() []querytest.Query {
	var all []querytest.Query
	for _, text := range []string{
		"m", "m[3m]", "rate(m[3m])", "sum(m)", "sum by (job) (rate(m[3m]))", "m + on (job) m", "max_over_time(m[5m:1m])", "m @ 300",
		"topk(1, m)", "histogram_quantile(0.5, m)", "info(m)", "absent(m)", "count_values(\"v\", m)", "timestamp(m)", "m smoothed", "scalar(m) + vector(1)",
	} {
		all = append(all, querytest.At(text, time.UnixMilli(600_000)))
		if text != "m[3m]" {
			all = append(all, querytest.Between(text, time.UnixMilli(0), time.UnixMilli(1_200_000), time.Minute))
		}
	}
	return all
}

func TestErrorsOfTheStorageAreTheQuerys(t *testing.T) {
	cause := errors.New("disk on fire")
	fail := func() error { return cause }
	good := minutes(t)
	o := querytest.SuiteOptions()
	pair := querytest.Pair{Got: newEngine(t, nil, o), Want: querytest.NewReference(o)}
	for name, bad := range map[string]faulty{
		"querier":       {Queryable: good, querier: fail},
		"select":        {Queryable: good, selected: func(context.Context) error { return cause }},
		"wrapped":       {Queryable: good, selected: func(context.Context) error { return promql.ErrStorage{Err: cause} }},
		"sample":        {Queryable: good, sample: fail},
		"panic: error":  {Queryable: good, sample: func() error { panic(cause) }},
		"panic: bounds": {Queryable: good, sample: func() error { return []error{nil}[len(t.Name())] }},
	} {
		for _, q := range readers() {
			v := pair.Judge(t.Context(), bad, bad, q)
			if v.Diff != "" || v.Open || v.Want.Failed() == nil {
				t.Errorf("%s: %s\n%s\n(open: %v, error: %v)", name, q, v.Diff, v.Open, v.Want.Failed())
			}
			kept := name == "querier" || name == "select" || name == "sample" || name == "panic: error" // ErrStorage unwraps to nothing
			if got := querytest.Ask(t.Context(), pair.Got, bad, q); kept && !errors.Is(got.Failed(), cause) {
				t.Errorf("%s: %s: error %v does not wrap the cause", name, q, got.Failed())
			}
		}
	}
	for _, q := range readers() {
		if v := pair.Judge(t.Context(), good, good, q); v.Diff != "" || v.Want.Failed() != nil {
			t.Errorf("afterwards: %s\n%s, error %v", q, v.Diff, v.Want.Failed())
		}
	}
}

func TestAPanicOfTheStorageIsTheQuerysError(t *testing.T) {
	var none []int
	for want, fail := range map[string]func(){
		"broken": func() { panic(errors.New("broken")) },
		"text":   func() { panic("text") },
		"unexpected error: runtime error: index out of range [3] with length 0": func() { none[3]++ },
	} {
		bad := faulty{Queryable: minutes(t), sample: func() error { fail(); return nil }}
		bothEngines(t, querytest.SuiteOptions(), func(t *testing.T, e promql.QueryEngine) {
			for _, q := range readers() {
				if err := querytest.Ask(t.Context(), e, bad, q).Failed(); err == nil || err.Error() != want {
					t.Errorf("%s: error %v, want %s", q, err, want)
				}
			}
		})
	}
}

func TestQueryEndsWhenItsTimeIsOver(t *testing.T) {
	o := querytest.SuiteOptions()
	o.Timeout = 10 * time.Millisecond
	slow := faulty{Queryable: minutes(t), selected: func(ctx context.Context) error { <-ctx.Done(); return nil }}
	bothEngines(t, o, func(t *testing.T, e promql.QueryEngine) {
		for _, q := range readers() {
			var timeout promql.ErrQueryTimeout
			if err := querytest.Ask(t.Context(), e, slow, q).Failed(); !errors.As(err, &timeout) || err.Error() != "query timed out in expression evaluation" {
				t.Errorf("%s: error %v", q, err)
			}
		}
	})
}

func TestCancelEndsARunningQuery(t *testing.T) {
	bothEngines(t, querytest.SuiteOptions(), func(t *testing.T, e promql.QueryEngine) {
		for _, text := range []string{"m", "rate(m[3m])", "sum(m)", "m + on (job) m", "max_over_time(m[5m:1m])"} {
			reached := make(chan struct{}, 8)
			slow := faulty{Queryable: minutes(t), selected: func(ctx context.Context) error {
				reached <- struct{}{}
				<-ctx.Done()
				return nil
			}}
			q, err := e.NewInstantQuery(t.Context(), slow, nil, text, time.UnixMilli(600_000))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-reached
				q.Cancel()
			}()
			var canceled promql.ErrQueryCanceled
			if r := q.Exec(t.Context()); !errors.As(r.Err, &canceled) || r.Err.Error() != "query was canceled in expression evaluation" {
				t.Errorf("%s: error %v", text, r.Err)
			}
			q.Close()
		}
	})
}

func TestCancelEndsWhatOnlyComputes(t *testing.T) {
	o := querytest.SuiteOptions()
	o.MaxSamples = query.DefaultMaxSamples
	bothEngines(t, o, func(t *testing.T, e promql.QueryEngine) {
		for _, text := range []string{
			"sum_over_time(sum_over_time(vector(1)[10m:100ms])[100m:1s])",
			"quantile_over_time(0.5, (m + on (job) m)[1000m:20ms])",
		} {
			ctx, cancel := context.WithCancel(t.Context())
			q, err := e.NewInstantQuery(ctx, minutes(t), nil, text, time.UnixMilli(600_000))
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			stop := time.AfterFunc(20*time.Millisecond, cancel)
			r := q.Exec(ctx)
			took := time.Since(begun)
			var canceled promql.ErrQueryCanceled
			if stop.Stop() {
				t.Logf("%s was done before it could be canceled", text)
			} else if !errors.As(r.Err, &canceled) || took > raceFactor*time.Second {
				t.Errorf("%s: error %v, took %v though canceled after 20ms", text, r.Err, took)
			}
			q.Close()
			cancel()
		}
	})
}

func TestCancelBeforeTheStartHasNoEffect(t *testing.T) {
	bothEngines(t, querytest.SuiteOptions(), func(t *testing.T, e promql.QueryEngine) {
		q, err := e.NewInstantQuery(t.Context(), minutes(t), nil, "sum(m)", time.UnixMilli(600_000))
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		q.Cancel()
		if r := q.Exec(t.Context()); r.Err != nil || r.String() != "{} => 20 @[600000]" {
			t.Fatalf("%s, error %v", r, r.Err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := querytest.Ask(ctx, e, minutes(t), querytest.At("sum(m)", time.UnixMilli(600_000))).Failed(); err == nil || err.Error() != "query was canceled in query execution" {
			t.Fatalf("error %v with a context that is over", err)
		}
	})
}

func TestQueryTellsWhatItIs(t *testing.T) {
	bothEngines(t, querytest.SuiteOptions(), func(t *testing.T, e promql.QueryEngine) {
		start, end := time.UnixMilli(0), time.UnixMilli(600_000)
		q, err := e.NewRangeQuery(t.Context(), minutes(t), promql.NewPrometheusQueryOpts(true, 7*time.Minute), " sum( m )", start, end, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		s, ok := q.Statement().(*parser.EvalStmt)
		if !ok || q.String() != " sum( m )" || !s.Start.Equal(start) || !s.End.Equal(end) || s.Interval != time.Minute || s.LookbackDelta != 7*time.Minute {
			t.Fatalf("query %q, statement %+v", q, q.Statement())
		}
		if r := q.Exec(t.Context()); r.Err != nil {
			t.Fatal(r.Err)
		}
		if st := stats.NewQueryStats(q.Stats()).Builtin(); st.Samples == nil || st.Samples.TotalQueryableSamples == 0 || st.Timings.ExecTotalTime <= 0 {
			t.Fatalf("statistics %+v", st)
		}
	})
}

func TestLookbackIsTheQuerysElseTheEngines(t *testing.T) {
	o := querytest.SuiteOptions()
	o.LookbackDelta = 2 * time.Minute
	bothEngines(t, o, func(t *testing.T, e promql.QueryEngine) {
		check := func(opts promql.QueryOpts, seen time.Duration) {
			t.Helper()
			last := time.UnixMilli(19 * 60_000)
			for d, want := range map[time.Duration]int{0: 2, seen - time.Millisecond: 2, seen: 0} {
				q := querytest.At("m", last.Add(d))
				q.Opts = opts
				o := querytest.Ask(t.Context(), e, minutes(t), q)
				if o.Failed() != nil || len(o.Result.Value.(promql.Vector)) != want {
					t.Errorf("%v after the last sample: %v, error %v; want %d series", d, o.Result, o.Failed(), want)
				}
			}
		}
		check(nil, 2*time.Minute)
		check(promql.NewPrometheusQueryOpts(false, 0), 2*time.Minute)
		check(promql.NewPrometheusQueryOpts(false, 30*time.Second), 30*time.Second)
		check(promql.NewPrometheusQueryOpts(false, time.Hour), time.Hour)
	})
}

func TestLanguageFeaturesAreRefusedWhereTheyAreOff(t *testing.T) {
	o := query.Options{}
	pair := querytest.Pair{Got: newEngine(t, nil, o), Want: querytest.NewReference(o)}
	for _, text := range []string{
		"limitk(1, m)", "info(m)", "rate(m[3m] anchored)", "m smoothed", "m + fill (0) m", "max_of(1, 2)", "m{", "", "sum(m", "m[5m", "rate(m)",
		"m offset 5m offset 5m", "m @ 5 @ 6", "1 and m", "m == bool on (job) group_left m group_right m", "count_values(m)", "sort_by_label(m)", "m[0s]", "m[5m:0s]",
	} {
		v := pair.Judge(t.Context(), minutes(t), minutes(t), querytest.At(text, time.UnixMilli(0)))
		if v.Diff != "" || v.Want.Refused == nil {
			t.Errorf("%q: %s, refused with %v", text, v.Diff, v.Want.Refused)
		}
	}
}

// Warnings of the storage are the query's, beside its own.
func TestWarningsOfTheStorageAreTheQuerys(t *testing.T) {
	bothEngines(t, querytest.SuiteOptions(), func(t *testing.T, e promql.QueryEngine) {
		for _, q := range readers() {
			if q.Text == "scalar(m) + vector(1)" {
				continue
			}
			o := querytest.Ask(t.Context(), e, warning{minutes(t)}, q)
			ws, _ := o.Result.Warnings.AsStrings(q.Text, 0, 0)
			found := false
			for _, w := range ws {
				found = found || w == "half of it is missing"
			}
			if o.Failed() != nil || !found {
				t.Errorf("%s: warnings %q, error %v", q, ws, o.Failed())
			}
		}
	})
}

// warning is a storage whose answers carry a warning.
type warning struct{ storage.Queryable }

func (w warning) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := w.Queryable.Querier(mint, maxt)
	return warningQuerier{q}, err
}

type warningQuerier struct{ storage.Querier }

func (q warningQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return warningSet{q.Querier.Select(ctx, sorted, h, ms...)}
}

type warningSet struct{ storage.SeriesSet }

func (warningSet) Warnings() annotations.Annotations {
	return annotations.New().Add(errors.New("half of it is missing"))
}
