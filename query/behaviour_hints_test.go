// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query/querytest"
)

// recording notes what is asked of a storage that has nothing.
type recording struct {
	mu    sync.Mutex
	asked map[string]bool
}

func (r *recording) Querier(mint, maxt int64) (storage.Querier, error) {
	r.note("querier %d to %d", mint, maxt)
	return recordingQuerier{storage.NoopQuerier(), r}, nil
}

func (r *recording) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = map[string]bool{}
	}
	r.asked[fmt.Sprintf(format, args...)] = true
}

type recordingQuerier struct {
	storage.Querier
	r *recording
}

func (q recordingQuerier) Select(_ context.Context, _ bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	var matchers []string
	for _, m := range ms {
		matchers = append(matchers, m.String())
	}
	slices.Sort(matchers) // their order means nothing
	q.r.note("{%s} %d to %d step %d range %d func %q by %v %q", strings.Join(matchers, ","), h.Start, h.End, h.Step, h.Range, h.Func, h.By, h.Grouping)
	return storage.EmptySeriesSet()
}

// hintsOf lists what a query asks a storage for, each thing once: who asks once for two is welcome.
func hintsOf(t *testing.T, e promql.QueryEngine, q querytest.Query) []string {
	t.Helper()
	r := &recording{}
	querytest.Ask(t.Context(), e, r, q)
	return slices.Sorted(maps.Keys(r.asked))
}

func TestStorageIsToldWhatIsRead(t *testing.T) {
	o := querytest.SuiteOptions()
	o.LookbackDelta = 5 * time.Second
	bothEngines(t, o, func(t *testing.T, e promql.QueryEngine) {
		check := func(q querytest.Query, want ...string) {
			t.Helper()
			got := slices.DeleteFunc(hintsOf(t, e, q), func(s string) bool { return strings.HasPrefix(s, "querier") })
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s\nasked %q\n want %q", q, got, want)
			}
		}
		at := func(text string) querytest.Query { return querytest.At(text, time.UnixMilli(100_000)) }
		steps := func(text string) querytest.Query {
			return querytest.Between(text, time.UnixMilli(100_000), time.UnixMilli(200_000), time.Second)
		}
		check(at("m"), `{__name__="m"} 95001 to 100000 step 0 range 0 func "" by false []`)
		check(steps("m"), `{__name__="m"} 95001 to 200000 step 1000 range 0 func "" by false []`)
		check(at(`m{a!="b"} offset -10s`), `{__name__="m",a!="b"} 105001 to 110000 step 0 range 0 func "" by false []`)
		check(steps("m @ 7 offset 1s"), `{__name__="m"} 1001 to 6000 step 1000 range 0 func "" by false []`)
		check(steps("rate(m[1m])"), `{__name__="m"} 40001 to 200000 step 1000 range 60000 func "rate" by false []`)
		check(steps("sum by (a, b) (m)"), `{__name__="m"} 95001 to 200000 step 1000 range 0 func "sum" by true ["a" "b"]`)
		check(at("sum without (a) (abs(m))"), `{__name__="m"} 95001 to 100000 step 0 range 0 func "abs" by false []`)
		check(at("count_over_time(m[20s:3s] offset 1s)"), `{__name__="m"} 74001 to 99000 step 3000 range 0 func "count_over_time" by false []`)
		check(at("max_over_time(rate(m[10s])[20s:3s] @ 50)"), `{__name__="m"} 20001 to 50000 step 3000 range 10000 func "rate" by false []`)
		check(at("rate(m[10s] anchored)"), `{__name__="m"} 85001 to 100000 step 0 range 10000 func "rate" by false []`)
		check(at("m smoothed"), `{__name__="m"} 95001 to 105000 step 0 range 0 func "" by false []`)
		check(at("a + b"), `{__name__="a"} 95001 to 100000 step 0 range 0 func "" by false []`, `{__name__="b"} 95001 to 100000 step 0 range 0 func "" by false []`)
		check(at("1 + 1"))
	})
}

// Over a storage of somebody else the times that are asked for are those of Prometheus for every expression of its
// suite. An optimiser may ask less often and with simpler matchers.
func TestStorageIsAskedForTheSameTimesForTheWholeSuite(t *testing.T) {
	exprs, err := promqltest.GetBuiltInExprs()
	if err != nil {
		t.Fatal(err)
	}
	o := querytest.SuiteOptions()
	engine, ref := newEngine(t, nil, o), querytest.NewReference(o)
	differ, selects := 0, 0
	for _, text := range exprs {
		for _, q := range []querytest.Query{
			querytest.At(text, time.UnixMilli(600_000)), querytest.Between(text, time.UnixMilli(-60_000), time.UnixMilli(600_000), time.Minute),
		} {
			got, want := timesOf(hintsOf(t, engine, q)), timesOf(hintsOf(t, ref, q))
			selects += len(got) - 1
			maps.DeleteFunc(got, func(times string, _ bool) bool { return want[times] })
			if len(got) == 0 {
				continue
			}
			if differ++; differ <= 20 {
				t.Errorf("%s\nasked for %v\n which is not among %v", q, got, want)
			}
		}
	}
	if differ > 20 || selects < len(exprs) {
		t.Errorf("%d differ in all, %d were asked for", differ, selects)
	}
}

// timesOf keeps the times of what was asked: the part between the matchers and the function.
func timesOf(asked []string) map[string]bool {
	times := map[string]bool{}
	for _, a := range asked {
		a = a[strings.LastIndex(a, "}")+1:]
		a, _, _ = strings.Cut(a, " func")
		times[strings.TrimSpace(a)] = true
	}
	return times
}
