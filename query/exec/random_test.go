// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// repeating are queries in which parts stand more than once, and in which one side says something about the other.
var repeating = []string{
	`(%[1]s) + (%[1]s)`, `(%[1]s) or (%[1]s)`, `(%[1]s) unless on (job) (%[2]s)`, `(%[1]s) and (%[2]s)`,
	`sum(%[1]s) / count(%[1]s)`, `max by (job) (%[1]s) - min by (job) (%[1]s)`, `stddev(%[1]s) + topk(1, %[1]s)`,
	`sum(%[1]s) + sum(%[2]s) + avg(%[1]s)`, `(%[1]s) * on (job, instance) group_left (%[2]s)`,
	`sum_over_time((%[1]s)[2m:20s]) + (%[1]s)`, `(%[1]s) > bool (%[2]s) or (%[1]s) > bool (%[2]s)`,
	`count(abs(%[1]s)) / count(%[1]s) / group(%[2]s)`, `(%[1]s) == (%[1]s) == (%[1]s)`,
	`-(%[1]s) + on (job) count by (job) (%[1]s)`, `quantile(scalar(%[1]s), %[2]s) + sum(%[1]s)`,
}

// narrower are selectors of which one reads part of the other.
var narrower = []string{
	`sum(%[1]s{job="a"}) / sum(%[1]s)`, `%[1]s{job=~"a|b"} and %[1]s`, `%[1]s * on (job) count by (job) (%[1]s{job!="a"})`,
	`sum by (job) (%[1]s{job="a"}) + count by (job) (%[1]s{job="a"}) - max by (job) (%[1]s)`, `%[1]s{job="b"} unless on (job) %[1]s`,
	`%[1]s{instance=~".+"} * %[1]s`, `min(%[1]s{job=~"b|a"}) + max(%[1]s{job=~"b|a",instance!=""}) + avg(%[1]s)`,
}

func TestRandomQueriesAnswerTheSameWhateverPassesAreOff(t *testing.T) {
	const sets, queries = 24, 120
	for seed := range uint64(sets) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			data := querytest.RandomData(seed)
			from := querytest.NewModel(t)
			if err := data.Load(t.Context(), from); err != nil {
				t.Fatal(err)
			}
			e := newEngine(t)
			e.options.MaxSamples = 50_000_000
			e.options.DelayedNameRemoval, e.options.UseStartTimestamps = seed&1 == 0, seed&2 == 0
			rng, g := rand.New(rand.NewPCG(seed, 1)), querytest.NewGenerator(seed, data)
			names := map[string]bool{}
			for _, s := range data.Series {
				names[s.Labels.Get("__name__")] = true
			}
			for i := range queries {
				var q querytest.Query
				if i%3 == 0 {
					q = g.Timed(fmt.Sprintf(narrower[rng.IntN(len(narrower))], some(rng, names)))
				} else {
					q = g.Timed(fmt.Sprintf(repeating[rng.IntN(len(repeating))], vectorText(e, g), vectorText(e, g)))
				}
				q.Opts = promql.NewPrometheusQueryOpts(true, 0)
				with := e.without(subset(rng)...)
				with.noStatistics = rng.IntN(2) == 0
				with.exec.KeepBytes = int64(rng.IntN(3)-1) * 4000
				pair := querytest.Pair{Got: with, Want: e.reference(), Compare: querytest.Comparison{NoStatistics: with.noStatistics}}
				if v := pair.Judge(t.Context(), from, querytest.Foreign(from), q); v.Diff != "" {
					t.Errorf("%s\nswitches %v, statistics %t, keeping %d\n%s", q, with.switches, !with.noStatistics, with.exec.KeepBytes, v.Diff)
				}
			}
		})
	}
}

func some(rng *rand.Rand, names map[string]bool) string {
	n := rng.IntN(len(names))
	for name := range names {
		if n--; n < 0 && name != "" {
			return name
		}
	}
	return "x"
}

// vectorText returns a random query whose value is a vector.
func vectorText(e *engine, g *querytest.Generator) string {
	for {
		text := g.Text()
		if expr, err := e.parser.ParseExpr(text); err == nil && expr.Type() == parser.ValueTypeVector && len(text) < 200 {
			return text
		}
	}
}

// subset draws passes.
func subset(rng *rand.Rand) (names []string) {
	for _, p := range plan.Passes() {
		if rng.IntN(2) == 0 {
			names = append(names, p.Name)
		}
	}
	return names
}
