// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package queryable_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

func name(i int) labels.Labels { return labels.FromStrings("__name__", fmt.Sprintf("m_%03d", i)) }

func all() *labels.Matcher { return labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+") }

// row is one sample as an iterator gives it, for comparison.
type row struct {
	ST, T int64
	Kind  string
	Hint  histogram.CounterResetHint
	Value string
}

func rows(tb testing.TB, it chunkenc.Iterator) []row {
	tb.Helper()
	var out []row
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		r := row{ST: it.AtST(), T: it.AtT(), Kind: kind.String()}
		switch kind {
		case chunkenc.ValHistogram:
			_, h := it.AtHistogram(nil)
			r.Hint, r.Value = h.CounterResetHint, h.String()
		case chunkenc.ValFloatHistogram:
			_, h := it.AtFloatHistogram(nil)
			r.Hint, r.Value = h.CounterResetHint, h.String()
		default:
			_, v := it.At()
			r.Value = fmt.Sprint(v)
		}
		out = append(out, r)
	}
	if err := it.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

func numbered(n, samples int) *columntest.Store {
	store := &columntest.Store{}
	for i := range n {
		for k := range samples {
			store.Append(name(i), columntest.Sample{T: int64(k) * 1000, V: float64(i*1000 + k)})
		}
	}
	return store
}

func openQuerier(tb testing.TB, src column.Source, mint, maxt int64) storage.Querier {
	tb.Helper()
	q, err := queryable.New(src).Querier(mint, maxt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := q.Close(); err != nil {
			tb.Error(err)
		}
	})
	return q
}

func TestSelectGivesEverySeriesInLabelOrderWithItsSamples(t *testing.T) {
	q := openQuerier(t, numbered(150, 5), 1000, 3000)
	set := q.Select(t.Context(), false, nil, all())
	n := 0
	for ; set.Next(); n++ {
		se := set.At()
		if got, want := se.Labels().String(), name(n).String(); got != want {
			t.Fatalf("series %d is %s, want %s", n, got, want)
		}
		var want []row
		for k := 1; k <= 3; k++ {
			want = append(want, row{T: int64(k) * 1000, Kind: "float", Value: fmt.Sprint(float64(n*1000 + k))})
		}
		if diff := cmp.Diff(want, rows(t, se.Iterator(nil))); diff != "" {
			t.Fatalf("samples of series %d differ (-want +got):\n%s", n, diff)
		}
	}
	if set.Err() != nil || n != 150 {
		t.Fatalf("got %d series and error %v, want 150", n, set.Err())
	}
}

func TestIteratorsThatAreKeptStayValidWhileOthersAreDecoded(t *testing.T) {
	q := openQuerier(t, numbered(200, 4), 0, 10000)
	var kept []chunkenc.Iterator
	var reused chunkenc.Iterator
	for set := q.Select(t.Context(), true, nil, all()); set.Next(); {
		se := set.At()
		kept = append(kept, se.Iterator(nil))
		reused = se.Iterator(reused)
		if got := rows(t, reused); len(got) != 4 {
			t.Fatalf("%d rows for %s, want 4", len(got), se.Labels())
		}
	}
	for i, it := range kept {
		got := rows(t, it)
		if want := fmt.Sprint(float64(i*1000 + 3)); len(got) != 4 || got[3].Value != want {
			t.Fatalf("iterator %d: %v, want the last value %s", i, got, want)
		}
	}
}

func TestSeriesCanBeReadInAnyOrderAndTwice(t *testing.T) {
	q := openQuerier(t, numbered(40, 3), 0, 10000)
	var list []storage.Series
	for set := q.Select(t.Context(), true, nil, all()); set.Next(); {
		list = append(list, set.At())
	}
	var it chunkenc.Iterator
	for _, i := range []int{39, 0, 20, 20, 3, 39, 1} {
		it = list[i].Iterator(it)
		if got := rows(t, it); len(got) != 3 || got[0].Value != fmt.Sprint(float64(i*1000)) {
			t.Fatalf("series %d: %v", i, got)
		}
	}
}

func TestHintsNarrowTheRangeAndTheNumberOfSeries(t *testing.T) {
	q := openQuerier(t, numbered(10, 10), 0, 10000)
	set := q.Select(t.Context(), true, &storage.SelectHints{Start: 2000, End: 3000, Limit: 4}, all())
	n := 0
	for ; set.Next(); n++ {
		if got := rows(t, set.At().Iterator(nil)); len(got) != 2 || got[0].T != 2000 {
			t.Fatalf("rows %v, want those of 2000 and 3000", got)
		}
	}
	if n != 4 {
		t.Fatalf("%d series, want 4", n)
	}
	if q.Select(t.Context(), true, &storage.SelectHints{Start: 20000, End: 30000}, all()).Next() {
		t.Fatal("a range outside that of the querier gave a series")
	}
}

