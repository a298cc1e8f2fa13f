// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// spell writes a sample of a series every 15 seconds.
func (k *keeping) spell(from time.Time, d time.Duration, v float64, ls ...string) {
	k.t.Helper()
	app := k.db.Storage().AppenderV2(context.Background())
	for at := from; at.Before(from.Add(d)); at = at.Add(15 * time.Second) {
		if _, err := app.Append(0, labels.FromStrings(ls...), 0, at.UnixMilli(), v, nil, nil, storage.AOptions{}); err != nil {
			k.t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		k.t.Fatal(err)
	}
}

// parts asks for parts of a range first, so that they are kept, and then for all of it.
func (k *keeping) parts(qs string, start, end time.Time, step time.Duration) {
	k.t.Helper()
	n := end.Sub(start) / step
	for _, cut := range []time.Duration{n / 3, n / 2, 2 * n / 3} {
		for from := start; !from.After(end); from = from.Add(cut * step) {
			k.same(qs, from, from.Add(cut*step), step)
		}
		k.same(qs, start, end, step)
	}
}

// What two parts answer is what the whole answers, also where the whole fails, orders groups otherwise or counts @ from
// another step.
func TestPartsThatAreKeptMakeUpTheWhole(t *testing.T) {
	k := newKeeping(t)
	k.engine = query.NewEngine(k.db, query.Options{
		ResultCache: 32 << 20, Memory: budget.NewRoot("test", 0), Features: query.Features{ExperimentalFunctions: true},
	})
	defer k.engine.Close()
	k.fill("m", "m_total")
	start, third := k.start.Add(5*time.Minute).Truncate(time.Minute), 10*time.Minute
	for i := range 3 {
		k.spell(start.Add(time.Duration(i)*third), third, float64(i+1), "__name__", "v")
	}
	// The groups of g come in another order while job d is not there, and job b is first for a third only.
	k.spell(start, third, 1, "__name__", "g", "i", "1", "job", "c")
	k.spell(start.Add(third), third, 1, "__name__", "g", "i", "1", "job", "b")
	k.spell(start.Add(3*third/2), 3*third/2, 1, "__name__", "g", "i", "0", "job", "d")
	k.spell(start, 3*third, 1, "__name__", "g", "i", "2", "job", "a")
	k.spell(start, 3*third, 1, "__name__", "g", "i", "3", "job", "b")
	k.spell(start, 3*third, 1, "__name__", "g", "i", "4", "job", "c")
	// No window of 5 minutes sees two series of these, which are one without their names: that is an error of the whole.
	for i, kind := range []string{"counter", "gauge", "counter"} {
		k.spell(start.Add(time.Duration(i)*third), third/3, 1, "__name__", "n_total", "__type__", kind)
		k.spell(start.Add(time.Duration(i)*third), third/3, float64(i+1), "__name__", "w")
		k.spell(start.Add(time.Duration(i)*third), third/3, 1, "__name__", "names", "__type__", kind)
	}
	at := strconv.FormatInt(start.Add(12*time.Minute).Unix(), 10)
	for _, qs := range []string{
		`sum_over_time(count_values("__name__", w)[1m:15s])`,
		`-count_values("__name__", v)`,
		`max_over_time((w * on () group_left (__name__) count_values("__name__", w))[1m:15s])`,
		`topk(1, sum by (job) (g))`,
		`bottomk(2, max by (job) (g))`,
		`limitk(1, count by (job) (g))`,
		`rate(n_total[5m])`, `rate((n_total + 1)[5m:1m])`,
		`sum_over_time((m @ ` + at + `)[5m:1m] offset -4m)`,
		`sum_over_time((m @ ` + at + ` - m)[5m:1m] offset -4m)`,
		`m @ ` + at + ` offset -3m`,
		`sum_over_time(m[5m:1m] @ ` + at + `)`,
		`topk(scalar(v) - 1, g)`,
		`quantile(scalar(v) / 2, g)`,
		`absent_over_time(v[5m])`, `absent(v == 2)`, `sort_desc(g)`, `g and v`, `scalar(v)`, `vector(scalar(v))`, `hour(v)`, `timestamp(g)`,
		`predict_linear(v[5m], 60)`, `g or v`, `g unless on () (v > 1)`, `changes(v[3m] offset -2m)`, `count_values("x", v)`,
	} {
		k.parts(qs, start, start.Add(3*third), 15*time.Second)
		k.parts(qs, start, start.Add(3*third), time.Minute)
	}
}

func TestKeptAnswersDependOnTheEvaluationInterval(t *testing.T) {
	k := newKeeping(t)
	k.fill("m")
	var interval atomic.Int64
	interval.Store(int64(time.Minute))
	k.engine = query.NewEngine(k.db, query.Options{
		ResultCache: 32 << 20, Memory: budget.NewRoot("test", 0), EvaluationInterval: func() time.Duration { return time.Duration(interval.Load()) },
	})
	defer k.engine.Close()
	end := k.start.Add(time.Hour)
	k.same(`sum_over_time(m[10m:])`, end.Add(-30*time.Minute), end, time.Minute)
	interval.Store(int64(15 * time.Second))
	k.same(`sum_over_time(m[10m:])`, end.Add(-30*time.Minute), end, time.Minute)
}

// Random queries over random data, whose parts are asked for before the whole.
func TestRandomPartsMakeUpTheWhole(t *testing.T) {
	seed := rand.Uint64N(1 << 32)
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	data := querytest.RandomData(seed)
	k := newKeeping(t)
	if err := data.Load(t.Context(), k.db.Storage()); err != nil {
		t.Fatal(err)
	}
	k.engine = query.NewEngine(k.db, query.Options{
		ResultCache: 32 << 20, Memory: budget.NewRoot("test", 0),
		Features: query.Features{ExperimentalFunctions: true, ExtendedRangeSelectors: true, BinopFillModifiers: true},
	})
	defer k.engine.Close()
	g := querytest.NewGenerator(seed, data)
	kept := 0
	for n := 0; n < randomParts && !t.Failed(); {
		text := g.Text()
		step := time.Duration(data.Interval) * time.Millisecond * time.Duration(1+rng.IntN(3)) / 2
		start := time.UnixMilli(data.Start - 3*data.Interval)
		if rng.IntN(2) == 0 {
			start = start.Truncate(time.Minute)
		}
		steps := int(time.UnixMilli(data.End+3*data.Interval).Sub(start) / step)
		if _, err := k.engine.NewRangeQuery(t.Context(), nil, nil, text, start, start, step); err != nil {
			continue // an instant query, say
		}
		n++
		for range 3 {
			from := rng.IntN(steps)
			k.same(text, start.Add(time.Duration(from)*step), start.Add(time.Duration(from+rng.IntN(steps-from))*step), step)
		}
		k.same(text, start, start.Add(time.Duration(steps)*step), step)
		q, err := k.engine.NewRangeQuery(t.Context(), nil, nil, text, start, start.Add(time.Duration(steps)*step), step)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.(*query.Query).Stream(t.Context(), &collect{}); err == nil && q.Stats().Samples.SamplesRead == 0 {
			kept++
		}
		q.Close()
	}
	t.Logf("%d of %d queries were answered from the cache alone", kept, randomParts)
}

// randomParts is how many random queries are asked; large in a search for mistakes.
const randomParts = 150
