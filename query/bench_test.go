// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb"
)

// benchCase is one query of the table in docs/benchmarks.md, by its number there.
type benchCase struct {
	n     int
	query string
	end   time.Duration // before the end of the data; mostly 0
	step  time.Duration
	steps []int
}

// BenchmarkQuery runs each query of the table with our engine over our storage and with Prometheus' engine over its
// own, in turns, and reports the medians of wall and CPU time in milliseconds, bytes allocated, and by how much ours
// is less (x-...). BENCH_NODES and BENCH_HOURS set the size of set K (5 and 6).
func BenchmarkQuery(b *testing.B) {
	b.Run("P", func(b *testing.B) { benchSet(b, setP(), casesP()) })
	b.Run("T", func(b *testing.B) { benchSet(b, setT(), casesT()) })
	b.Run("J", func(b *testing.B) { benchSet(b, setJ(5010), casesJ()) })
	b.Run("N", func(b *testing.B) { benchSet(b, setN(300, 500), casesN()) })
	b.Run("I", func(b *testing.B) { benchSet(b, setI(), casesI()) })
	b.Run("K", func(b *testing.B) { benchSet(b, setK(envInt("BENCH_NODES", 5), envInt("BENCH_HOURS", 6)), casesK()) })
}

func casesP() []benchCase {
	s, k := 10*time.Second, 1000
	return []benchCase{
		{1, `a_hundred`, 0, s, []int{1, k}},
		{2, `rate(a_hundred[1m])`, 0, s, []int{1, k, 10 * k}},
		{3, `rate(sparse[1m])`, 0, s, []int{10 * k}},
		{4, `rate(a_hundred[1d])`, 0, s, []int{1, k}},
		{5, `changes(a_hundred[1d])`, 0, s, []int{1, k}},
		{6, `double_exponential_smoothing(a_hundred[1d], 0.3, 0.3)`, 0, s, []int{1, 100}},
		{7, `sum_over_time(a_hundred[1d])`, 0, s, []int{1, k}},
		{7, `quantile_over_time(0.9, a_hundred[1d])`, 0, s, []int{1, 20}},
		{7, `max_over_time(a_hundred[1d])`, 0, s, []int{1, k}},
		{7, `stddev_over_time(a_hundred[1d])`, 0, s, []int{1, k}},
		{8, `rate(a_hundred[1m] smoothed)`, 0, s, []int{k, 10 * k}},
		{9, `a_hundred - b_hundred`, 0, s, []int{k, 10 * k}},
		{9, `a_hundred and b_hundred{l=~'.*[0-4]$'}`, 0, s, []int{k}},
		{10, `label_replace(a_hundred, 'l2', '$1', 'l', '(.*)')`, 0, s, []int{k}},
		{11, `topk(5, a_hundred)`, 0, s, []int{k}},
		{11, `limitk(5, a_hundred)`, 0, s, []int{k}},
		{12, `count_values('value', h_hundred)`, 0, s, []int{100}},
		{13, `histogram_quantile(0.9, rate(h_hundred[5m]))`, 0, s, []int{k}},
		{13, `sum by (le)(h_hundred)`, 0, s, []int{k}},
	}
}

func casesT() []benchCase {
	s, n := 30*time.Second, []int{1, 241}
	return []benchCase{
		{14, `sum by (pod) (http_requests_total)`, 0, s, n},
		{15, `sum(rate(http_requests_total[1m]))`, 0, s, n},
		{15, `rate(http_requests_total[10m])`, 0, 5 * time.Minute, []int{25}},
		{16, `clamp(1 - http_requests_total, 10 - 5, 10)`, 0, s, n},
		{16, `http_requests_total > 10`, 0, s, n},
		{17, `http_requests_total / on (pod) group_left () http_responses_total`, 0, s, n},
		{18, `histogram_quantile(0.9, http_response_seconds_bucket)`, 0, s, n},
		{19, `max_over_time(http_requests_total[6h])`, 0, s, n},
		{19, `stddev_over_time(http_requests_total[1h])`, 0, s, n},
		{20, `sum_over_time(rate(http_requests_total[1m])[10m:1m])`, 0, s, n},
	}
}