func TestScanErrorIsTheIteratorsError(t *testing.T) {
	store := numbered(3, 3)
	store.ScanErr = errors.New("disk gone")
	q := openQuerier(t, store, 0, 10000)
	set := q.Select(t.Context(), true, nil, all())
	if !set.Next() {
		t.Fatal("no series")
	}
	it := set.At().Iterator(nil)
	if kind := it.Next(); kind != chunkenc.ValNone {
		t.Fatalf("Next gave %s, want none", kind)
	}
	if kind := it.Seek(0); kind != chunkenc.ValNone {
		t.Fatalf("Seek gave %s, want none", kind)
	}
	if !errors.Is(it.Err(), store.ScanErr) {
		t.Fatalf("error %v, want %v", it.Err(), store.ScanErr)
	}
}

func TestCancelledContextEndsTheSelect(t *testing.T) {
	q := openQuerier(t, numbered(3, 3), 0, 10000)
	ctx, cancel := context.WithCancel(t.Context())
	set := q.Select(ctx, true, nil, all())
	if !set.Next() {
		t.Fatal("no series")
	}
	se := set.At()
	cancel()
	if it := se.Iterator(nil); it.Next() != chunkenc.ValNone || !errors.Is(it.Err(), context.Canceled) {
		t.Fatalf("error %v, want that of the context", it.Err())
	}
	if set := q.Select(ctx, true, nil, all()); set.Next() || !errors.Is(set.Err(), context.Canceled) {
		t.Fatalf("error %v, want that of the context", set.Err())
	}
}

func TestWarningsOfScansAreThereWhenTheQueryIsDone(t *testing.T) {
	store := numbered(3, 3)
	store.Warning = errors.New("block quarantined")
	q := openQuerier(t, store, 0, 10000)
	set := q.Select(t.Context(), true, nil, all())
	set.Next()
	rows(t, set.At().Iterator(nil))
	if got := q.(*queryable.Querier).Warnings(); len(got) != 1 {
		t.Fatalf("warnings %v, want one", got)
	}
}

func TestCloseReleasesTheViewOnce(t *testing.T) {
	store := numbered(1, 1)
	q, err := queryable.New(store).ChunkQuerier(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(q.Close(), q.Close()); err != nil {
		t.Fatal(err)
	}
	if n := store.OpenViews(); n != 0 {
		t.Fatalf("%d views are open", n)
	}
}

// plainView hides the optional interfaces of a view.
type plainView struct{ column.View }

type plainSource struct{ column.Source }

func (s plainSource) View(mint, maxt int64) (column.View, error) {
	v, err := s.Source.View(mint, maxt)
	return plainView{v}, err
}

func TestLabelsComeFromTheReaderOrFromTheSeries(t *testing.T) {
	store := &columntest.Store{}
	for i, job := range []string{"a", "b", "c"} {
		store.Append(labels.FromStrings("__name__", "up", "job", job), columntest.Sample{T: int64(i)})
	}
	check := func(src column.Source) {
		t.Helper()
		q := openQuerier(t, src, 0, 10)
		notB := labels.MustNewMatcher(labels.MatchNotEqual, "job", "b")
		names, _, err := q.LabelNames(t.Context(), nil, notB)
		if diff := cmp.Diff([]string{"__name__", "job"}, names); diff != "" || err != nil {
			t.Fatalf("names: %v\n%s", err, diff)
		}
		values, _, err := q.LabelValues(t.Context(), "job", nil, notB)
		if diff := cmp.Diff([]string{"a", "c"}, values); diff != "" || err != nil {
			t.Fatalf("values: %v\n%s", err, diff)
		}
		values, _, err = q.LabelValues(t.Context(), "job", &storage.LabelHints{Limit: 2})
		if diff := cmp.Diff([]string{"a", "b"}, values); diff != "" || err != nil {
			t.Fatalf("limited values: %v\n%s", err, diff)
		}
		names, _, err = q.LabelNames(t.Context(), &storage.LabelHints{Limit: 1})
		if diff := cmp.Diff([]string{"__name__"}, names); diff != "" || err != nil {
			t.Fatalf("limited names: %v\n%s", err, diff)
		}
		values, _, err = q.LabelValues(t.Context(), "none", nil)
		if len(values) > 0 || err != nil {
			t.Fatalf("values of an unknown label: %v, %v", values, err)
		}
	}
	check(store)
	check(plainSource{store})
}

func TestExemplarsAreThoseOfTheMatchingSeries(t *testing.T) {
	store := &columntest.Store{}
	e := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "x"), Value: 1, Ts: 5, HasTs: true}
	store.AppendExemplar(name(0), e)
	store.AppendExemplar(name(1), e)
	check := func(src column.Source, want []exemplar.QueryResult) {
		t.Helper()
		q, err := queryable.New(src).ExemplarQuerier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := q.Select(0, 10, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "m_001")})
		if err != nil || len(got) != len(want) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
		for i := range got {
			if !labels.Equal(got[i].SeriesLabels, want[i].SeriesLabels) || !got[i].Exemplars[0].Equals(want[i].Exemplars[0]) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	}
	check(store, []exemplar.QueryResult{{SeriesLabels: name(1), Exemplars: []exemplar.Exemplar{e}}})
	check(plainSource{store}, nil)
	if n := store.OpenViews(); n != 0 {
		t.Fatalf("%d views are open", n)
	}
}

