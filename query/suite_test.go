// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// newNative returns our own storage, empty, on a file system in memory.
func newNative(tb testing.TB) storage.Storage { return native(tb, 2*time.Hour) }

func native(tb testing.TB, slot time.Duration) querytest.Native {
	tb.Helper()
	db, err := tsdb.Open(context.Background(), tsdb.Options{
		Dir: "data", FS: fsx.NewCrashable(), SegmentBytes: 64 << 10, MaxFuture: -1, Shards: 2, Slot: slot,
		Late: tsdb.LateWindows{Scrape: tsdb.AllRetention}, // series come whole, one after the other
	})
	if err != nil {
		tb.Fatal(err)
	}
	return querytest.Native{Storage: db.Storage(), Source: db}
}

// storages are what the suite runs over: one that the engine reads through Prometheus' interfaces, and two that it
// reads as columns.
func storages() map[string]func(testing.TB) storage.Storage {
	return map[string]func(testing.TB) storage.Storage{
		"foreign": querytest.NewPrometheusStorage,
		"native":  newNative,
		"model":   querytest.NewModel,
	}
}

func TestEngineAnswersTheWholePrometheusSuite(t *testing.T) {
	for name, newStorage := range storages() {
		t.Run(name, func(t *testing.T) {
			querytest.RunSuite(t, newEngine(t, nil, querytest.SuiteOptions()), newStorage)
		})
	}
}

// The suite has expectations for one mode only. In the others its queries and data are put to both engines.
func TestEngineAgreesOnTheSuiteInEveryMode(t *testing.T) {
	modes := map[string]func(*query.Options){
		"as the suite":        func(*query.Options) {},
		"names removed early": func(o *query.Options) { o.Features.DelayedNameRemoval = false },
		"without start timestamps, short lookback": func(o *query.Options) {
			o.Features.UseStartTimestamps = false
			o.LookbackDelta = 70 * time.Second
		},
		"type and unit labels, names removed early": func(o *query.Options) {
			o.Features.TypeAndUnitLabels = true
			o.Features.DelayedNameRemoval = false
		},
	}
	for mode, set := range modes {
		for _, name := range []string{"foreign", "native"} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				o := querytest.SuiteOptions()
				o.Features.PerStepStats = true
				set(&o)
				agreeOnSuite(t, o, storages()[name])
			})
		}
	}
}

func agreeOnSuite(t *testing.T, o query.Options, newStorage func(testing.TB) storage.Storage) {
	t.Helper()
	pair := querytest.Pair{Got: newEngine(t, nil, o), Want: querytest.NewReference(o)}
	asked, open, failed := 0, 0, 0
	mutants := querytest.NewGenerator(1, querytest.DataSet{End: time.Hour.Milliseconds(), Interval: time.Minute.Milliseconds()})
	judge := func(from storage.Queryable, q querytest.Query) {
		q.Opts = promql.NewPrometheusQueryOpts(true, 0)
		asked++
		v := pair.Judge(t.Context(), from, from, q)
		if v.Open {
			open++
		}
		if v.Diff != "" {
			if failed++; failed <= 20 {
				t.Errorf("%s\n%s", q, v.Diff)
			}
		}
	}
	seen := func(from storage.Queryable, q querytest.Query) {
		judge(from, q)
		if asked%4 != 0 {
			return
		}
		if text := mutants.Mutate(q.Text, false); text != "" { // something like it, over the data that was made for it
			q.Text = text
			judge(from, q)
		}
	}
	answer := querytest.NewReference(querytest.SuiteOptions())
	querytest.RunSuite(t, querytest.Mirror{Answer: answer, Seen: seen}, newStorage)
	t.Logf("%d queries, %d differ, %d open", asked, failed, open)
	if asked < 10_000 || open*100 > asked {
		t.Errorf("%d queries were compared and %d of them left open, want at least 10,000 and at most 1 %%", asked, open)
	}
}
