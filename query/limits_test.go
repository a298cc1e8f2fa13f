// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// What the queries of death run over and within.
const (
	deathSeries  = 24_000
	deathScrapes = 40
	deathMemory  = 6 << 20
	// deathSlack is what the heap may grow by beside a query's memory: garbage, and the series cache.
	deathSlack   = 64 << 20
	deathTimeout = 3 * time.Second
	ruleInterval = 100 * time.Millisecond
)

// crowd is a store of many series, and an engine that gives each query little memory.
type crowd struct {
	db     *tsdb.DB
	memory *budget.Account // of the process
	engine *query.Engine
	rules  *query.Engine
	end    time.Time
}

var deathStart = time.Unix(1_700_000_000, 0)

// newCrowd returns a store of deathSeries series of floats, some classic and some native histograms, and a metric of a
// few series for rules.
func newCrowd(tb testing.TB, o query.Options) *crowd {
	tb.Helper()
	db, err := tsdb.Open(context.Background(), tsdb.Options{Dir: tb.TempDir(), MaxFuture: -1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	c := &crowd{db: db, memory: budget.NewRoot("process", 1<<30), end: deathStart.Add((deathScrapes - 1) * 15 * time.Second)}
	c.fill(tb)
	reserve, err := c.memory.Guarantee("rules", 16<<20, 0)
	if err != nil {
		tb.Fatal(err)
	}
	o.Memory = c.memory.Child("queries", 64<<20)
	if o.PerQuery == 0 {
		o.PerQuery = deathMemory
	}
	o.Features = querytest.SuiteOptions().Features
	c.engine = query.NewEngine(db, o)
	tb.Cleanup(func() {
		if err := c.engine.Close(); err != nil {
			tb.Error(err)
		}
	})
	c.rules = c.engine.ForRules(reserve)
	return c
}

func (c *crowd) fill(tb testing.TB) {
	tb.Helper()
	var series []labels.Labels
	for i := range deathSeries {
		series = append(series, labels.FromStrings("__name__", "m"+strconv.Itoa(i%4), "job", strconv.Itoa(i%7), "instance", fmt.Sprintf("instance-%08d.example.com:9100", i)))
	}
	for i := range 40 {
		for _, le := range []string{"0.1", "1", "10", "+Inf"} {
			series = append(series, labels.FromStrings("__name__", "h_bucket", "i", strconv.Itoa(i), "le", le))
		}
		series = append(series, labels.FromStrings("__name__", "rule_input", "i", strconv.Itoa(i)))
	}
	native := len(series)
	for i := range 300 {
		series = append(series, labels.FromStrings("__name__", "n", "i", strconv.Itoa(i)))
	}
	refs := make([]storage.SeriesRef, len(series))
	for s := range deathScrapes {
		app := c.db.Storage().AppenderV2(context.Background())
		t := deathStart.Add(time.Duration(s) * 15 * time.Second).UnixMilli()
		for i, ls := range series {
			var h *histogram.Histogram
			if i >= native {
				h = bigHistogram(s + i)
			}
			ref, err := app.Append(refs[i], ls, 0, t, float64(s*(i%13+1))+1/float64(i+1), h, nil, storage.AOptions{})
			if err != nil {
				tb.Fatal(err)
			}
			refs[i] = ref
		}
		if err := app.Commit(); err != nil {
			tb.Fatal(err)
		}
	}
}

// bigHistogram has a hundred buckets.
func bigHistogram(n int) *histogram.Histogram {
	h := &histogram.Histogram{Schema: 3, ZeroThreshold: 0.001, Sum: float64(n), PositiveSpans: []histogram.Span{{Offset: 0, Length: 100}}}
	for i := range 100 {
		h.PositiveBuckets = append(h.PositiveBuckets, int64(i%2))
		h.Count += uint64(n + (i+1)/2)
	}
	h.PositiveBuckets[0] = int64(n)
	h.Count = 0
	at := int64(0)
	for _, d := range h.PositiveBuckets {
		at += d
		h.Count += uint64(at)
	}
	return h
}

// deaths are the queries that bring servers down. Those of step 0 are instant.
func deaths(end time.Time) []querytest.Query {
	all := `{__name__=~".+"}`
	instant := func(text string) querytest.Query { return querytest.At(text, end) }
	hours := func(text string, steps int, step time.Duration) querytest.Query {
		return querytest.Between(text, end.Add(-time.Duration(steps-1)*step), end, step)
	}
	out := []querytest.Query{
		instant(all),
		instant(all + "[10y]"),
		instant("count_over_time(" + all + "[10y])"),
		instant("m0[10y]"),
		instant("sum_over_time(m0[1y:1ms])"),
		instant("m0[1y:1ms]"),
		instant("max_over_time((sum(m0))[1y:1s])"),
		instant("max_over_time((m0 + on (instance) m0)[1y:1s])"),
		instant("max_over_time(max_over_time(max_over_time(m0[1d:1s])[1d:1s])[1d:1s])"),
		instant(strings.Repeat("max_over_time(", 40) + "m0" + strings.Repeat("[1h:1m])", 40)),
		instant(`count_values("v", ` + all + `)`),
		instant(`topk(1e9, ` + all + `)`),
		instant(`bottomk by (instance) (1e9, ` + all + `)`),
		instant(`limitk(1e9, ` + all + `)`),
		instant(`limit_ratio(1, ` + all + `)`),
		instant(`label_replace(` + all + `, "copy", "$1$1$1$1$1$1$1$1", "instance", "(.*)")`),
		instant(`label_join(` + all + `, "copy", "-", "instance", "instance", "instance", "instance", "instance")`),
		instant(strings.Repeat(`label_join(`, 12) + all + strings.Repeat(`, "instance", "-", "instance", "instance")`, 12)),
		instant(strings.Repeat("(", 10_000) + "m0" + strings.Repeat(")", 10_000)),
		instant(strings.Repeat("-", 4_000) + "m0"),
		instant(strings.Repeat("abs(", 990) + "m0" + strings.Repeat(")", 990)),
		instant(strings.Repeat("-", 1_000_000) + "m0"),
		instant("m0" + strings.Repeat(" + m0", 3000)),
		instant("m0" + strings.Repeat(" + m0", 1_000_000)),
		instant("m0" + strings.Repeat(" or m1", 500)),
		instant(unlikes(" or ", 500)),
		instant("sum(" + unlikes(") + sum(", 500) + ")"),
		instant(`m0 * on () group_left () m1`),
		instant(`m0 * on (job) group_left () m1`),
		instant(`sum(m0) * on () group_right () m1`),
		instant(`m0 * on (job) group_left (le) sum by (job) (m1)`),
		instant(`m0 and on () m1`),
		instant(`m0 unless on (instance) ` + all),
		instant(`{__name__=~"` + alternatives(50_000, "m%d") + `"}`),
		instant(`{instance=~"` + alternatives(20_000, "instance-%08d.*") + `"}`),
		instant(`{instance=~"` + alternatives(3_000, ".*%d.*x?") + `"}`),
		instant("m0" + strings.Repeat(` or {instance=~"x{1000}.*"}`, 50)),
		instant("m0" + strings.Repeat(` or {instance=~"x{1000}.*"}`, 4_000)),
		instant(`label_replace(m0, "a", "$1", "instance", "` + strings.Repeat("(x{1000})?", 50) + `.*")`),
		instant(`{instance=~"(.*a){25}|(.*b){25}|(.*c){25}"}`),
		instant(`quantile(0.5, ` + all + `)`),
		instant(`quantile by (instance) (0.5, ` + all + `)`),
		instant(`absent(` + all + `)`),
		instant(`absent_over_time(` + all + `[10y])`),
		instant(`sort(` + all + `)`),
		instant(`sort_by_label(` + all + `, "instance", "job")`),
		instant(`info(` + all + `)`),
		instant(`info(` + all + `, {__name__=~".+"})`),
		instant(`histogram_quantile(0.9, ` + all + `)`),
		instant(`histogram_quantile(0.9, label_replace(m0, "le", "$1", "instance", "instance-0*([0-9]+).*"))`),
		instant(`sum by (instance, job) (` + all + `)`),
		instant(`n[10y]`),
		instant(`n + n`),
		instant(`limitk(1e9, n)`),
		instant(`-n * 2 / 3`),
		instant(`count_values("v", n)`),
		instant(`label_replace(m0, "copy", "` + strings.Repeat("$1", 400_000) + `", "instance", "(.*)")`),
		instant(`label_join(m0, "copy", "-"` + strings.Repeat(`, "instance"`, 400_000) + `)`),
		instant(`rate(n[10y])`),
		instant(`last_over_time(n[10y])`),
		hours(all, 11_000, time.Second),
		hours("m0", 11_000, 15*time.Second),
		hours("sum by (instance) ("+all+")", 11_000, time.Second),
		hours("rate("+all+"[1y])", 11_000, time.Second),
		hours("quantile_over_time(0.9, m0[1y])", 11_000, 15*time.Second),
		hours("topk(1e9, "+all+")", 11_000, 15*time.Second),
		hours(`count_values("v", m0)`, 11_000, time.Second),
		hours("quantile(0.5, "+all+")", 11_000, time.Second),
		hours("stddev by (instance) ("+all+")", 11_000, time.Second),
		hours("m0 - on (instance, job) m1", 11_000, time.Second),
		hours("m0 or m1 or m2", 11_000, time.Second),
		hours("m0 and on (job) m1", 11_000, time.Second),
		hours("avg(m0) by (instance) > 1 unless on (instance) m2", 11_000, time.Second),
		hours("sort("+all+")", 11_000, time.Second),
		hours("absent("+all+")", 11_000, time.Second),
		hours("info("+all+")", 11_000, time.Second),
		hours("histogram_quantile(0.9, sum by (le, instance) ("+all+"))", 11_000, time.Second),
		hours("n", 11_000, time.Second),
		hours("sum by (i) (n)", 11_000, time.Second),
		hours("rate(n[5m])", 11_000, time.Second),
		hours("histogram_quantile(0.9, n)", 11_000, time.Second),
		hours("limitk(1e9, n)", 11_000, time.Second),
		hours("limit_ratio(1, n)", 11_000, time.Second),
		hours(`count_values("v", n)`, 11_000, time.Second),
		hours("-n", 11_000, time.Second),
		hours("n * 2", 11_000, time.Second),
		hours("max_over_time((m0)[1h:1s])", 11_000, time.Second),
		hours("m0 @ end()", 11_000, time.Second),
		hours("time()", 1_000_000_000, time.Millisecond),
		hours("vector(1)", 1_000_000_000, time.Millisecond),
		hours("m0", 1_000_000_000, time.Millisecond),
		hours(`count_values("v", rule_input)`, 1_000_000_000, time.Millisecond),
		hours(`1 + scalar(rule_input) * time()`, 1_000_000_000, time.Millisecond),
	}
	return out
}

// unlikes joins different selectors of the same series.
func unlikes(by string, n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`{__name__=~"m.|x%d"}`, i)
	}
	return strings.Join(parts, by)
}