func TestChunksHoldTheSamplesOfTheSeries(t *testing.T) {
	// The first histogram of a chunk has no hint.
	ignoreHint := cmpopts.IgnoreFields(row{}, "Hint")
	store := mixed()
	q, err := queryable.New(store).ChunkQuerier(0, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	want := openQuerier(t, store, 0, 1e9).Select(t.Context(), true, nil, all())
	got := storage.NewSeriesSetFromChunkSeriesSet(q.Select(t.Context(), true, nil, all()))
	for want.Next() {
		if !got.Next() {
			t.Fatalf("no chunks for %s: %v", want.At().Labels(), got.Err())
		}
		if diff := cmp.Diff(rows(t, want.At().Iterator(nil)), rows(t, got.At().Iterator(nil)), ignoreHint); diff != "" {
			t.Fatalf("samples of %s differ (-series +chunks):\n%s", want.At().Labels(), diff)
		}
	}
	if got.Next() || got.Err() != nil {
		t.Fatalf("more chunks than series, or error %v", got.Err())
	}
}

// mixed holds series of floats, integer and float histograms, and start timestamps.
func mixed() *columntest.Store {
	store := &columntest.Store{}
	for k := range int64(150) {
		t := k * 15000
		store.Append(name(0), columntest.Sample{T: t, V: float64(k)})
		store.Append(name(1), columntest.Sample{T: t, H: tsdbutil.GenerateTestHistogram(k)})
		store.Append(name(2), columntest.Sample{T: t, FH: tsdbutil.GenerateTestFloatHistogram(k % 40)})
		store.Append(name(3), columntest.Sample{T: t, ST: t - 10, V: float64(k)})
		if k%50 < 20 {
			store.Append(name(4), columntest.Sample{T: t, V: 1})
		} else {
			store.Append(name(4), columntest.Sample{T: t, H: tsdbutil.GenerateTestHistogram(k)})
		}
	}
	return store
}

func TestSeekFindsWhatAWalkFinds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		store := &columntest.Store{}
		times := rapid.SliceOfNDistinct(rapid.Int64Range(0, 300), 0, 60, rapid.ID).Draw(rt, "times")
		for _, ts := range times {
			store.Append(name(0), columntest.Sample{T: ts, V: float64(ts)})
		}
		store.Append(name(1), columntest.Sample{T: 1})
		q, err := queryable.New(store).Querier(0, 300)
		if err != nil {
			rt.Fatal(err)
		}
		defer q.Close()
		set := q.Select(t.Context(), true, nil, all())
		set.Next()
		se := set.At()
		seeker, walker := se.Iterator(nil), se.Iterator(nil)
		onRow := false
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			var got, want chunkenc.ValueType
			if rapid.Bool().Draw(rt, "next") {
				got, want = seeker.Next(), walker.Next()
			} else {
				target := rapid.Int64Range(-10, 310).Draw(rt, "target")
				got = seeker.Seek(target)
				want = chunkenc.ValFloat
				if !onRow {
					want = walker.Next()
				}
				for want != chunkenc.ValNone && walker.AtT() < target {
					want = walker.Next()
				}
			}
			if got != want {
				rt.Fatalf("got %s, want %s", got, want)
			}
			if onRow = got != chunkenc.ValNone; !onRow {
				break
			}
			if seeker.AtT() != walker.AtT() {
				rt.Fatalf("at %d, want %d", seeker.AtT(), walker.AtT())
			}
		}
	})
}

