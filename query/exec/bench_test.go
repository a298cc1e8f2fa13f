// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// counters is a storage of n counters in ten groups, an hour of samples every 15 s.
func counters(n int) storage.Queryable {
	store := &columntest.Store{}
	for i := range n {
		ls := labels.FromStrings("__name__", "c_total", "group", strconv.Itoa(i%10), "id", strconv.Itoa(i))
		for j := range 240 {
			store.Append(ls, columntest.Sample{T: int64(j) * 15_000, V: float64(i + j*j%17)})
		}
	}
	return querytest.ModelOf(store)
}

func BenchmarkQuery(b *testing.B) {
	e := newEngine(b)
	e.options.MaxSamples = 50_000_000
	engines := map[string]promql.QueryEngine{"ours": e, "prometheus": e.reference(), "ours without passes": e.without("all")}
	sizes := map[string]storage.Queryable{"1": counters(1), "1000": counters(1000)}
	for _, text := range []string{
		`1 + 1`, `sum(c_total)`, `sum by (group) (rate(c_total[5m]))`, `max(c_total) - min(c_total)`,
		`sum by (group) (rate(c_total[5m])) / count by (group) (rate(c_total[5m]))`, `c_total / c_total`,
	} {
		for _, size := range []string{"1", "1000"} {
			for _, name := range []string{"ours", "ours without passes", "prometheus"} {
				for _, step := range []time.Duration{0, 15 * time.Second} {
					b.Run(text+"/series="+size+"/step="+step.String()+"/"+name, func(b *testing.B) {
						b.ReportAllocs()
						for b.Loop() {
							ask(b, engines[name], sizes[size], text, step)
						}
					})
				}
			}
		}
	}
}

func ask(b *testing.B, e promql.QueryEngine, from storage.Queryable, text string, step time.Duration) {
	b.Helper()
	start, end := time.Unix(1800, 0), time.Unix(3500, 0)
	var q promql.Query
	var err error
	if step == 0 {
		q, err = e.NewInstantQuery(b.Context(), from, nil, text, end)
	} else {
		q, err = e.NewRangeQuery(b.Context(), from, nil, text, start, end, step)
	}
	if err != nil {
		b.Fatal(err)
	}
	if r := q.Exec(b.Context()); r.Err != nil {
		b.Fatal(r.Err)
	}
	q.Close()
}
