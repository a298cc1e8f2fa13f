// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// meddling is a store to which somebody writes just before a view is opened.
type meddling struct {
	*tsdb.DB
	before func()
}

func (m *meddling) View(mint, maxt int64) (column.View, error) {
	if m.before != nil {
		m.before()
	}
	return m.DB.View(mint, maxt)
}

// Of two writes, one into steps that are kept and a later one into steps that are not, an answer has both, the first, or
// none: what is kept must not hide the first alone.
func TestAnAnswerIsThatOfOneMoment(t *testing.T) {
	k := newKeeping(t)
	k.fill("m")
	src := &meddling{DB: k.db}
	k.engine = query.NewEngine(src, query.Options{ResultCache: 32 << 20, Memory: budget.NewRoot("test", 0)})
	defer k.engine.Close()
	start, step := k.start.Add(10*time.Minute), 15*time.Second
	mid, end := start.Add(20*time.Minute), start.Add(40*time.Minute)
	k.same(`sum(max_over_time(m[1m]))`, start, mid, step)
	src.before = func() {
		src.before = nil
		k.write("m", 1, start.Add(5*time.Minute+time.Millisecond), 1e6)
		k.write("m", 1, end.Add(-5*time.Minute+time.Millisecond), 1e6)
	}
	got, res := k.ask(`sum(max_over_time(m[1m]))`, start, end, step, true)
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	first, second := false, false
	for _, p := range got[0].Floats {
		first = first || p.F > 5e5 && p.T < mid.UnixMilli()
		second = second || p.F > 5e5 && p.T > mid.UnixMilli()
	}
	if second && !first {
		t.Error("the answer has the second write and lacks the first")
	}
	k.same(`sum(max_over_time(m[1m]))`, start, end, step)
}

// The cache is no reason for a query to fail that can be answered without it.
func TestKeptAnswersTakeNoMemoryThatAQueryNeeds(t *testing.T) {
	k := newKeeping(t)
	k.fill("m", "m_total")
	end := k.start.Add(100 * time.Minute)
	ask := func(perQuery int64, cached bool) (failed error) {
		memory := budget.NewRoot("test", 0)
		k.engine = query.NewEngine(k.db, query.Options{ResultCache: 32 << 20, Memory: memory, PerQuery: perQuery})
		defer func() {
			if err := k.engine.Close(); err != nil {
				t.Error(err)
			}
			if memory.Used() != 0 {
				t.Errorf("%d bytes are still charged", memory.Used())
			}
		}()
		for _, minutes := range []time.Duration{60, 100, 60, 100} {
			if _, res := k.ask(`rate(m_total[2m])`, end.Add(-minutes*time.Minute), end, time.Second, cached); res.Err != nil {
				return res.Err
			}
		}
		return nil
	}
	limit := int64(64 << 10)
	for ask(limit, false) != nil {
		limit += limit / 8
	}
	if err := ask(limit, true); err != nil {
		t.Errorf("with %d bytes, which are enough without the cache: %v", limit, err)
	}
}

// enough is a sink that takes a number of rows.
type enough struct {
	collect
	rows int
}

func (e *enough) Row(r *exec.Row) error {
	if len(e.matrix) == e.rows {
		return exec.ErrEnough
	}
	return e.collect.Row(r)
}

func TestASinkThatHasEnoughEndsAQueryWithoutAnError(t *testing.T) {
	k := newKeeping(t)
	k.fill("m_total")
	end := k.start.Add(time.Hour)
	stream := func() {
		t.Helper()
		q, err := k.engine.NewRangeQuery(t.Context(), nil, nil, `rate(m_total[5m])`, end.Add(-time.Hour), end, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		to := enough{rows: 2}
		if _, err := q.(*query.Query).Stream(t.Context(), &to); err != nil || len(to.matrix) != 2 {
			t.Errorf("%d rows: %v", len(to.matrix), err)
		}
	}
	stream()
	k.same(`rate(m_total[5m])`, end.Add(-time.Hour), end, time.Minute) // not kept, or kept whole
	stream()
	for _, top := range k.engine.Top(query.TopCount, 10) {
		if top.Failed > 0 {
			t.Errorf("%d of %d runs of %s count as failed", top.Failed, top.Count, top.Query)
		}
	}
}

// own is a storage that a caller hands in, and has columns.
type own struct {
	storage.Queryable
	column.Source
	column.StampReader
}

func TestAStorageThatIsHandedInHasItsOwnAnswers(t *testing.T) {
	k, other := newKeeping(t), newKeeping(t)
	k.fill("m")
	end := k.start.Add(time.Hour)
	k.same(`m`, end.Add(-30*time.Minute), end, time.Minute)
	pq, err := k.engine.NewRangeQuery(t.Context(), own{Source: other.db, StampReader: other.db}, promql.NewPrometheusQueryOpts(false, 0), `m`, end.Add(-30*time.Minute), end, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer pq.Close()
	var to collect
	if _, err := pq.(*query.Query).Stream(t.Context(), &to); err != nil || len(to.matrix) != 0 {
		t.Errorf("%d series of the other storage: %v", len(to.matrix), err)
	}
}