func TestHintsAreThoseOfPrometheusChunks(t *testing.T) {
	hints := []histogram.CounterResetHint{
		histogram.UnknownCounterReset, histogram.CounterReset, histogram.NotCounterReset, histogram.GaugeType,
	}
	rapid.Check(t, func(rt *rapid.T) {
		store := &columntest.Store{}
		float := rapid.Bool().Draw(rt, "float")
		var series []histogramSample
		for k := range rapid.IntRange(1, 12).Draw(rt, "samples") {
			h := drawHistogram(rt)
			h.CounterResetHint = rapid.SampledFrom(hints).Draw(rt, "hint")
			x := columntest.Sample{T: int64(k) * 1000, H: h}
			if float {
				x.H, x.FH = nil, h.ToFloat(nil)
			}
			store.Append(name(0), x)
			series = append(series, histogramSample{h: x.H, fh: x.FH})
		}
		q, err := queryable.New(store).Querier(0, 1e6)
		if err != nil {
			rt.Fatal(err)
		}
		defer q.Close()
		set := q.Select(t.Context(), true, nil, all())
		set.Next()
		it := set.At().Iterator(nil)
		for i, want := range chunkHints(rt, series) {
			it.Next()
			_, fh := it.AtFloatHistogram(nil)
			if fh.CounterResetHint != want {
				rt.Fatalf("hint %d of sample %d, Prometheus answers %d", fh.CounterResetHint, i, want)
			}
		}
	})
}

type histogramSample struct {
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

// drawHistogram gives small histograms, so that resets, new, empty and vanished buckets all occur.
func drawHistogram(rt *rapid.T) *histogram.Histogram {
	h := &histogram.Histogram{
		Schema:        rapid.Int32Range(0, 1).Draw(rt, "schema") * rapid.Int32Range(0, 1).Draw(rt, "rare"),
		ZeroThreshold: 0.5,
		ZeroCount:     rapid.Uint64Range(1, 2).Draw(rt, "zero"),
	}
	h.Count = h.ZeroCount
	side := func() ([]histogram.Span, []int64) {
		var spans []histogram.Span
		var deltas []int64
		var last int64
		for range rapid.IntRange(0, 2).Draw(rt, "spans") {
			n := rapid.Uint32Range(1, 2).Draw(rt, "length")
			spans = append(spans, histogram.Span{Offset: rapid.Int32Range(0, 1).Draw(rt, "offset"), Length: n})
			for range n {
				count := rapid.Int64Range(0, 2).Draw(rt, "count")
				deltas = append(deltas, count-last)
				last = count
				h.Count += uint64(count)
			}
		}
		return spans, deltas
	}
	h.PositiveSpans, h.PositiveBuckets = side()
	h.NegativeSpans, h.NegativeBuckets = side()
	return h
}

// chunkHints runs the samples through Prometheus' chunks, as its head does, and returns the hints of a read.
func chunkHints(rt *rapid.T, series []histogramSample) []histogram.CounterResetHint {
	var list []chunkenc.Chunk
	var app chunkenc.Appender
	for i, s := range series {
		if app == nil {
			var c chunkenc.Chunk = chunkenc.NewHistogramChunk()
			if s.fh != nil {
				c = chunkenc.NewFloatHistogramChunk()
			}
			list = append(list, c)
			var err error
			if app, err = c.Appender(); err != nil {
				rt.Fatal(err)
			}
		}
		var c chunkenc.Chunk
		var recoded bool
		var err error
		if s.fh != nil {
			c, recoded, app, err = app.AppendFloatHistogram(nil, 0, int64(i), s.fh.Copy(), false)
		} else {
			c, recoded, app, err = app.AppendHistogram(nil, 0, int64(i), s.h.Copy(), false)
		}
		if err != nil {
			rt.Fatal(err)
		}
		switch {
		case c != nil && recoded:
			list[len(list)-1] = c
		case c != nil:
			list = append(list, c)
		}
	}
	var out []histogram.CounterResetHint
	for _, c := range list {
		for it := c.Iterator(nil); it.Next() != chunkenc.ValNone; {
			_, fh := it.AtFloatHistogram(nil)
			out = append(out, fh.CounterResetHint)
		}
	}
	return out
}
