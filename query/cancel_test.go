// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
	"go.uber.org/goleak"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// wideSeries is how many series each metric of a wide source has.
const wideSeries = 100_000

// wide is a source of so many series that any loop over them takes long, made without a store: the metrics a and b,
// with a sample every 15 s at all times.
type wide struct{ sets map[string]*column.SeriesSet }

func newWide() wide {
	w := wide{sets: map[string]*column.SeriesSet{}}
	text := []string{""}
	for i := range wideSeries {
		text = append(text, fmt.Sprintf("%08d", i))
	}
	for gen, name := range []string{"a", "b"} {
		text := append(slices.Clip(text), name, "x", "y", "z")
		set := &column.SeriesSet{Gen: uint64(gen + 1), N: wideSeries, Names: []string{"__name__", "instance", "job"}, Text: text}
		for range set.Names {
			set.Syms = append(set.Syms, make([]uint32, wideSeries))
		}
		for i := range wideSeries {
			set.Syms[0][i], set.Syms[1][i], set.Syms[2][i] = wideSeries+1, uint32(i+1), uint32(wideSeries+2+i%3)
		}
		w.sets[name] = set
	}
	return w
}

func (w wide) View(int64, int64) (column.View, error) { return w, nil }

// Series implements column.View. The metric decides alone.
func (w wide) Series(_ context.Context, ms []*labels.Matcher, _ column.Hint) (*column.SeriesSet, error) {
	for _, m := range ms {
		if m.Name == labels.MetricName && w.sets[m.Value] != nil {
			return w.sets[m.Value], nil
		}
	}
	return &column.SeriesSet{Gen: 100}, nil
}

// Scan implements column.View.
func (wide) Scan(_ context.Context, _ *column.SeriesSet, ids []uint32, n column.Need, dst *column.Block) (int, error) {
	dst.Reset()
	done := 0
	for done < len(ids) && len(dst.T) < 8192 {
		from := (n.MinT + 14_999) / 15_000 * 15_000
		if err := dst.Reserve(int((n.MaxT-from)/15_000 + 1)); err != nil {
			return 0, err
		}
		for t := from; t <= n.MaxT; t += 15_000 {
			dst.AppendFloat(t, 0, float64((int64(ids[done])*2654435761+t/1000)%1_000_003))
		}
		dst.EndSeries()
		done++
	}
	return done, nil
}

func (wide) Warnings() annotations.Annotations { return nil }
func (wide) Close() error                      { return nil }

// families are queries that spend their time in different loops; those with a step over minutes.
func families() []querytest.Query {
	end := time.UnixMilli(1_700_000_000_000)
	at := func(text string) querytest.Query { return querytest.At(text, end) }
	over := func(text string, steps int) querytest.Query {
		return querytest.Between(text, end.Add(-time.Duration(steps-1)*15*time.Second), end, 15*time.Second)
	}
	return []querytest.Query{
		at("a"), over("a", 20), at("a[5m]"), over("rate(a[5m])", 20), over("a offset 5m", 20),
		over("quantile_over_time(0.9, a[20m])", 20), over("deriv(a[10m])", 20), over("max_over_time(a[1h])", 20),
		over("a smoothed", 20), over("rate(a[5m] anchored)", 20), over("timestamp(a)", 20),
		at("max_over_time(a[10m:15s])"), at("sum_over_time(sin(vector(time()))[60d:1s])"), over("sum_over_time(sum(a)[1h:15s])", 5), over("a @ end()", 20),
		at("sort(a)"), at("sort_desc(a)"), at(`sort_by_label(a, "instance")`),
		at(`label_replace(a, "copy", "x$1", "instance", "(.*)")`), over(`label_join(a, "copy", "-", "instance", "job")`, 10),
		over("abs(a)", 20), over("round(a / 3)", 20), over("absent(a)", 20), over("-a", 20), over("month(a)", 20),
		over("a > bool 5", 20), over("clamp(a, 1, 5)", 20),
		at("sum by (instance) (a)"), over("sum by (job) (a)", 20), over("avg without (job) (a)", 20), over("stddev(a)", 20),
		over("max by (instance) (a)", 10),
		at("quantile(0.5, a)"), at("quantile(0.5, (a % 2 - 0.5) * 0)"), over("quantile by (job) (0.5, a)", 20), at("topk(100000, a)"), over("topk(5, a)", 20),
		at("topk by (job) (1e9, a)"), at("limitk(1e5, a)"), at("limit_ratio(0.5, a)"), at(`count_values("v", a)`),
		over(`count_values("v", a % 1000)`, 10),
		at("a + on (instance, job) b"), at(`sum by (instance) (a) + sum by (instance) (b)`), over("a + on (instance, job) b", 20), over("a * on (job) group_left () sum by (job) (b)", 20),
		at("a and on (instance) b"), over("a and on (job) b", 20), at("a or b"), over("a or on (instance) b", 20), at("a unless on (instance) b"),
		at("info(a)"), over("info(a)", 10),
		at(`histogram_quantile(0.9, label_replace(a, "le", "$1", "instance", "0*(.*)"))`),
		over(`histogram_quantile(0.9, label_replace(a, "le", "$1", "job", "(.*)"))`, 10),
		over("sum(a) / count(a) + max(a) - min(a)", 20),
		over(strings.Repeat("abs(", 50)+"a"+strings.Repeat(")", 50), 20),
	}
}

