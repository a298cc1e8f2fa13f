// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package limits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// counted is a store that holds what was admitted.
type counted struct {
	series []labels.Labels
}

func (c *counted) SeriesWith(name, value string) int {
	n := 0
	for _, ls := range c.series {
		if name == "" || ls.Get(name) == value {
			n++
		}
	}
	return n
}

func (c *counted) TopValues(name string, limit int) []Value {
	of := map[string]int{}
	for _, ls := range c.series {
		if v := ls.Get(name); v != "" {
			of[v]++
		}
	}
	var out []Value
	for len(out) < limit && len(of) > 0 {
		best := ""
		for v, n := range of {
			if best == "" || n > of[best] || n == of[best] && v < best {
				best = v
			}
		}
		out = append(out, Value{best, of[best]})
		delete(of, best)
	}
	return out
}

// bench is a Limiter on a store, with a clock.
type bench struct {
	*Limiter

	t     *testing.T
	store *counted
	now   time.Time
}

func newBench(t *testing.T, rules ...Rule) *bench {
	t.Helper()
	b := &bench{t: t, store: &counted{}, now: time.Unix(1_700_000_000, 0)}
	var err error
	b.Limiter, err = New(Options{Store: b.store, Now: func() time.Time { return b.now }})
	if err != nil {
		t.Fatal(err)
	}
	b.Apply(rules)
	return b
}

// offer has a series made, unless it is refused for the reason that contains why.
func (b *bench) offer(why string, pairs ...string) {
	b.t.Helper()
	ls := labels.FromStrings(pairs...)
	got := b.Admit(ls, b.store.SeriesWith)
	if (why == "") != (got == "") || !strings.Contains(got, why) {
		b.t.Errorf("%s: answer %q, want %q", ls, got, why)
	}
	if got == "" {
		b.store.series = append(b.store.series, ls)
	}
}

func TestASeriesIsRefusedByTheFirstRuleThatItIsBeyond(t *testing.T) {
	b := newBench(t, Rule{Name: "all", Max: 4, Refuse: true}, Rule{Name: "jobs", Label: "job", Max: 2, Refuse: true},
		Rule{Name: "names", Label: "__name__", Max: 1})
	b.offer("", "__name__", "a", "job", "x", "i", "1")
	b.offer("", "__name__", "a", "job", "x", "i", "2") // beyond names, which only tells
	b.offer(`"jobs" of 2 for each value of the label job`, "__name__", "b", "job", "x")
	b.offer("", "__name__", "b", "job", "y")
	b.offer("", "__name__", "c") // of no job
	b.offer(`"all" of 4 in total`, "__name__", "d", "job", "x")
	b.offer(`"all" of 4 in total`, "__name__", "e")
	if n := len(b.store.series); n != 4 {
		t.Errorf("%d series, want 4", n)
	}
	check := func(limit, action string, want float64) {
		t.Helper()
		if got := testutil.ToFloat64(b.hits.WithLabelValues(limit, action)); got != want {
			t.Errorf("%s: %v hits, want %v", limit, got, want)
		}
	}
	check("all", "reject_new", 2)
	check("jobs", "reject_new", 2) // the refused one of d too: every rule tells
	check("names", "warn", 1)
}

func TestTheOffenderIsNamedWithTheLabelThatGrows(t *testing.T) {
	b := newBench(t, Rule{Name: "jobs", Label: "job", Max: 10, Refuse: true})
	for i := range 10 {
		b.offer("", "__name__", "m", "job", "x", "path", fmt.Sprint(i))
	}
	for i := range 1000 {
		b.offer("jobs", "__name__", "m", "instance", fmt.Sprint(i%7), "job", "x", "path", fmt.Sprint(10+i))
	}
	st := b.Status()
	if len(st) != 1 || len(st[0].Offenders) != 1 {
		t.Fatalf("status %+v", st)
	}
	o := st[0].Offenders[0]
	if o.Value != "x" || o.Series != 10 || o.Hits != 1000 || o.GrowingLabel != "path" || math.Abs(float64(o.GrowingValues)-1000) > 400 {
		t.Errorf("offender %+v", o)
	}
	if !strings.Contains(o.Example, `path="10"`) || !o.First.Equal(b.now) || !o.Last.Equal(b.now) {
		t.Errorf("offender %+v", o)
	}
	want := []Status{{
		Name: "jobs", Per: "job", Max: 10, Action: "reject_new", Series: 10, Values: []Value{{"x", 10}}, Offenders: []Offender{o},
	}}
	if diff := cmp.Diff(want, st); diff != "" {
		t.Error(diff)
	}
	reached := b.Reached()
	if len(reached) != 1 || reached[0].Since != o.First ||
		reached[0].Effect != `series limit "jobs": job="x" has the 10 series it may have, label path grows: new series are refused` {
		t.Errorf("reached: %+v", reached)
	}
	b.store.series = b.store.series[:9]
	if reached = b.Reached(); len(reached) != 0 {
		t.Errorf("reached although there is room: %+v", reached)
	}
}