// alternatives is a regular expression of n alternatives.
func alternatives(n int, format string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(parts, "|")
}

// short is as much of a query as a message needs.
func short(q querytest.Query) string {
	text := q.Text
	if len(text) > 90 {
		text = text[:60] + " ... " + text[len(text)-25:]
	}
	if q.Step > 0 {
		return fmt.Sprintf("%s over %d steps", text, q.End.Sub(q.Start)/q.Step+1)
	}
	return text
}

// typed tells whether an error is one that a client can tell from a mistake of the server.
func typed(err error) bool {
	var (
		memory  *budget.ExceededError
		samples promql.ErrTooManySamples
		timeout promql.ErrQueryTimeout
	)
	return errors.As(err, &memory) || errors.As(err, &samples) || errors.As(err, &timeout) || errors.Is(err, context.DeadlineExceeded)
}

// bad tells whether an error is about the query or its data, which Prometheus has too.
func bad(err error) bool {
	for _, part := range []string{"parse error", "many-to-many matching", "multiple matches", "same labelset", "grouping labels must ensure"} {
		if strings.Contains(err.Error(), part) {
			return true
		}
	}
	return false
}

// heapWatch samples the heap until it is stopped.
type heapWatch struct {
	stop chan struct{}
	done sync.WaitGroup
	peak uint64
	base uint64
	live uint64
}

