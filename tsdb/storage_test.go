// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

type adapterTest struct {
	*testing.T

	db *DB
	st storage.Storage
}

func newAdapterTest(t *testing.T, o Options) adapterTest {
	db := openTest(t, o)
	return adapterTest{t, db, db.Storage()}
}

// append adds one row in a batch of its own and commits it.
func (t adapterTest) append(ref storage.SeriesRef, l labels.Labels, ts int64, v float64, opts storage.AOptions) (storage.SeriesRef, error) {
	t.Helper()
	app := t.st.AppenderV2(t.Context())
	ref, err := app.Append(ref, l, 0, ts, v, nil, nil, opts)
	if cerr := app.Commit(); cerr != nil {
		t.Fatalf("commit: %v", cerr)
	}
	return ref, err
}

func TestAdapterAnswersARefThatNamesTheSeries(t *testing.T) {
	a := newAdapterTest(t, small(fsx.NewCrashable()))
	l := labels.FromStrings(labels.MetricName, "m")
	ref, err := a.append(0, l, 1, 1, storage.AOptions{})
	if err != nil || ref == 0 {
		t.Fatalf("first append: ref %d, %v", ref, err)
	}
	again, err := a.append(ref, l, 2, 2, storage.AOptions{})
	if err != nil || again != ref {
		t.Errorf("append by ref: ref %d, %v, want %d", again, err, ref)
	}
	if got, err := a.append(storage.SeriesRef(7)<<32|99, l, 3, 3, storage.AOptions{}); err != nil || got != ref {
		t.Errorf("append by a ref that is not in use: ref %d, %v, want %d by its labels", got, err, ref)
	}
	wantContents(t, a.db, map[string][]point{l.String(): {
		{1, math.Float64bits(1)}, {2, math.Float64bits(2)}, {3, math.Float64bits(3)},
	}})
}

func TestAdapterSaysAtAppendWhatCannotBeStored(t *testing.T) {
	o := small(fsx.NewCrashable())
	o.MaxFuture, o.Retention = time.Hour, 24*time.Hour
	a := newAdapterTest(t, o)
	now := time.Now().UnixMilli()
	l := labels.FromStrings(labels.MetricName, "m")
	check := func(what string, ts int64, v float64, opts storage.AOptions, want error) {
		t.Helper()
		if _, err := a.append(0, l, ts, v, opts); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	check("first", now, 1, storage.AOptions{}, nil)
	check("older than the newest", now-1000, 1, storage.AOptions{}, storage.ErrOutOfOrderSample)
	check("same time, other value", now, 2, storage.AOptions{}, storage.ErrDuplicateSampleForTimestamp)
	check("same time, same value", now, 1, storage.AOptions{}, nil)
	check("too far in the future", now+2*time.Hour.Milliseconds(), 1, storage.AOptions{}, storage.ErrOutOfBounds)
	check("before the retention", now-25*time.Hour.Milliseconds(), 1, storage.AOptions{}, storage.ErrOutOfBounds)
	a.db.SetLate(LateWindows{Scrape: time.Hour})
	check("within the window", now-1000, 1, storage.AOptions{}, nil)
	check("within the window, but not to be", now-500, 1, storage.AOptions{RejectOutOfOrder: true}, storage.ErrOutOfOrderSample)
	check("before the window", now-2*time.Hour.Milliseconds(), 1, storage.AOptions{}, storage.ErrTooOldSample)
}

func TestAdapterRollbackStoresNothing(t *testing.T) {
	a := newAdapterTest(t, small(fsx.NewCrashable()))
	app := a.st.AppenderV2(t.Context())
	if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "m"), 0, 1, 1, nil, nil, storage.AOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := app.Rollback(); err != nil {
		t.Fatal(err)
	}
	wantContents(t, a.db, map[string][]point{})
}

func TestAdapterStoresTheSampleWhereAnExemplarCannotBe(t *testing.T) {
	a := newAdapterTest(t, small(fsx.NewCrashable()))
	l := labels.FromStrings(labels.MetricName, "m")
	long := labels.FromStrings("trace", string(make([]byte, exemplar.ExemplarMaxLabelSetLength+1)))
	good := exemplar.Exemplar{Labels: labels.FromStrings("trace", "a"), Value: 1, Ts: 5, HasTs: true}
	_, err := a.append(0, l, 10, 1, storage.AOptions{Exemplars: []exemplar.Exemplar{good, {Labels: long, Value: 2, Ts: 6, HasTs: true}}})
	var partial *storage.AppendPartialError
	if !errors.As(err, &partial) || len(partial.ExemplarErrors) != 1 {
		t.Errorf("append with a long exemplar: %v, want an AppendPartialError with one error", err)
	}
	if _, err := a.append(0, l, 11, 1, storage.AOptions{Exemplars: []exemplar.Exemplar{good}}); err != nil {
		t.Errorf("append with the same exemplar again: %v, want it ignored", err)
	}
	old := exemplar.Exemplar{Labels: labels.FromStrings("trace", "b"), Value: 1, Ts: 4, HasTs: true}
	_, err = a.append(0, l, 12, 1, storage.AOptions{Exemplars: []exemplar.Exemplar{old}})
	if !errors.As(err, &partial) || !errors.Is(partial.ExemplarErrors[0], storage.ErrOutOfOrderExemplar) {
		t.Errorf("append with an older exemplar: %v, want %v", err, storage.ErrOutOfOrderExemplar)
	}
	v, err := a.db.View(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	r, _ := v.(column.ExemplarReader)
	es, err := r.Exemplars(t.Context(), 0, 100, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "m")})
	if err != nil || len(es) != 1 || len(es[0].Exemplars) != 1 || !es[0].Exemplars[0].Equals(good) {
		t.Errorf("exemplars %v, %v, want %v alone", es, err, good)
	}
	if got := len(contents(t, a.db)[l.String()]); got != 3 {
		t.Errorf("%d samples are stored, want all 3", got)
	}
}