func TestOfManyOffendersThoseThatHitMostAreKnown(t *testing.T) {
	account := budget.NewRoot("offenders", 0)
	s := newOffenders(account)
	now := time.Unix(1_700_000_000, 0)
	r := rand.New(rand.NewPCG(1, 2))
	heavy := map[string]bool{}
	for i := range 5000 {
		value := fmt.Sprintf("rare %d", r.IntN(2000))
		if i%2 == 0 {
			value = fmt.Sprintf("heavy %d", i/2%5)
			heavy[value] = true
		}
		s.note(value, labels.FromStrings("job", value), now)
	}
	list := s.list()
	if len(list) != trackedOffenders || account.Used() == 0 {
		t.Fatalf("%d are known, %d bytes charged", len(list), account.Used())
	}
	for _, o := range list[:5] {
		if !heavy[o.Value] || o.Hits < 500 || o.Hits > 500+5000/trackedOffenders {
			t.Errorf("%q with %d hits, want those of one of the 5 that hit 500 times", o.Value, o.Hits)
		}
	}
	s.forget()
	if account.Used() != 0 {
		t.Errorf("%d bytes left", account.Used())
	}
}

func TestWithoutMemoryOffendersHaveNoNamesAndLimitsHold(t *testing.T) {
	b := newBench(t)
	b.opts.Account = budget.NewRoot("offenders", 1)
	b.Apply([]Rule{{Name: "all", Max: 1, Refuse: true}})
	b.offer("", "__name__", "a")
	b.offer("all", "__name__", "b")
	if st := b.Status(); len(st[0].Offenders) != 0 || b.opts.Account.Used() != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestApplyKeepsWhatIsKnownOfARule(t *testing.T) {
	b := newBench(t, Rule{Name: "all", Max: 1, Refuse: true}, Rule{Name: "gone", Max: 1})
	b.offer("", "__name__", "a")
	b.offer("all", "__name__", "b")
	b.Apply([]Rule{{Name: "all", Max: 3, Refuse: true}, {Name: "fresh", Label: "job", Max: 1}})
	b.offer("", "__name__", "b")
	st := b.Status()
	if len(st) != 2 || len(st[0].Offenders) != 1 || st[0].Max != 3 || len(st[1].Offenders) != 0 {
		t.Errorf("status %+v", st)
	}
	if r := b.Reached(); len(r) != 0 {
		t.Errorf("reached after the limit was raised: %+v", r)
	}
}

func TestTheSketchTellsHowManyValuesThereAre(t *testing.T) {
	for _, n := range []int{0, 1, 2, 10, 100, 1000, 100_000} {
		var s labelGrowth
		for i := range n {
			for range 2 {
				s.add(fmt.Sprintf("value %d", i))
			}
		}
		if e := s.estimate(); math.Abs(e-float64(n)) > 0.4*float64(n)+0.5 {
			t.Errorf("%d values are estimated as %.1f", n, e)
		}
	}
}

func TestLabelsBeyondThoseThatAreTrackedAreNoMistake(t *testing.T) {
	var g growth
	for i := range 100 {
		pairs := []string{strings.Repeat("n", longestLabel+1), fmt.Sprint(i)}
		for k := range trackedLabels + 10 {
			pairs = append(pairs, fmt.Sprintf("l%02d", (k+i)%(trackedLabels+20)), fmt.Sprint(k))
		}
		pairs = append(pairs, "a", fmt.Sprint(i))
		g.add(labels.FromStrings(pairs...))
	}
	if name, n := g.most(); len(g.labels) != trackedLabels || name != "a" || n < 60 {
		t.Errorf("of %d labels %q grows, by %d", len(g.labels), name, n)
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestTheLogIsToldOnceAndAgainWhileItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text lockedBuffer
		store := &counted{}
		l, err := New(Options{Store: store, Logger: slog.New(slog.NewTextHandler(&text, nil))})
		if err != nil {
			t.Fatal(err)
		}
		l.Apply([]Rule{{Name: "all", Max: 0, Refuse: true}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		hit := func(times int) {
			for i := range times {
				l.Admit(labels.FromStrings("__name__", "m", "i", fmt.Sprint(i)), store.SeriesWith)
			}
			time.Sleep(2 * lookEvery)
			synctest.Wait()
		}
		check := func(want int) {
			t.Helper()
			if got := strings.Count(text.String(), "a series limit is reached"); got != want {
				t.Errorf("told %d times, want %d:\n%s", got, want, text.String())
			}
		}
		hit(0)
		check(0)
		hit(100)
		check(1)
		hit(100)
		check(1)
		time.Sleep(tellAgain)
		synctest.Wait()
		check(2) // of the second hundred
		time.Sleep(2 * tellAgain)
		synctest.Wait()
		check(2)
		hit(1)
		check(3)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for _, want := range []string{"limit=all", "action=reject_new", "per=total", "max=0", "growing_label=i", "example="} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s is not in the log:\n%s", want, text.String())
			}
		}
	})
}

