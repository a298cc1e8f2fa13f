// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

func newEngine(tb testing.TB, src column.Source, opts query.Options) *query.Engine {
	tb.Helper()
	e := query.NewEngine(src, opts)
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

func ask(tb testing.TB, e *query.Engine, q storage.Queryable, qs string) *promql.Result {
	tb.Helper()
	run, err := e.NewInstantQuery(tb.Context(), q, nil, qs, time.UnixMilli(10_000))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(run.Close)
	return run.Exec(tb.Context())
}

func holding(v float64) *columntest.Store {
	store := &columntest.Store{}
	store.Append(labels.FromStrings("__name__", "m"), columntest.Sample{T: 10_000, V: v})
	return store
}

func TestQueryReadsWhatTheCallerNames(t *testing.T) {
	own, other, foreign := holding(1), holding(2), holding(3)
	e := newEngine(t, own, query.Options{})
	check := func(q storage.Queryable, want float64) {
		t.Helper()
		r := ask(t, e, q, "m")
		v, err := r.Vector()
		if err != nil || len(v) != 1 || v[0].F != want {
			t.Fatalf("got %v, want %v", r, want)
		}
	}
	check(nil, 1)
	check(querytest.Model{Store: other, Queryable: queryable.New(own)}, 2)
	check(queryable.New(foreign), 3)
	for _, s := range []*columntest.Store{own, other, foreign} {
		if n := s.OpenViews(); n != 0 {
			t.Fatalf("%d views are open", n)
		}
	}
}

func TestRangeQueryReadsTheEnginesOwnSource(t *testing.T) {
	e := newEngine(t, holding(7), query.Options{})
	q, err := e.NewRangeQuery(t.Context(), nil, nil, "m", time.Unix(10, 0), time.Unix(20, 0), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	m, err := q.Exec(t.Context()).Matrix()
	if err != nil || len(m) != 1 || len(m[0].Floats) != 3 {
		t.Fatalf("got %v, %v; want one series of three points", m, err)
	}
}

func TestWarningsThatOnlyReadingShowsAreInTheResult(t *testing.T) {
	store := holding(1)
	store.Warning = errors.New("block 01 quarantined")
	r := ask(t, newEngine(t, store, query.Options{}), nil, "m + m")
	if r.Err != nil || len(r.Warnings) != 1 {
		t.Fatalf("warnings %v, error %v; want one warning", r.Warnings, r.Err)
	}
}

func TestStorageErrorIsTheQuerysError(t *testing.T) {
	store := holding(1)
	store.ScanErr = errors.New("bad checksum")
	r := ask(t, newEngine(t, store, query.Options{}), nil, "m")
	if !errors.Is(r.Err, store.ScanErr) {
		t.Fatalf("error %v, want %v", r.Err, store.ScanErr)
	}
}

func TestParseErrorIsGivenBeforeTheQueryRuns(t *testing.T) {
	_, err := newEngine(t, holding(1), query.Options{}).NewInstantQuery(t.Context(), nil, nil, "m{", time.Unix(0, 0))
	if err == nil {
		t.Fatal("no error for a broken query")
	}
}

func TestMoreQueriesThanAllowedWaitForTheirTurn(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		e := newEngine(t, holding(1), query.Options{MaxConcurrency: 1, ActiveQueryDir: dir})
		held := make(chan struct{})
		inside := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			blocking := storage.QueryableFunc(func(int64, int64) (storage.Querier, error) {
				close(inside)
				<-held
				return nil, errors.New("released")
			})
			q, err := e.NewInstantQuery(context.Background(), blocking, nil, "m", time.Unix(0, 0))
			if err == nil {
				q.Exec(context.Background())
			}
		}()
		<-inside
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		q, err := e.NewInstantQuery(ctx, nil, nil, "m", time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if r := q.Exec(ctx); !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Fatalf("error %v, want that of the context", r.Err)
		}
		cancel()
		close(held)
		<-done
		if r := ask(t, e, nil, "m"); r.Err != nil {
			t.Fatalf("after the turn is free: %v", r.Err)
		}
	}
}

func TestEngineWorksWhereActiveQueriesCannotBeNoted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := ask(t, newEngine(t, holding(1), query.Options{ActiveQueryDir: file}), nil, "m"); r.Err != nil {
		t.Fatal(r.Err)
	}
}
