// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// collect is the sink of a query that is streamed; it copies what it is told, as a client would.
type collect struct{ matrix promql.Matrix }

func (*collect) Begin(parser.ValueType) error { return nil }
func (c *collect) Row(r *exec.Row) error {
	s := promql.Series{Metric: r.Labels}
	for i, k := range r.K {
		switch k {
		case vector.Float:
			s.Floats = append(s.Floats, promql.FPoint{T: r.At(i), F: r.V[i]})
		case vector.Histogram:
			s.Histograms = append(s.Histograms, promql.HPoint{T: r.At(i), H: r.H[i].Copy()})
		case vector.Absent:
		}
	}
	c.matrix = append(c.matrix, s)
	return nil
}
func (*collect) Scalar(int64, float64) error { return nil }
func (*collect) Text(int64, string) error    { return nil }

// keeping is a store whose answers are kept, written to in the past and the present.
type keeping struct {
	t      *testing.T
	db     *tsdb.DB
	engine *query.Engine
	memory *budget.Account
	start  time.Time // of the data
	given  sync.Map  // the milliseconds past has given
}

func newKeeping(t *testing.T) *keeping {
	t.Helper()
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: t.TempDir(), Late: tsdb.LateWindows{Scrape: tsdb.AllRetention}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	k := &keeping{t: t, db: db, memory: budget.NewRoot("test", 0), start: time.Now().Add(-2 * time.Hour).Truncate(time.Second)}
	k.engine = query.NewEngine(db, query.Options{ResultCache: 32 << 20, Memory: k.memory})
	t.Cleanup(func() { _ = k.engine.Close() })
	return k
}

// write appends a sample.
func (k *keeping) write(metric string, series int, at time.Time, v float64) {
	k.t.Helper()
	app := k.db.Storage().AppenderV2(context.Background())
	k.add(app, metric, series, at, v)
	if err := app.Commit(); err != nil {
		k.t.Fatal(err)
	}
}

// past is a time in the past hours at which no other sample is.
func (k *keeping) past(rng *rand.Rand) time.Time {
	for {
		at := k.start.Add(time.Duration(rng.IntN(7000))*time.Second + time.Duration(1+rng.IntN(999))*time.Millisecond)
		if _, taken := k.given.LoadOrStore(at.UnixMilli(), true); !taken {
			return at
		}
	}
}

func (k *keeping) add(app storage.AppenderV2, metric string, series int, at time.Time, v float64) {
	k.t.Helper()
	ls := labels.FromStrings("__name__", metric, "job", strconv.Itoa(series%3), "instance", strconv.Itoa(series))
	if _, err := app.Append(0, ls, 0, at.UnixMilli(), v, nil, nil, storage.AOptions{}); err != nil {
		k.t.Fatal(err)
	}
}

// fill writes the past hours of some series.
func (k *keeping) fill(metrics ...string) {
	k.t.Helper()
	app := k.db.Storage().AppenderV2(context.Background())
	for _, m := range metrics {
		for s := range 6 {
			for at := k.start; at.Before(time.Now()); at = at.Add(15 * time.Second) {
				if (at.Unix()/15+int64(s))%23 != 0 { // gaps
					k.add(app, m, s, at, float64(at.Unix()%1000)*float64(s+1))
				}
			}
		}
	}
	if err := app.Commit(); err != nil {
		k.t.Fatal(err)
	}
}

// ask streams a range query, with the cache or without.
func (k *keeping) ask(qs string, start, end time.Time, step time.Duration, cached bool) (promql.Matrix, *promql.Result) {
	k.t.Helper()
	pq, err := k.engine.NewRangeQuery(k.t.Context(), nil, nil, qs, start, end, step)
	if err != nil {
		k.t.Fatalf("%s: %v", qs, err)
	}
	defer pq.Close()
	q := pq.(*query.Query)
	if !cached {
		q.NoCache()
	}
	var to collect
	warnings, err := q.Stream(k.t.Context(), &to)
	return to.matrix, &promql.Result{Value: to.matrix, Err: err, Warnings: warnings}
}

func (k *keeping) samplesRead(qs string, start, end time.Time, step time.Duration) int64 {
	k.t.Helper()
	pq, err := k.engine.NewRangeQuery(k.t.Context(), nil, nil, qs, start, end, step)
	if err != nil {
		k.t.Fatal(err)
	}
	defer pq.Close()
	if _, err := pq.(*query.Query).Stream(k.t.Context(), &collect{}); err != nil {
		k.t.Fatal(err)
	}
	return pq.Stats().Samples.SamplesRead
}

// same fails unless the cache and the store give one answer.
func (k *keeping) same(qs string, start, end time.Time, step time.Duration) {
	k.t.Helper()
	_, want := k.ask(qs, start, end, step, false)
	_, got := k.ask(qs, start, end, step, true)
	c := querytest.Comparison{NoStatistics: true}
	if d := c.DiffResults(querytest.Query{Text: qs, Start: start, End: end, Step: step}, got, want); d != "" {
		k.t.Errorf("%s from %d to %d step %s: %s", qs, start.UnixMilli(), end.UnixMilli(), step, d)
	}
}

