// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package scrapetest checks that a storage does for Prometheus' scrape package what that package relies on.
//
// Run is the suite: it opens a Store per behaviour, appends as a scrape loop does and reads back. It is run over
// Prometheus' own storage in this package's test, which shows that the suite asks for nothing else, and over ours
// where the adapter is at hand. A Store lives for one subtest; whoever opens it closes it by t.Cleanup. Each subtest
// uses its store from one goroutine.
package scrapetest

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Store is what scraping writes to, and what the suite reads it back from.
type Store interface {
	storage.AppendableV2
	storage.Queryable
}

// Open opens an empty store that takes samples which are late by up to window, exemplars included.
type Open func(t *testing.T, window time.Duration) Store

// Run runs the suite, one subtest per behaviour.
func Run(t *testing.T, open Open) {
	t.Helper()
	for name, check := range map[string]func(*tester){
		"Append answers a ref that stays with its series":             refs,
		"an older sample is refused at once":                          outOfOrder,
		"another value at the same time is refused at once":           duplicate,
		"a sample before the head is refused at once":                 outOfBounds,
		"a late sample is taken within the window unless the flag is": lateWindow,
		"Rollback leaves nothing":                                     rollback,
		"nothing is visible before Commit":                            atomic,
		"a sample is stored though its exemplar is refused":           partial,
		"a stale marker on a histogram series is a histogram":         staleHistogram,
	} {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			check(&tester{T: t, open: open, now: time.Now().UnixMilli()})
		})
	}
}

// tester is one subtest.
type tester struct {
	*testing.T
	open  Open
	store Store
	now   int64
}

func (t *tester) start(window time.Duration) storage.AppenderV2 {
	t.Helper()
	t.store = t.open(t.T, window)
	return t.appender()
}

func (t *tester) appender() storage.AppenderV2 { return t.store.AppenderV2(t.Context()) }

func series(name string) labels.Labels { return labels.FromStrings("__name__", name, "job", "x") }

// float appends a float sample and returns what Append answered.
func (t *tester) float(a storage.AppenderV2, name string, at int64, v float64) (storage.SeriesRef, error) {
	return a.Append(0, series(name), 0, at, v, nil, nil, storage.AOptions{})
}

// must appends a float sample that has to be taken.
func (t *tester) must(a storage.AppenderV2, name string, at int64, v float64) storage.SeriesRef {
	t.Helper()
	ref, err := t.float(a, name, at, v)
	if err != nil {
		t.Fatalf("append %s at %d: %v", name, at, err)
	}
	return ref
}