func casesJ() []benchCase {
	s, n := 10*time.Second, []int{1, 5000}
	return []benchCase{
		{21, `rpc_request_success_total + ON (job, instance) GROUP_LEFT rpc_request_error_total`, 0, s, n},
		{22, `rpc_request_success_total UNLESS rpc_request_error_total{instance=~"0.*"}`, 0, s, n},
	}
}

func casesN() []benchCase {
	s, n := 30*time.Second, []int{1, 241}
	return []benchCase{
		{23, `sum(rate(native_histogram_series[2m]))`, 0, s, n},
		{23, `sum(rate(native_histogram_series[20m]))`, 0, s, n},
		{24, `histogram_count(sum(rate(native_histogram_series[2m]))) + histogram_sum(sum(rate(native_histogram_series[2m])))`, 0, s, n},
	}
}

func casesI() []benchCase {
	return []benchCase{{
		25, `sum by (k8s_cluster_name, http_status_code) (info(rate(http_server_request_duration_seconds_count[2m]), {k8s_cluster_name=~".+"}))`,
		0, 30 * time.Second,
		[]int{1, 240},
	}}
}

func casesK() []benchCase {
	m := time.Minute
	return []benchCase{
		{26, `1 - avg without (cpu) (sum without (mode) (rate(node_cpu_seconds_total{job="node", mode=~"idle|iowait|steal"}[5m])))`, 0, 15 * time.Second, []int{1, 1400}},
		{27, `sum by (cluster, namespace, pod, container) (rate(container_cpu_usage_seconds_total{image!=""}[5m])) * on (cluster, namespace, pod) group_left(node) topk by (cluster, namespace, pod) (1, max by (cluster, namespace, pod, node) (kube_pod_info{node!=""}))`, 0, m, []int{1, 60}},
		{28, `histogram_quantile(0.99, sum by (cluster, le, resource) (rate(apiserver_request_sli_duration_seconds_bucket{verb=~"LIST|GET"}[5m])))`, 0, m, []int{1, 350}},
		{29, `sum(rate(apiserver_request_total{code=~"5.."}[5h])) / sum(rate(apiserver_request_total[5h]))`, 0, 10 * m, []int{1, 6}},
		{30, `predict_linear(node_filesystem_avail_bytes{fstype!=""}[5h], 24*60*60) < 0 and node_filesystem_readonly == 0`, 0, m, []int{1}},
		{31, `count({__name__!=""})`, 0, m, []int{1}},
		{31, `topk(10, count by (__name__)({__name__=~".+"}))`, 0, m, []int{1}},
	}
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

// benchSet loads a set into both storages and runs its cases.
func benchSet(b *testing.B, d *dataset, cases []benchCase) {
	load := sync.OnceValues(func() (theirs, ours func(qs string, start, end time.Time, step time.Duration) (promql.Query, error)) {
		st := benchPrometheus(b, d)
		peer := querytest.NewReference(query.Options{MaxSamples: 1 << 40, Features: benchFeatures()})
		db := benchTidemark(b, d)
		engine := query.NewEngine(db, query.Options{MaxSamples: 1 << 40, Features: benchFeatures()})
		b.Cleanup(func() { _ = engine.Close() })
		return prepareWith(peer, st), prepareWith(engine, nil)
	})
	for _, c := range cases {
		for _, n := range c.steps {
			b.Run(fmt.Sprintf("%02d/%s/steps=%d", c.n, c.query, n), func(b *testing.B) {
				theirs, ours := load()
				end := time.UnixMilli(d.end()).Add(-c.end)
				start := end.Add(-time.Duration(n-1) * c.step)
				b.ResetTimer()
				compare(b, func() promql.Query { return must(b)(theirs(c.query, start, end, c.step)) },
					func() promql.Query { return must(b)(ours(c.query, start, end, c.step)) })
			})
		}
	}
}

func benchFeatures() query.Features {
	return query.Features{ExperimentalFunctions: true, ExtendedRangeSelectors: true}
}

func must(b *testing.B) func(promql.Query, error) promql.Query {
	return func(q promql.Query, err error) promql.Query {
		if err != nil {
			b.Fatal(err)
		}
		return q
	}
}

func prepareWith(e promql.QueryEngine, q storage.Queryable) func(string, time.Time, time.Time, time.Duration) (promql.Query, error) {
	return func(qs string, start, end time.Time, step time.Duration) (promql.Query, error) {
		if start.Equal(end) {
			return e.NewInstantQuery(context.Background(), q, nil, qs, end)
		}
		return e.NewRangeQuery(context.Background(), q, nil, qs, start, end, step)
	}
}

func benchPrometheus(b *testing.B, d *dataset) storage.Queryable {
	b.Helper()
	st, err := teststorage.NewWithError(func(o *promtsdb.Options) { o.EnableSTStorage = false })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	d.load(b, st)
	if err := st.Compact(context.Background()); err != nil {
		b.Fatal(err)
	}
	return st
}

func benchTidemark(b *testing.B, d *dataset) *tsdb.DB {
	b.Helper()
	dir := b.TempDir()
	now := func() time.Time { return time.UnixMilli(d.end()) } // so that the last slot is not over
	db, err := tsdb.Open(context.Background(), tsdb.Options{Dir: dir, MaxFuture: -1, Late: tsdb.LateWindows{Scrape: tsdb.AllRetention}, Now: now})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	d.load(b, db.Storage())
	if err := db.Maintain(context.Background()); err != nil {
		b.Fatal(err)
	}
	return db
}

// cost is what one run took.
type cost struct {
	wall, cpu time.Duration
	bytes     uint64
}

// compare runs the evaluation of both in turns.
func compare(b *testing.B, theirs, ours func() promql.Query) {
	turns(b, func() cost { return measure(b, theirs()) }, func() cost { return measure(b, ours()) })
	afresh(b, theirs, ours)
}

// afresh reports the bytes that both allocate when nothing is left in their pools, of which two collections clear out
// all there is: what a query takes, whoever asked before.
func afresh(b *testing.B, theirs, ours func() promql.Query) {
	var t, o []float64
	for range 3 {
		for _, x := range []struct {
			query func() promql.Query
			to    *[]float64
		}{{theirs, &t}, {ours, &o}} {
			runtime.GC()
			runtime.GC()
			*x.to = append(*x.to, float64(measure(b, x.query()).bytes)/1e6)
		}
	}
	slices.Sort(t)
	slices.Sort(o)
	b.ReportMetric(t[1], "prom-MB")
	b.ReportMetric(o[1], "ours-MB")
	b.ReportMetric(t[1]/o[1], "x-MB")
}

// turns runs both in turns until both have had enough time, and reports medians.
func turns(b *testing.B, theirs, ours func() cost) {
	var t, o []cost
	for b.Loop() {
		for begin := time.Now(); len(o) < 3 || time.Since(begin) < time.Second && len(o) < 50; {
			t = append(t, theirs())
			o = append(o, ours())
		}
	}
	report(b, t, o)
}

// report reports the medians of both and by how much ours are less.
func report(b *testing.B, t, o []cost) {
	wall := func(c cost) float64 { return float64(c.wall) / 1e6 }
	cpu := func(c cost) float64 { return float64(c.cpu) / 1e6 }
	bytes := func(c cost) float64 { return float64(c.bytes) / 1e6 }
	for _, m := range []struct {
		name string
		of   func(cost) float64
	}{{"wall", wall}, {"cpu", cpu}, {"MB", bytes}} {
		x, y := median(t, m.of), median(o, m.of)
		b.ReportMetric(x, "prom-"+m.name)
		b.ReportMetric(y, "ours-"+m.name)
		b.ReportMetric(x/max(y, 1e-6), "x-"+m.name)
	}
	b.ReportMetric(0, "ns/op")
}

func median(cs []cost, of func(cost) float64) float64 {
	v := make([]float64, len(cs))
	for i, c := range cs {
		v[i] = of(c)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func measure(b *testing.B, q promql.Query) cost {
	defer q.Close()
	return spent(func() {
		if res := q.Exec(context.Background()); res.Err != nil {
			b.Fatalf("%s: %v", q, res.Err)
		}
	})
}

// spent runs f and returns what that took.
func spent(f func()) cost {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	f()
	c := cost{wall: time.Since(start), cpu: cpuTime() - cpu}
	runtime.ReadMemStats(&after)
	c.bytes = after.TotalAlloc - before.TotalAlloc
	return c
}

// cpuTime is what this process has used so far, its garbage collector included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