// slack is how late a query may end that was told to; measured again where it is later, because other work of the
// process may be the reason.
const slack = raceFactor * 50 * time.Millisecond

// endsAfter runs a query, stops it after a while and returns how much longer it took: wall time, or processor time
// where that is less, because other processes may have been the reason.
func endsAfter(t *testing.T, e *query.Engine, q querytest.Query, wait time.Duration, stop func(promql.Query, context.CancelFunc)) (late time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var run promql.Query
	if q.Instant() {
		run, err = e.NewInstantQuery(ctx, nil, nil, q.Text, q.Start)
	} else {
		run, err = e.NewRangeQuery(ctx, nil, nil, q.Text, q.Start, q.End, q.Step)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	var stopped time.Time
	var used time.Duration
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(wait)
		stopped, used = time.Now(), cpuTime()
		stop(run, cancel)
	}()
	res := run.Exec(ctx)
	ended, usedThen := time.Now(), cpuTime()
	<-done
	return min(ended.Sub(stopped), usedThen-used), res.Err
}

func TestEveryLoopEndsSoonAfterTheQueryIsCanceled(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	memory := budget.NewRoot("test", 0)
	o := query.Options{Features: querytest.SuiteOptions().Features, MaxSamples: 1 << 40, Memory: memory}
	e := newEngine(t, newWide(), o)
	ways := []func(promql.Query, context.CancelFunc){
		func(_ promql.Query, cancel context.CancelFunc) { cancel() },
		func(q promql.Query, _ context.CancelFunc) { q.Cancel() },
		func(promql.Query, context.CancelFunc) {
			for _, a := range e.Active() {
				e.Cancel(a.ID)
			}
		},
	}
	var canceled promql.ErrQueryCanceled
	for _, q := range families() {
		var worst time.Duration
		failed := 0
		begun := time.Now()
		endsAfter(t, e, q, 0, func(promql.Query, context.CancelFunc) {}) // what is done once takes no time then
		whole, _ := endsAfter(t, e, q, 0, func(promql.Query, context.CancelFunc) {})
		for i, way := range ways {
			wait := whole * time.Duration(2*i+1) / 8
			late := time.Hour
			for range 3 {
				l, err := endsAfter(t, e, q, wait, way)
				if err != nil {
					failed++
					if !errors.As(err, &canceled) && !errors.Is(err, query.ErrCanceled) {
						t.Errorf("%s: %v", short(q), err)
					}
				}
				if late = min(late, l); late <= slack {
					break
				}
			}
			worst = max(worst, late)
			if late > slack {
				t.Errorf("%s: ended %s after it was canceled at %s of %s", short(q), late, wait, whole)
			}
		}
		t.Logf("%8s whole, %6s late, %d canceled, %s in all: %s", whole.Round(time.Millisecond), worst.Round(100*time.Microsecond), failed, time.Since(begun).Round(time.Millisecond), short(q))
		if failed == 0 {
			t.Errorf("%s: never ended before it was done", short(q))
		}
		if used := memory.Used(); used != 0 {
			t.Fatalf("%s: %d bytes are charged", short(q), used)
		}
	}
}

func TestATimeoutEndsAnyLoop(t *testing.T) {
	o := query.Options{Features: querytest.SuiteOptions().Features, MaxSamples: 1 << 40, Timeout: 20 * time.Millisecond}
	e := newEngine(t, newWide(), o)
	var timeout promql.ErrQueryTimeout
	for _, q := range families() {
		late := time.Hour
		for range 5 {
			begun, used := time.Now(), cpuTime()
			r := querytest.Ask(t.Context(), e, nil, q)
			if err := r.Failed(); err != nil && !errors.As(err, &timeout) {
				t.Errorf("%s: %v", short(q), err)
			}
			if late = min(late, time.Since(begun)-o.Timeout, cpuTime()-used); late <= slack {
				break
			}
		}
		if late > slack {
			t.Errorf("%s: ended %s after its timeout", short(q), late)
		}
	}
}
