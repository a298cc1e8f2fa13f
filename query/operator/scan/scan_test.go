// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scan_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser/posrange"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/scan"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// againstPrometheus runs check on random stores and grids.
func againstPrometheus(t *testing.T, check func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid)) {
	t.Helper()
	for i := range 60 {
		seed := rand.Uint64()
		if i < 20 {
			seed = uint64(i)
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			f := newFixture(t, randomStore(r))
			f.env.Workers = operator.NewWorkers(r.IntN(3))
			for range 4 {
				check(t, r, f, randomGrid(r))
			}
		})
	}
}

func sameMatrix(t *testing.T, what string, want, got promql.Matrix) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: %d series, want %d", what, len(got), len(want))
	}
	if diff := cmp.Diff(dump(want), dump(got)); diff != "" {
		t.Fatalf("%s differs (-want +got):\n%s", what, diff)
	}
}

// randomWhen returns offset and @ modifiers, as text and in a selector.
func randomWhen(r *rand.Rand, sel *scan.Selector) string {
	text := ""
	if r.IntN(4) == 0 {
		at := -20*minute + r.Int64N(60*minute)
		sel.At = &at
		text += fmt.Sprintf(" @ %d.%03d", at/1000, at%1000)
		if at < 0 {
			text = fmt.Sprintf(" @ -%d.%03d", -at/1000, -at%1000)
		}
	}
	if r.IntN(3) == 0 {
		sel.Offset = (r.Int64N(600) - 200) * second
		if sel.Offset < 0 {
			text += fmt.Sprintf(" offset -%ds", -sel.Offset/second)
		} else {
			text += fmt.Sprintf(" offset %ds", sel.Offset/second)
		}
	}
	return text
}

func TestInstantSelectorIsThatOfPrometheus(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		sel := scan.Selector{Matchers: []*labels.Matcher{f.name}}
		query := "m" + randomWhen(r, &sel)
		want, _ := f.run(t, query, g)
		sameMatrix(t, fmt.Sprint(query, g), want, f.rows(t, scan.NewInstant(f.env, sel, g)))
	})
}

func TestNewestSamplesNeedNoDecoding(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		plain := f.env.View
		f.env.View = asLatest{f.env.View, r}
		defer func() { f.env.View = plain }()
		f.env.Workers = nil // the random numbers are for one goroutine
		g.N, g.Step = 1, 1
		if r.IntN(2) == 0 {
			g.Start = 58 * minute
		}
		sel := scan.Selector{Matchers: []*labels.Matcher{f.name}}
		query := "m" + randomWhen(r, &sel)
		want, _ := f.run(t, query, g)
		sameMatrix(t, fmt.Sprint(query, g), want, f.rows(t, scan.NewInstant(f.env, sel, g)))
		query = "timestamp(m" + query[1:] + ")"
		f.env.DelayedNameRemoval = false
		want, _ = f.run(t, query, g)
		sameMatrix(t, fmt.Sprint(query, g), want, f.rows(t, scan.NewTimestamps(f.env, sel, false, g)))
	})
}

func TestSmoothedSelectorIsThatOfPrometheus(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		sel := scan.Selector{Matchers: []*labels.Matcher{f.name}, Smoothed: true}
		query := "m smoothed" + randomWhen(r, &sel)
		want, warn := f.run(t, query, g)
		n := scan.NewInstant(f.env, sel, g)
		sameMatrix(t, fmt.Sprint(query, g), want, f.rows(t, n))
		pos := posrange.PositionRange{Start: 0, End: posrange.Pos(len(query))}
		got, wantNotes := notes(n, pos), texts(warn)
		if len(got) != len(wantNotes) {
			t.Fatalf("%s: annotations\n%q, want\n%q", query, got, wantNotes)
		}
	})
}

func TestTimestampsAreThoseOfTheSamples(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		f.env.DelayedNameRemoval, f.env.UseStartTimestamps = false, r.IntN(4) > 0
		sel := scan.Selector{Matchers: []*labels.Matcher{f.name}}
		when := randomWhen(r, &sel)
		for i, fn := range []string{"timestamp", "start_timestamp"} {
			query := fn + "(m" + when + ")"
			want, _ := f.run(t, query, g)
			sameMatrix(t, fmt.Sprint(query, g), want, f.rows(t, scan.NewTimestamps(f.env, sel, i == 1, g)))
		}
	})
}

func TestRangeSelectorIsThatOfPrometheus(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		g.N, g.Step = 1, 1
		sel := scan.Selector{Matchers: []*labels.Matcher{f.name}, ST: r.IntN(2) == 0}
		length := 1 + r.Int64N(900)
		query := fmt.Sprintf("m[%ds]", length) + randomWhen(r, &sel)
		want, _ := f.run(t, query, g)
		sameMatrix(t, fmt.Sprint(query, g), want, f.samples(t, scan.NewRange(f.env, sel, length*second, g)))
	})
}

func TestSubqueryIsThatOfPrometheus(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		g.N, g.Step = 1, 1
		var sel scan.Selector
		sub := scan.Subquery{Range: (1 + r.Int64N(900)) * second, Step: (1 + r.Int64N(100)) * second}
		query := fmt.Sprintf("m[%ds:%ds]", sub.Range/second, sub.Step/second) + randomWhen(r, &sel)
		sub.At, sub.Offset = sel.At, sel.Offset
		want, _ := f.run(t, query, g)
		// At the root the hints stay; inside a function they are forgotten.
		for _, s := range want {
			for _, p := range s.Histograms {
				if p.H.CounterResetHint != 3 {
					p.H.CounterResetHint = 0
				}
			}
		}
		inner := scan.NewInstant(f.env, scan.Selector{Matchers: []*labels.Matcher{f.name}}, sub.Grid(g))
		sameMatrix(t, fmt.Sprint(query, g), want, f.samples(t, scan.NewSubquery(f.env, inner, sub.Windows(g))))
	})
}

func TestBroadcastRepeatsTheOnlyStep(t *testing.T) {
	againstPrometheus(t, func(t *testing.T, r *rand.Rand, f *fixture, g vector.Grid) {
		at := r.Int64N(40 * minute)
		sel := scan.Selector{Matchers: []*labels.Matcher{f.name}, At: &at}
		query := fmt.Sprintf("m @ %d.%03d", at/1000, at%1000)
		want, _ := f.run(t, query, g)
		one := scan.NewInstant(f.env, sel, vector.Grid{Start: g.Start, Step: g.Step, N: 1})
		sameMatrix(t, fmt.Sprint(query, g), want, f.rows(t, scan.NewBroadcast(one, g)))
	})
}
