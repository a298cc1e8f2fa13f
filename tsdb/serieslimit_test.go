// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// looked is a context that counts how often it is looked at: once in some thousand items of work.
type looked struct {
	context.Context
	times int
}

func (c *looked) Err() error {
	c.times++
	return c.Context.Err()
}

// A limit bounds what is read of the series that match, in one source and in several. Those that are given are the first
// in label order, and have their samples of all sources, though each source has thousands of others.
func TestALimitBoundsTheWorkOfListingSeries(t *testing.T) {
	const n = 24_000
	db := openTest(t, small(fsx.NewCrashable()))
	ls := scattered(n) // the oldest of the head are not the first
	check := func(sources, limit, most int) {
		t.Helper()
		v := viewOf(t, db)
		if len(v.sources) != sources {
			t.Fatalf("%d sources, want %d", len(v.sources), sources)
		}
		ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "x")}
		all, err := v.Series(t.Context(), ms, column.Hint{})
		if err != nil {
			t.Fatal(err)
		}
		want := rowsBySeries(t, v, all)
		ctx := &looked{Context: t.Context()}
		some, err := v.Series(ctx, ms, column.Hint{Limit: limit})
		if err != nil || some.N != limit || ctx.times > most {
			t.Errorf("%d sources, limit %d: %d series, %v, %d looks at the context, want %d at most", sources, limit, some.N, err, ctx.times, most)
		}
		for series, rows := range rowsBySeries(t, v, some) {
			if rows != want[series] {
				t.Errorf("%s has the samples %s, want %s", series, rows, want[series])
			}
		}
		var a, b labels.ScratchBuilder
		for r := range uint32(some.N) {
			if got, want := some.Labels(r, &a), all.Labels(r, &b); !labels.Equal(got, want) {
				t.Fatalf("%d sources, limit %d: series %d is %s, want %s", sources, limit, r, got, want)
			}
		}
	}
	fillAt(t, db, ls[:n/2], 0)
	check(1, 5, 20)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillAt(t, db, ls[n/4:], 600_000)
	check(2, 5, 40)
	if err := db.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillAt(t, db, ls, 1_200_000)
	check(3, 5, 80)
	check(3, 4000, 1000) // all are listed
}

// The first series are those of the first metrics, unless labels come before the name of the metric, or series have none.
func TestALimitGivesTheFirstOfManyMetrics(t *testing.T) {
	check := func(what string, more ...labels.Labels) {
		t.Helper()
		db := openTest(t, small(fsx.NewCrashable()))
		var ls []labels.Labels
		for i := range 12_000 {
			ls = append(ls, labels.FromStrings(labels.MetricName, fmt.Sprintf("m%03d", i*7919%301), "id", fmt.Sprint(i*7%12_000), "job", "x"))
		}
		fillAt(t, db, append(ls, more...), 0)
		v := viewOf(t, db)
		for _, ms := range [][]*labels.Matcher{{equal("job", "x")}, {labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, "m1.*|")}} {
			all, err := v.Series(t.Context(), ms, column.Hint{})
			if err != nil {
				t.Fatal(err)
			}
			for _, limit := range []int{1, 7, 130} {
				some, err := v.Series(t.Context(), ms, column.Hint{Limit: limit})
				if err != nil || some.N != limit {
					t.Fatalf("%s, limit %d: %d series, %v", what, limit, some.N, err)
				}
				var a, b labels.ScratchBuilder
				for r := range uint32(limit) {
					if got, want := some.Labels(r, &a), all.Labels(r, &b); !labels.Equal(got, want) {
						t.Fatalf("%s, %v, limit %d: series %d is %s, want %s", what, ms, limit, r, got, want)
					}
				}
			}
		}
	}
	check("metrics alone")
	check("series without one", labels.FromStrings("job", "x"), labels.FromStrings("id", "0", "job", "x"))
	check("a label before", labels.FromStrings("A", "1", labels.MetricName, "m299", "job", "x"), labels.FromStrings("A", "2", "job", "x"))
}

// rowsBySeries returns the times and values of each series of a set.
func rowsBySeries(t *testing.T, v *view, set *column.SeriesSet) map[string]string {
	t.Helper()
	ids := make([]uint32, set.N)
	for i := range ids {
		ids[i] = uint32(i)
	}
	out := map[string]string{}
	var b column.Block
	var sb labels.ScratchBuilder
	for done := 0; done < len(ids); {
		k, err := v.Scan(t.Context(), set, ids[done:], column.Need{}, &b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range k {
			from, to := b.Rows(i)
			out[set.Labels(ids[done+i], &sb).String()] = fmt.Sprint(b.T[from:to], b.V[from:to])
		}
		done += k
	}
	return out
}
