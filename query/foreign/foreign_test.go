// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package foreign_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/foreign"
	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/scan"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

var everything = []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")}

// fake is a storage of a series list that answers as it is told.
type fake struct {
	storage.Querier
	series   []storage.Series
	hints    []storage.SelectHints
	warnings annotations.Annotations
	err      error
	openErr  error
	closed   int
}

func (f *fake) source() *foreign.Source {
	return foreign.New(storage.QueryableFunc(func(int64, int64) (storage.Querier, error) { return f, f.openErr }))
}

func (f *fake) view(tb testing.TB, mint, maxt int64) column.View {
	tb.Helper()
	v, err := f.source().View(mint, maxt)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func (f *fake) Select(_ context.Context, _ bool, h *storage.SelectHints, _ ...*labels.Matcher) storage.SeriesSet {
	f.hints = append(f.hints, *h)
	return &fakeSet{fake: f, at: -1}
}

func (f *fake) Close() error {
	f.closed++
	return errors.New("closing")
}

type fakeSet struct {
	fake *fake
	at   int
}

func (s *fakeSet) Next() bool                        { s.at++; return s.at < len(s.fake.series) }
func (s *fakeSet) At() storage.Series                { return s.fake.series[s.at] }
func (s *fakeSet) Err() error                        { return s.fake.err }
func (s *fakeSet) Warnings() annotations.Annotations { return s.fake.warnings }

type float struct {
	t int64
	v float64
}

func (f float) ST() int64                   { return f.t - 5 }
func (f float) T() int64                    { return f.t }
func (f float) F() float64                  { return f.v }
func (float) H() *histogram.Histogram       { return nil }
func (float) FH() *histogram.FloatHistogram { return nil }
func (float) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (f float) Copy() chunks.Sample         { return f }
func series(name string, t ...int64) storage.Series {
	var s []chunks.Sample
	for _, t := range t {
		s = append(s, float{t, float64(t)})
	}
	return storage.NewListSeries(labels.FromStrings("__name__", name), s)
}

// scanned reads all series of a view in the way of a caller.
func scanned(tb testing.TB, v column.View, n column.Need) map[string][]int64 {
	tb.Helper()
	set, err := v.Series(tb.Context(), everything, column.Hint{})
	if err != nil {
		tb.Fatal(err)
	}
	out, sb := map[string][]int64{}, labels.ScratchBuilder{}
	var b column.Block
	for id := 0; id < set.N; {
		ids := make([]uint32, set.N-id)
		for i := range ids {
			ids[i] = uint32(id + i)
		}
		k, err := v.Scan(tb.Context(), set, ids, n, &b)
		if err != nil {
			tb.Fatal(err)
		}
		for i := range k {
			from, to := b.Rows(i)
			out[set.Labels(uint32(id+i), &sb).String()] = slices.Clone(b.T[from:to])
		}
		id += k
	}
	return out
}

func TestSeriesComeInLabelOrderWhateverTheStorageDoes(t *testing.T) {
	f := &fake{series: []storage.Series{series("c", 1), series("a", 2), series("b", 3), series("a", 4)}}
	v := f.view(t, 0, 10)
	set, err := v.Series(t.Context(), everything, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	sb := labels.ScratchBuilder{}
	for row := range set.N {
		got = append(got, set.Labels(uint32(row), &sb).Get("__name__"))
	}
	if diff := cmp.Diff([]string{"a", "a", "b", "c"}, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	if !slices.IsSorted(set.Text) || set.Text[0] != "" {
		t.Errorf("texts %q, want them sorted with the empty one first", set.Text)
	}
	var b column.Block
	if n, err := v.Scan(t.Context(), set, []uint32{3, 1, 0}, column.Need{}, &b); n != 3 || err != nil || !slices.Equal(b.T, []int64{1, 4, 2}) {
		t.Errorf("scan of rows 3, 1, 0 gave %d with times %v and error %v", n, b.T, err)
	}
}

func TestSamplesOutOfRangeOrOrderAreLeftOut(t *testing.T) {
	f := &fake{series: []storage.Series{series("a", -5, 1, 2, 3, 9, 12), series("b", 3, 3, 2, 8), series("c", 20), series("d")}}
	got := scanned(t, f.view(t, 0, 100), column.Need{MinT: 2, MaxT: 9})
	want := map[string][]int64{`{__name__="a"}`: {2, 3, 9}, `{__name__="b"}`: {3, 8}, `{__name__="c"}`: {}, `{__name__="d"}`: {}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if got := scanned(t, f.view(t, 2, 9), column.Need{}); len(got[`{__name__="a"}`]) != 3 {
		t.Errorf("samples in the range of the view: %v, want 3 of a", got)
	}
}

func TestLongSeriesEndAScanEarly(t *testing.T) {
	long := make([]int64, 5000)
	for i := range long {
		long[i] = int64(i + 1)
	}
	f := &fake{}
	for i := range 5 {
		f.series = append(f.series, series(fmt.Sprint(i), long...))
	}
	v := f.view(t, 0, 10000)
	set, err := v.Series(t.Context(), everything, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	var b column.Block
	n, err := v.Scan(t.Context(), set, []uint32{0, 1, 2, 3, 4}, column.Need{}, &b)
	if n != 2 || err != nil || b.Series() != 2 {
		t.Fatalf("scan gave %d series and error %v, want 2", n, err)
	}
	if got := scanned(t, v, column.Need{}); len(got) != 5 || len(got[`{__name__="4"}`]) != 5000 {
		t.Errorf("%d series, want 5 of 5000 samples", len(got))
	}
}

func TestHintsArriveAsTheyAre(t *testing.T) {
	f := &fake{}
	v := f.view(t, 7, 70)
	hints := []column.Hint{
		{},
		{MinT: 1, MaxT: 2, Limit: 3, Use: column.Use{Step: 4, Range: 5, Func: "rate", Grouping: []string{"b", "a"}, By: true}},
	}
	for _, h := range hints {
		if _, err := v.Series(t.Context(), everything, h); err != nil {
			t.Fatal(err)
		}
	}
	want := []storage.SelectHints{
		{Start: 7, End: 70},
		{Start: 1, End: 2, Limit: 3, Step: 4, Range: 5, Func: "rate", Grouping: []string{"b", "a"}, By: true},
	}
	if diff := cmp.Diff(want, f.hints); diff != "" {
		t.Errorf("hints (-want +got):\n%s", diff)
	}
}

func TestErrorsAreThoseOfTheStorage(t *testing.T) {
	broken := errors.New("storage broken")
	f := &fake{openErr: broken}
	if _, err := f.source().View(0, 1); !errors.Is(err, broken) || err.Error() != broken.Error() {
		t.Errorf("open: %v", err)
	}
	f = &fake{err: promql.ErrStorage{Err: broken}, warnings: annotations.New().Add(errors.New("half")), series: []storage.Series{series("a", 1)}}
	v := f.view(t, 0, 1)
	_, err := v.Series(t.Context(), everything, column.Hint{})
	if se := (promql.ErrStorage{}); !errors.As(err, &se) {
		t.Errorf("series: %v", err)
	}
	if w := v.Warnings(); len(w) != 1 {
		t.Errorf("warnings of a failed select: %v, want one", w)
	}
	f = &fake{series: []storage.Series{series("a", 1), &storage.SeriesEntry{
		Lset: labels.FromStrings("__name__", "b"),
		SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
			return failing{Iterator: chunkenc.NewNopIterator(), err: broken}
		},
	}}}
	v = f.view(t, 0, 1)
	set, err := v.Series(t.Context(), everything, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Scan(t.Context(), set, []uint32{0, 1}, column.Need{}, &column.Block{}); !errors.Is(err, broken) {
		t.Errorf("scan: %v", err)
	}
	if n, err := v.Scan(t.Context(), set, []uint32{0}, column.Need{}, &column.Block{}); n != 1 || err != nil {
		t.Errorf("scan of a sound series after a broken one: %d, %v", n, err)
	}
}

type failing struct {
	chunkenc.Iterator
	err error
}

func (f failing) Err() error { return f.err }

func TestViewEndsWithItsContextAndWithClose(t *testing.T) {
	f := &fake{series: []storage.Series{series("a", 1)}}
	v := f.view(t, 0, 1)
	set, err := v.Series(t.Context(), everything, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Series(ctx, everything, column.Hint{}); !errors.Is(err, context.Canceled) {
		t.Errorf("series: %v", err)
	}
	if _, err := v.Scan(ctx, set, []uint32{0}, column.Need{}, &column.Block{}); !errors.Is(err, context.Canceled) {
		t.Errorf("scan: %v", err)
	}
	if err := v.Close(); err == nil {
		t.Error("the error of Close got lost")
	}
	if err := v.Close(); err != nil || f.closed != 1 {
		t.Errorf("second Close: %v, %d calls", err, f.closed)
	}
	if _, err := v.Scan(t.Context(), set, []uint32{0}, column.Need{}, &column.Block{}); err == nil {
		t.Error("scan of a closed view")
	}
	if _, err := v.Series(t.Context(), everything, column.Hint{}); err == nil {
		t.Error("series of a closed view")
	}
}

func TestScanIsChargedToTheBudget(t *testing.T) {
	f := &fake{series: []storage.Series{series("a", 1, 2, 3)}}
	v := f.view(t, 0, 10)
	set, err := v.Series(t.Context(), everything, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	b := column.Block{Budget: budget.NewRoot("query", 100)}
	_, err = v.Scan(t.Context(), set, []uint32{0}, column.Need{}, &b)
	if ee := (*budget.ExceededError)(nil); !errors.As(err, &ee) {
		t.Errorf("scan with 100 bytes: %v", err)
	}
}

func TestStartTimestampsComeOnDemand(t *testing.T) {
	f := &fake{series: []storage.Series{series("a", 10, 20)}}
	v := f.view(t, 0, 100)
	set, err := v.Series(t.Context(), everything, column.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	var b column.Block
	for _, st := range []bool{false, true} {
		if _, err := v.Scan(t.Context(), set, []uint32{0}, column.Need{MaxT: 100, ST: st}, &b); err != nil {
			t.Fatal(err)
		}
		if got := b.STAt(1); st && got != 15 || !st && got != 0 {
			t.Errorf("wanted %t: start timestamp %d", st, got)
		}
	}
}

const script = `
load 30s
  m{i="1"} 0+3x60 stale _x20 5 6 7
  m{i="2"} _x10 1 2 3 _x30 4 5 6
  h{i="1"} {{schema:0 count:5 sum:2 buckets:[1 2 2] counter_reset_hint:not_reset}}+{{schema:0 count:3 sum:1 buckets:[1 1 1]}}x40 stale {{schema:1 count:2 sum:2 buckets:[2]}}x10
  h{i="2"} {{schema:0 count:5 sum:2 buckets:[1 2 2] counter_reset_hint:gauge}}x300
  h{i="3"} {{schema:0 count:5 sum:2 buckets:[1 2 2]}}+{{schema:0 count:3 sum:1 buckets:[1 1 1]}}x200 1 2 3
`

func TestSelectorsOverPrometheusStorageAreThoseOfPrometheus(t *testing.T) {
	store := promqltest.LoadedStorage(t, script)
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1e6)
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		g := vector.Grid{Start: r.Int64N(4000) * 1000, Step: (1 + r.Int64N(300)) * 1000, N: 2 + r.IntN(40)}
		for _, name := range []string{"m", "h"} {
			q, err := engine.NewRangeQuery(t.Context(), store, nil, name, time.UnixMilli(g.Start), time.UnixMilli(g.End()), time.Duration(g.Step)*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			res := q.Exec(t.Context())
			want, err := res.Matrix()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text(want), text(rows(t, store, name, g))); diff != "" {
				t.Fatalf("%s %v differs (-want +got):\n%s", name, g, diff)
			}
			q.Close()
		}
	}
}

// rows evaluates a selector with our operators.
func rows(t *testing.T, q storage.Queryable, name string, g vector.Grid) promql.Matrix {
	t.Helper()
	const lookback = 300_000
	v, err := foreign.New(q).View(g.Start-lookback+1, g.End())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	env := &operator.Env{View: v, Dict: vector.NewDict(), Account: budget.NewRoot("query", 0)}
	env.LookbackDelta = lookback
	n := scan.NewInstant(env, scan.Selector{Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", name)}}, g)
	defer n.Close()
	if err := n.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var m promql.Matrix
	var sb labels.ScratchBuilder
	err = env.Drain(t.Context(), n, nil, func(b *vector.Batch) error {
		for i := range b.Rows() {
			s := promql.Series{Metric: n.Table().Labels(b.IDs[i], &sb)}
			v, k, h := b.Row(i)
			for j := range v {
				switch k[j] {
				case vector.Float:
					s.Floats = append(s.Floats, promql.FPoint{T: g.At(j), F: v[j]})
				case vector.Histogram:
					s.Histograms = append(s.Histograms, promql.HPoint{T: g.At(j), H: h[j]})
				case vector.Absent:
				}
			}
			m = append(m, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func text(m promql.Matrix) map[string]string {
	out := map[string]string{}
	for _, s := range m {
		hints := ""
		for _, p := range s.Histograms {
			hints += fmt.Sprint(p.H.CounterResetHint)
		}
		out[s.Metric.String()] = s.String() + hints
	}
	return out
}