var keptQueries = []string{
	`m`, `rate(m_total[5m])`, `sum by (job) (rate(m_total[2m]))`, `m / on (instance) m_total`, `max_over_time(m[10m:1m])`,
	`topk(2, m)`, `m offset 20m`, `sum(m) - sum(m_total offset -5m)`, `absent(m{job="9"})`, `count(m > 100)`,
	`quantile by (job) (0.5, m)`, `m @ 1700000000`, `histogram_quantile(0.9, m)`, `clamp_max(m, time())`,
}

// Random writes into the past, deletions and refreshes: what is kept never answers differently from what is stored.
func TestKeptAnswersEqualComputedOnes(t *testing.T) {
	k := newKeeping(t)
	k.fill("m", "m_total")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	end := time.Now().Truncate(time.Minute)
	for range 400 {
		switch rng.IntN(8) {
		case 0:
			k.write([]string{"m", "m_total", "other"}[rng.IntN(3)], rng.IntN(8), k.past(rng), rng.NormFloat64())
		case 1:
			if rng.IntN(8) == 0 {
				from := k.start.Add(time.Duration(rng.IntN(7000)) * time.Second)
				m := labels.MustNewMatcher(labels.MatchEqual, "instance", strconv.Itoa(rng.IntN(6)))
				if err := k.db.Delete(t.Context(), from.UnixMilli(), from.Add(3*time.Minute).UnixMilli(), m); err != nil {
					t.Fatal(err)
				}
			}
		case 2:
			k.write("m", rng.IntN(6), time.Now(), rng.NormFloat64())
		default:
			step := []time.Duration{15 * time.Second, time.Minute}[rng.IntN(2)]
			from := end.Add(-time.Duration(rng.IntN(100)+1) * time.Minute)
			k.same(keptQueries[rng.IntN(len(keptQueries))], from, from.Add(time.Duration(rng.IntN(100))*time.Minute), step)
		}
	}
	if used := k.memory.Used(); used != 32<<20 {
		t.Errorf("%d bytes are still charged beside the cache", used-32<<20)
	}
}

// Writers change the past while queries run; once they have stopped nothing wrong is left in the cache.
func TestNothingWrongIsKeptUnderConcurrentLateWrites(t *testing.T) {
	k := newKeeping(t)
	k.fill("m", "m_total")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 2))
			for {
				select {
				case <-stop:
					return
				default:
					k.write([]string{"m", "m_total"}[rng.IntN(2)], rng.IntN(8), k.past(rng), rng.NormFloat64())
				}
			}
		})
	}
	end := time.Now().Truncate(time.Minute)
	for i := range 200 {
		k.ask(keptQueries[i%len(keptQueries)], end.Add(-time.Hour), end, 15*time.Second, true)
	}
	close(stop)
	wg.Wait()
	for _, qs := range keptQueries {
		k.same(qs, end.Add(-time.Hour), end, 15*time.Second)
	}
}

func TestRefreshReadsWhatIsNewOnly(t *testing.T) {
	k := newKeeping(t)
	k.fill("m_total")
	const qs, step = `sum by (job) (rate(m_total[2m]))`, 15 * time.Second
	end := time.Now().Add(-2 * time.Minute).Truncate(step)
	cold := k.samplesRead(qs, end.Add(-time.Hour), end, step)
	warm := k.samplesRead(qs, end.Add(-time.Hour+step), end.Add(step), step)
	if warm*10 > cold {
		t.Errorf("the refresh read %d samples, the first look %d", warm, cold)
	}
	if again := k.samplesRead(qs, end.Add(-time.Hour+step), end.Add(step), step); again != 0 {
		t.Errorf("the same query again read %d samples", again)
	}
	late := end.Add(-30*time.Minute + time.Millisecond) // the filled samples are at whole seconds
	k.write("m_total", 1, late, -5)
	if after := k.samplesRead(qs, end.Add(-time.Hour+step), end.Add(step), step); after == 0 {
		t.Error("a late write left the kept answer in use")
	}
	k.write("another", 1, late, -5)
	if after := k.samplesRead(qs, end.Add(-time.Hour+step), end.Add(step), step); after != 0 {
		t.Errorf("a late write to another metric cost %d samples", after)
	}
}

func TestAnswersWithHistogramsOrWarningsAreNotKept(t *testing.T) {
	k := newKeeping(t)
	k.fill("m")
	app := k.db.Storage().AppenderV2(t.Context())
	for at := k.start; at.Before(time.Now().Add(-time.Hour)); at = at.Add(15 * time.Second) {
		h := &histogram.Histogram{Count: uint64(at.Unix()), ZeroCount: uint64(at.Unix()), ZeroThreshold: 1e-9}
		if _, err := app.Append(0, labels.FromStrings("__name__", "h"), 0, at.UnixMilli(), 0, h, nil, storage.AOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, qs := range []string{`h`, `rate(m[5m])`, `sum(rate(h[5m]))`} { // m is no counter by its name: an info
		end := k.start.Add(50 * time.Minute)
		k.same(qs, end.Add(-30*time.Minute), end, 15*time.Second)
		if n := k.samplesRead(qs, end.Add(-30*time.Minute), end, 15*time.Second); n == 0 {
			t.Errorf("%s was kept", qs)
		}
		k.same(qs, end.Add(-20*time.Minute), end.Add(5*time.Minute), 15*time.Second)
	}
}
