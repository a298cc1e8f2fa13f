// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// Of TestDifferential: each data set is in a store of its own and gets the same number of queries.
const (
	dataSets     = 48
	queriesOfSet = 600
)

// optionsOf draws an engine's settings from a seed: every combination of what changes answers comes up.
func optionsOf(seed uint64) query.Options {
	o := querytest.SuiteOptions()
	o.MaxSamples = query.DefaultMaxSamples
	o.Features.DelayedNameRemoval = seed&1 == 0
	o.Features.UseStartTimestamps = seed&2 == 0
	o.Features.TypeAndUnitLabels = seed&4 != 0
	o.Features.PerStepStats = true
	o.LookbackDelta = []time.Duration{5 * time.Minute, time.Minute, 17 * time.Second}[seed/8%3]
	return o
}

// switchesOf draws which passes of the optimiser are on, half of the time all.
func switchesOf(tb testing.TB, seed uint64) (s plan.Switches) {
	tb.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	if rng.IntN(2) == 0 {
		return s
	}
	for _, p := range plan.Passes() {
		if rng.IntN(2) == 0 {
			continue
		}
		var err error
		if s, err = s.Without(p.Name); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// stored puts data into a store of a kind that the seed decides: read as columns from the head, from blocks, from
// both after samples came late, or through Prometheus' interfaces from its own storage.
func stored(tb testing.TB, seed uint64, data querytest.DataSet) storage.Queryable {
	tb.Helper()
	var err error
	var s storage.Storage
	switch seed / 3 % 4 {
	case 0:
		s = native(tb, 2*time.Hour)
		err = data.Load(tb.Context(), s)
	case 1:
		s = querytest.NewPrometheusStorage(tb)
		err = data.Load(tb.Context(), s)
	case 2:
		n := native(tb, 20*time.Minute)
		s = n
		err = data.LoadLate(tb.Context(), s, seed, func() error { return flush(tb.Context(), n) })
	case 3:
		s = native(tb, 20*time.Minute)
		err = data.LoadLate(tb.Context(), s, seed, nil)
	}
	if err != nil {
		tb.Fatalf("data seed %d: %v", seed, err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func flush(ctx context.Context, n querytest.Native) error {
	return n.Source.(interface{ Flush(context.Context) error }).Flush(ctx)
}

// modelled puts the data of a case into the model storage, to be read as columns or not.
func modelled(tb testing.TB, c querytest.Case, columns bool) storage.Queryable {
	tb.Helper()
	s := querytest.NewModel(tb)
	if err := c.Data.Load(tb.Context(), s); err != nil {
		tb.Fatal(err)
	}
	if !columns {
		return querytest.Foreign(s)
	}
	return s
}

// tally counts verdicts, and differences by their kind.
type tally struct {
	mu                                 sync.Mutex
	asked, open, failed, empty, differ int
	kinds                              map[string]int
}

// kindOf is what differences of the same cause are likely to share: the first words of what is said about them.
func kindOf(diff string) string {
	plain := regexp.MustCompile(`\{[^{}]*\}|\[[^][]*\]|"[^"]*"`).ReplaceAllString(diff, "")
	words := strings.FieldsFunc(plain, func(r rune) bool { return !unicode.IsLetter(r) })
	return strings.Join(words[:min(len(words), 4)], " ")
}

// add counts v and returns how many differences of its kind there were before.
func (n *tally) add(v querytest.Verdict) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kinds == nil {
		n.kinds = map[string]int{}
	}
	n.asked++
	if v.Diff != "" {
		n.kinds[kindOf(v.Diff)]++
	}
	switch {
	case v.Diff != "":
		n.differ++
	case v.Open:
		n.open++
	case v.Want.Failed() != nil:
		n.failed++
	case v.Want.Empty():
		n.empty++
	}
	return n.kinds[kindOf(v.Diff)] - 1
}

func (n *tally) String() string {
	return fmt.Sprintf("%d queries: %d errors, %d empty, %d open, %d differ", n.asked, n.failed, n.empty, n.open, n.differ)
}

// contest asks queries of both engines and reports differences, the first of a kind as small as they get.
type contest struct {
	t    testing.TB
	data querytest.DataSet
	from storage.Queryable
	opts query.Options
	pair querytest.Pair
	n    *tally
	// observed says whether anybody looks at statistics: where nobody does, less is read.
	observed promql.QueryOpts
}

func newContest(t testing.TB, seed uint64, n *tally) *contest {
	t.Helper()
	data, o := querytest.RandomData(seed), optionsOf(seed)
	o.Switches = switchesOf(t, seed)
	c := &contest{
		t: t, data: data, from: stored(t, seed, data), opts: o, n: n,
		pair:     querytest.Pair{Got: newEngine(t, nil, o), Want: querytest.NewReference(o)},
		observed: query.Opts{PerStep: true},
	}
	if seed%3 == 1 {
		c.observed, c.pair.Compare.NoStatistics = query.Opts{NoStatistics: true}, true
	}
	return c
}

func (c *contest) ask(q querytest.Query) {
	c.t.Helper()
	q.Opts = c.observed
	v := c.pair.Judge(c.t.Context(), c.from, querytest.Foreign(c.from), q)
	before := c.n.add(v)
	switch {
	case v.Diff == "":
	case before == 0:
		c.t.Errorf("%s\n%s\n%s", q, v.Diff, c.small(q, kindOf(v.Diff)))
	case before < 4:
		c.t.Errorf("%s\n%s", q, v.Diff)
	default: // counted by kind at the end
		c.t.Fail()
	}
}

// small returns the case of q as small as it gets with a difference of the same kind, and keeps it where
// TIDEMARK_FOUND names a directory.
func (c *contest) small(q querytest.Query, kind string) string {
	kept := querytest.NewCase(c.opts, q, c.data)
	for _, columns := range []bool{true, false} {
		differs := func(k querytest.Case) bool {
			d := c.differs(k, columns)
			return d != "" && kindOf(d) == kind
		}
		if !differs(kept) {
			continue
		}
		kept = querytest.Shrink(kept, differs)
		kept.Note = c.differs(kept, columns)
		if dir := os.Getenv("TIDEMARK_FOUND"); dir != "" {
			f, err := os.CreateTemp(dir, "found-*.case")
			if err != nil {
				c.t.Fatal(err)
			}
			if _, err := f.WriteString(kept.String()); err != nil {
				c.t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				c.t.Fatal(err)
			}
		}
		return "as a file for testdata/found:\n" + kept.String()
	}
	return "over the model storage the engines agree"
}

func (c *contest) differs(k querytest.Case, columns bool) string {
	from := modelled(c.t, k, columns)
	got, want := querytest.Ask(c.t.Context(), c.pair.Got, from, k.Query), querytest.Ask(c.t.Context(), c.pair.Want, querytest.Foreign(from), k.Query)
	return c.pair.Compare.Diff(k.Query, got, want)
}

// The engine must answer random queries over random data as Prometheus' engine does, over every kind of storage.
func TestDifferential(t *testing.T) {
	exprs, err := promqltest.GetBuiltInExprs()
	if err != nil {
		t.Fatal(err)
	}
	n := &tally{}
	var sets atomic.Int64 // fewer than all where -run names some
	t.Run("data", func(t *testing.T) {
		for seed := range uint64(dataSets) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				sets.Add(1)
				c := newContest(t, seed, n)
				g := querytest.NewGenerator(seed, c.data)
				for i := range queriesOfSet {
					if i%4 == 0 {
						if text := g.Mutate(exprs[(int(seed)*queriesOfSet+i)%len(exprs)], true); text != "" {
							c.ask(g.Timed(text))
						}
						continue
					}
					c.ask(g.Query())
				}
			})
		}
	})
	t.Log(n)
	for _, kind := range slices.Sorted(maps.Keys(n.kinds)) {
		t.Logf("%d times: %s", n.kinds[kind], kind)
	}
	if want := int(sets.Load()) * queriesOfSet * 8 / 10; n.asked < want || n.failed+n.empty > n.asked*45/100 || n.open > n.asked/100 {
		t.Errorf("%s; want at least %d, most of them with an answer and at most 1 %% open", n, want)
	}
}

// The samples that a query holds at once are counted as in Prometheus, because queries are refused by that number.
func TestPeaksAreThoseOfPrometheus(t *testing.T) {
	n := &tally{}
	for seed := range uint64(6) {
		c := newContest(t, seed, n)
		c.observed, c.pair.Compare = query.Opts{}, querytest.Comparison{Peak: true}
		g := querytest.NewGenerator(seed+2000, c.data)
		for range 300 {
			c.ask(g.Query())
		}
	}
	t.Log(n)
}

// Every case that was once found stays found.
func TestFoundCasesAgree(t *testing.T) {
	files, err := filepath.Glob("testdata/found/*.case")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := querytest.ParseCase(string(text))
			if err != nil {
				t.Fatal(err)
			}
			pair := querytest.Pair{Got: newEngine(t, nil, c.Options()), Want: querytest.NewReference(c.Options())}
			for name, newStorage := range storages() {
				s := newStorage(t)
				if err := c.Data.Load(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if v := pair.Judge(t.Context(), s, querytest.Foreign(s), c.Query); v.Diff != "" || v.Open {
					t.Errorf("%s: %s\n%s (open: %v)", name, c.Query, v.Diff, v.Open)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func FuzzDifferential(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, dataSeed, querySeed uint64) {
		c := newContest(t, dataSeed, &tally{})
		g := querytest.NewGenerator(querySeed, c.data)
		for range 50 {
			c.ask(g.Query())
		}
	})
}

// FuzzText changes the text of queries; what parses is asked.
func FuzzText(f *testing.F) {
	exprs, err := promqltest.GetBuiltInExprs()
	if err != nil {
		f.Fatal(err)
	}
	g := querytest.NewGenerator(1, querytest.RandomData(1))
	for i, e := range exprs {
		if text := g.Mutate(e, true); text != "" && i%10 == 0 {
			f.Add(text, uint8(len(text)))
		}
	}
	var contests [8]*contest
	for seed := range contests {
		contests[seed] = newContest(f, uint64(seed), &tally{})
	}
	f.Fuzz(func(t *testing.T, text string, seed uint8) {
		if !querytest.Affordable(text) {
			return
		}
		c := *contests[seed%8]
		c.t, c.n = t, &tally{} // of its own, so that a difference is told in full whenever it is met
		c.ask(querytest.NewGenerator(uint64(seed), c.data).Timed(text))
	})
}