func (t *tester) commit(a storage.AppenderV2) {
	t.Helper()
	if err := a.Commit(); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// stored asserts what a series holds: offsets from the start of the test and values.
func (t *tester) stored(name, want string) {
	t.Helper()
	q, err := t.store.Querier(math.MinInt64/2, math.MaxInt64/2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
	var got []string
	for set.Next() {
		it := set.At().Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			got = append(got, t.show(it, kind))
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Err(); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(got, " "); all != want {
		t.Errorf("%s holds %q, want %q", name, all, want)
	}
}

func (t *tester) show(it chunkenc.Iterator, kind chunkenc.ValueType) string {
	switch kind {
	case chunkenc.ValFloat:
		at, v := it.At()
		if value.IsStaleNaN(v) {
			return fmt.Sprintf("%d:stale", at-t.now)
		}
		return fmt.Sprintf("%d:%g", at-t.now, v)
	case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
		at, h := it.AtFloatHistogram(nil)
		if value.IsStaleNaN(h.Sum) {
			return fmt.Sprintf("%d:stale-histogram", at-t.now)
		}
		return fmt.Sprintf("%d:count=%g", at-t.now, h.Count)
	case chunkenc.ValNone:
	}
	return "nothing"
}

func (t *tester) refused(err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("Append answered %v, want %v", err, want)
	}
}

func refs(t *tester) {
	a := t.start(0)
	first, other := t.must(a, "a", t.now, 1), t.must(a, "b", t.now, 1)
	if first == 0 || other == 0 || first == other {
		t.Errorf("refs of two series are %d and %d", first, other)
	}
	t.commit(a)
	a = t.appender()
	again, err := a.Append(first, series("a"), 0, t.now+1, 2, nil, nil, storage.AOptions{})
	if err != nil || again != first {
		t.Errorf("with its ref the series has the ref %d, %v; it was %d", again, err, first)
	}
	if ref := t.must(a, "a", t.now+2, 3); ref != first {
		t.Errorf("without a ref the series has the ref %d; it was %d", ref, first)
	}
	if ref, err := a.Append(1<<40, series("a"), 0, t.now+3, 4, nil, nil, storage.AOptions{}); err != nil || ref != first {
		t.Errorf("with a ref that nobody gave out the series has the ref %d, %v; it was %d", ref, err, first)
	}
	t.commit(a)
	t.stored("a", "0:1 1:2 2:3 3:4")
}

func outOfOrder(t *tester) {
	a := t.start(0)
	t.must(a, "a", t.now, 1)
	t.commit(a)
	a = t.appender()
	_, err := t.float(a, "a", t.now-1000, 2)
	t.refused(err, storage.ErrOutOfOrderSample)
	t.must(a, "a", t.now+1, 3)
	t.commit(a)
	t.stored("a", "0:1 1:3")
}

func duplicate(t *tester) {
	a := t.start(0)
	t.must(a, "a", t.now, 1)
	t.commit(a)
	a = t.appender()
	_, err := t.float(a, "a", t.now, 2)
	t.refused(err, storage.ErrDuplicateSampleForTimestamp)
	t.must(a, "a", t.now, 1) // the same once more is no mistake
	t.commit(a)
	t.stored("a", "0:1")
}

func outOfBounds(t *tester) {
	a := t.start(0)
	t.must(a, "a", t.now, 1)
	t.commit(a)
	a = t.appender()
	_, err := t.float(a, "b", t.now-(72*time.Hour).Milliseconds(), 2)
	t.refused(err, storage.ErrOutOfBounds)
	t.commit(a)
	t.stored("b", "")
}

func lateWindow(t *tester) {
	a := t.start(time.Hour)
	t.must(a, "a", t.now, 1)
	t.commit(a)
	a = t.appender()
	_, err := a.Append(0, series("a"), 0, t.now-2000, math.Float64frombits(value.StaleNaN), nil, nil, storage.AOptions{RejectOutOfOrder: true})
	t.refused(err, storage.ErrOutOfOrderSample)
	t.must(a, "a", t.now-1000, 2)
	t.commit(a)
	t.stored("a", "-1000:2 0:1")
}

func rollback(t *tester) {
	a := t.start(0)
	t.must(a, "a", t.now, 1)
	if err := a.Rollback(); err != nil {
		t.Fatal(err)
	}
	t.stored("a", "")
	a = t.appender()
	t.must(a, "a", t.now, 2) // and nothing of it is in the way
	t.commit(a)
	t.stored("a", "0:2")
}

func atomic(t *tester) {
	a := t.start(0)
	t.must(a, "a", t.now, 1)
	t.stored("a", "")
	t.commit(a)
	t.stored("a", "0:1")
}

func partial(t *tester) {
	a := t.start(0)
	with := func(at, exemplarAt int64) error {
		_, err := a.Append(0, series("a"), 0, at, 1, nil, nil, storage.AOptions{Exemplars: []exemplar.Exemplar{
			{Labels: labels.FromStrings("trace_id", strconv.FormatInt(exemplarAt, 10)), Value: 1, Ts: exemplarAt, HasTs: true},
		}})
		return err
	}
	if err := with(t.now, t.now); err != nil {
		t.Fatal(err)
	}
	t.commit(a)
	a = t.appender()
	err := with(t.now+1, t.now-1000)
	p, ok := errors.AsType[*storage.AppendPartialError](err)
	if !ok || len(p.ExemplarErrors) != 1 || !errors.Is(p.ExemplarErrors[0], storage.ErrOutOfOrderExemplar) {
		t.Errorf("an old exemplar was answered by %v, want an AppendPartialError with ErrOutOfOrderExemplar", err)
	}
	t.commit(a)
	t.stored("a", "0:1 1:1")
}

func staleHistogram(t *tester) {
	a := t.start(0)
	h := &histogram.Histogram{Count: 2, Sum: 3, PositiveSpans: []histogram.Span{{Offset: 0, Length: 1}}, PositiveBuckets: []int64{2}}
	if _, err := a.Append(0, series("h"), 0, t.now, 0, h, nil, storage.AOptions{}); err != nil {
		t.Fatal(err)
	}
	t.commit(a)
	a = t.appender()
	if _, err := a.Append(0, series("h"), 0, t.now+1, math.Float64frombits(value.StaleNaN), nil, nil, storage.AOptions{RejectOutOfOrder: true}); err != nil {
		t.Fatal(err)
	}
	t.commit(a)
	t.stored("h", "0:count=2 1:stale-histogram")
}