func TestMetricsSayHowFarLimitsAreUsed(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	store := &counted{}
	l, err := New(Options{Store: store, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	l.Apply([]Rule{{Name: "all", Max: 3, Refuse: true}, {Name: "jobs", Label: "job", Max: 2}})
	b := &bench{Limiter: l, t: t, store: store}
	b.offer("", "__name__", "a", "job", "x")
	b.offer("", "__name__", "b", "job", "x")
	b.offer("", "__name__", "c", "job", "x")
	b.offer("all", "__name__", "d", "job", "y")
	want := `
# HELP tidemark_series_limit_hits_total New series that came while a series limit was reached, by what the limit does; one that is refused counts each time it comes.
# TYPE tidemark_series_limit_hits_total counter
tidemark_series_limit_hits_total{action="reject_new",limit="all"} 1
tidemark_series_limit_hits_total{action="warn",limit="jobs"} 1
# HELP tidemark_series_limit_max Series that a limit allows.
# TYPE tidemark_series_limit_max gauge
tidemark_series_limit_max{limit="all",per="total"} 3
tidemark_series_limit_max{limit="jobs",per="job"} 2
# HELP tidemark_series_limit_reached Values, of those that were refused or told of, that have as many series as a limit allows.
# TYPE tidemark_series_limit_reached gauge
tidemark_series_limit_reached{limit="all",per="total"} 1
tidemark_series_limit_reached{limit="jobs",per="job"} 1
# HELP tidemark_series_limit_series Series of the head; for a limit per value of a label those of the value that has the most.
# TYPE tidemark_series_limit_series gauge
tidemark_series_limit_series{limit="all",per="total"} 3
tidemark_series_limit_series{limit="jobs",per="job"} 3
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if _, err := New(Options{Store: store, Registerer: reg}); err == nil {
		t.Error("registered twice")
	}
}

func BenchmarkAdmit(b *testing.B) {
	l, err := New(Options{Store: &counted{}})
	if err != nil {
		b.Fatal(err)
	}
	l.Apply([]Rule{{Name: "all", Max: 1, Refuse: true}, {Name: "jobs", Label: "job", Max: 1}})
	sets := make([]labels.Labels, 1024)
	for i := range sets {
		sets[i] = labels.FromStrings("__name__", "m", "instance", "host-1:9100", "job", "node", "path", fmt.Sprint(i), "zone", "a")
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Admit(sets[i%len(sets)], func(string, string) int { return 1 })
	}
}