func watchHeap() *heapWatch {
	runtime.GC()
	w := &heapWatch{stop: make(chan struct{}), base: heapBytes()}
	w.done.Go(func() {
		for {
			w.peak = max(w.peak, heapBytes())
			w.live = max(w.live, liveBytes())
			select {
			case <-w.stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	return w
}

// grown ends the watch and returns by how much the heap had grown at most.
func (w *heapWatch) grown() int64 {
	close(w.stop)
	w.done.Wait()
	return int64(w.peak) - int64(w.base)
}

func liveBytes() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// heapBytes is what objects take, garbage that was not yet found among them.
func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// ruleGroup asks what a rule asks, again and again.
type ruleGroup struct {
	stop chan struct{}
	done sync.WaitGroup
	took []time.Duration
	errs []error
}

func startRules(e *query.Engine, at time.Time) *ruleGroup {
	g := &ruleGroup{stop: make(chan struct{})}
	g.done.Go(func() {
		tick := time.NewTicker(ruleInterval)
		defer tick.Stop()
		for {
			select {
			case <-g.stop:
				return
			case <-tick.C:
			}
			began := time.Now()
			q, err := e.NewInstantQuery(context.Background(), nil, nil, "sum by (i) (rate(rule_input[5m])) > 0", at)
			if err == nil {
				r := q.Exec(context.Background())
				if err = r.Err; err == nil && len(r.Value.(promql.Vector)) != 39 && len(r.Value.(promql.Vector)) != 40 {
					err = fmt.Errorf("%d series", len(r.Value.(promql.Vector)))
				}
				q.Close()
			}
			g.took = append(g.took, time.Since(began))
			if err != nil {
				g.errs = append(g.errs, err)
			}
		}
	})
	return g
}

// end stops the group and checks that it kept its interval.
func (g *ruleGroup) end(t *testing.T) {
	t.Helper()
	close(g.stop)
	g.done.Wait()
	for _, err := range g.errs {
		t.Errorf("a rule failed: %v", err)
	}
	slices.Sort(g.took)
	n := len(g.took)
	if n == 0 {
		t.Fatal("no rule was evaluated")
	}
	late := 0
	for _, d := range g.took {
		if d > ruleInterval {
			late++
		}
	}
	t.Logf("%d evaluations of rules, median %s, 95 %% %s, slowest %s, %d later than the interval", n, g.took[n/2], g.took[n*95/100], g.took[n-1], late)
	if late*50 > n*raceFactor {
		t.Errorf("%d of %d evaluations of a rule took more than its interval", late, n)
	}
}

func TestQueriesOfDeathEndWithinTheirLimitsWhileRulesKeepTheirInterval(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	c := newCrowd(t, query.Options{Timeout: deathTimeout})
	before := c.memory.Used()
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	rules := startRules(c.rules, c.end)
	counts := map[string]int{}
	for _, q := range deaths(c.end) {
		w := watchHeap()
		began := time.Now()
		r := querytest.Ask(t.Context(), c.engine, nil, q)
		took, grown := time.Since(began), w.grown()
		err := r.Failed()
		ending := "answer"
		switch {
		case err == nil:
		case typed(err):
			ending = "limit"
		case bad(err):
			ending = "bad"
		default:
			ending = "untyped"
			t.Errorf("%s: %v", short(q), err)
		}
		counts[ending]++
		t.Logf("%-7s %8s %6.1f %6.1f MiB  %s  %.120v", ending, took.Round(time.Millisecond), float64(grown)/(1<<20), float64(int64(w.live)-int64(w.base))/(1<<20), short(q), err)
		if grown > deathMemory+deathSlack {
			t.Errorf("%s: the heap grew by %d MiB", short(q), grown>>20)
		}
		if late := took - deathTimeout; late > time.Second {
			t.Errorf("%s: ended %s after its timeout", short(q), late)
		}
	}
	rules.end(t)
	for range 50 { // workers may still be about to give back
		if c.memory.Used() == before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if used := c.memory.Used(); used != before {
		t.Errorf("%d bytes are charged, want %d as before", used, before)
	}
	t.Logf("%v", counts)
	if counts["limit"] < 20 || counts["answer"] < 5 || counts["bad"] < 5 {
		t.Errorf("endings %v: the data or the limits are not what this test needs", counts)
	}
}