func TestAdapterMakesAFloatStaleMarkerAHistogramsOwn(t *testing.T) {
	a := newAdapterTest(t, small(fsx.NewCrashable()))
	l := labels.FromStrings(labels.MetricName, "h")
	app := a.st.AppenderV2(t.Context())
	if _, err := app.Append(0, l, 0, 1, 0, tsdbutil.GenerateTestHistogram(1), nil, storage.AOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.append(0, l, 2, math.Float64frombits(value.StaleNaN), storage.AOptions{RejectOutOfOrder: true}); err != nil {
		t.Fatal(err)
	}
	q, err := a.st.Querier(0, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "h"))
	if !set.Next() {
		t.Fatalf("no series: %v", set.Err())
	}
	it := set.At().Iterator(nil)
	var last *histogram.Histogram
	n := 0
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		if vt != chunkenc.ValHistogram {
			t.Fatalf("a value of type %v in a histogram series", vt)
		}
		_, last = it.AtHistogram(nil)
		n++
	}
	if n != 2 || !value.IsStaleNaN(last.Sum) {
		t.Errorf("%d histograms, the last with sum %v, want 2 and a stale marker", n, last.Sum)
	}
}

func TestAdapterRefusesMalformedHistogramsAndLabels(t *testing.T) {
	a := newAdapterTest(t, small(fsx.NewCrashable()))
	app := a.st.AppenderV2(t.Context())
	bad := tsdbutil.GenerateTestHistogram(1)
	bad.PositiveSpans[0].Length += 3
	if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "h"), 0, 1, 0, bad, nil, storage.AOptions{}); !errors.Is(err, histogram.ErrHistogramSpansBucketsMismatch) {
		t.Errorf("malformed histogram: %v, want %v", err, histogram.ErrHistogramSpansBucketsMismatch)
	}
	check := func(what string, l labels.Labels) {
		t.Helper()
		if _, err := app.Append(0, l, 0, 1, 1, nil, nil, storage.AOptions{}); err == nil {
			t.Errorf("%s was stored", what)
		}
	}
	check("a series without labels", labels.EmptyLabels())
	check("a label set with a duplicate", labels.New(labels.Label{Name: "a", Value: "1"}, labels.Label{Name: "a", Value: "2"}))
	check("a label that is not UTF-8", labels.FromStrings(labels.MetricName, "m", "a", "\xff"))
	if err := app.Rollback(); err != nil {
		t.Fatal(err)
	}
}

func TestAdapterKeepsMetadataOverARestart(t *testing.T) {
	o := small(fsx.NewCrashable())
	a := newAdapterTest(t, o)
	m := metadata.Metadata{Type: model.MetricTypeCounter, Unit: "bytes", Help: "what it counts"}
	for ts := range int64(3) {
		if _, err := a.append(0, labels.FromStrings(labels.MetricName, "m_bytes_total"), ts, 1, storage.AOptions{Metadata: m, MetricFamilyName: "m_bytes_total"}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(db *DB) {
		t.Helper()
		v, err := db.View(minTime, maxTime)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		r, _ := v.(column.MetadataReader)
		n := 0
		for name, ms := range r.Metadata(t.Context(), "") {
			if n++; name != "m_bytes_total" || len(ms) != 1 || ms[0] != m {
				t.Errorf("metadata of %s is %v, want %v of m_bytes_total", name, ms, m)
			}
		}
		if n != 1 {
			t.Errorf("%d families are described, want 1", n)
		}
	}
	check(a.db)
	if err := a.db.Close(); err != nil {
		t.Fatal(err)
	}
	check(openTest(t, o))
}

func TestAdapterRefusesTheFirstAppenderInterface(t *testing.T) {
	a := newAdapterTest(t, small(fsx.NewCrashable()))
	if _, err := a.st.Appender(t.Context()).Append(0, labels.FromStrings("a", "b"), 1, 1); !errors.Is(err, errAppenderV1) {
		t.Errorf("append through the first interface: %v, want %v", err, errAppenderV1)
	}
}

// A series leaves the head between Append and Commit: its samples must not be lost.
func TestAdapterStoresRowsOfSeriesThatLeftTheHead(t *testing.T) {
	a := newAdapterTest(t, small(fsx.NewCrashable()))
	l, other := labels.FromStrings(labels.MetricName, "m"), labels.FromStrings(labels.MetricName, "n")
	if _, err := a.append(0, l, 1000, 1, storage.AOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.append(0, other, 600_000, 1, storage.AOptions{}); err != nil {
		t.Fatal(err)
	}
	app := a.st.AppenderV2(t.Context())
	if _, err := app.Append(0, l, 0, 700_000, 2, nil, nil, storage.AOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.db.Maintain(t.Context()); err != nil { // the slot of l's sample becomes a block, and l is idle
		t.Fatal(err)
	}
	if _, ok := a.db.head.Lookup(l); ok {
		t.Fatal("the series is still in the head: the test shows nothing")
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	want := []point{{1000, math.Float64bits(1)}, {700_000, math.Float64bits(2)}}
	if got := contents(t, a.db)[l.String()]; len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("samples %v, want %v", got, want)
	}
}
