// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"testing"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// The suite has expectations for one mode only. In the others its queries and data are put to both engines, which have
// to agree on values, errors, annotations and statistics.
func TestAgreesWithPrometheusOnTheSuiteInEveryMode(t *testing.T) {
	modes := map[string]func(*operator.Options){
		"as the suite":        func(*operator.Options) {},
		"names removed early": func(o *operator.Options) { o.DelayedNameRemoval = false },
		"type and unit labels, names removed early, short lookback": func(o *operator.Options) {
			o.TypeAndUnitLabels, o.DelayedNameRemoval, o.UseStartTimestamps = true, false, false
			o.LookbackDelta = 70_000
		},
	}
	for mode, set := range modes {
		t.Run(mode, func(t *testing.T) {
			e := newEngine(t)
			set(&e.options)
			agreeOnSuite(t, e, querytest.Comparison{})
		})
	}
	t.Run("nobody asks for statistics", func(t *testing.T) {
		e := newEngine(t)
		e.noStatistics = true
		agreeOnSuite(t, e, querytest.Comparison{NoStatistics: true})
	})
}

// agreeOnSuite puts the queries of the suite to e and to Prometheus' engine.
func agreeOnSuite(t *testing.T, e *engine, c querytest.Comparison) {
	t.Helper()
	pair := querytest.Pair{Got: e, Want: e.reference(), Compare: c}
	asked, open, failed := 0, 0, 0
	judge := func(from storage.Queryable, q querytest.Query) {
		q.Opts = promql.NewPrometheusQueryOpts(true, 0)
		asked++
		v := pair.Judge(t.Context(), from, from, q)
		if v.Open {
			open++
		}
		if v.Diff != "" {
			if failed++; failed <= 20 {
				t.Errorf("%s\n%s", q, v.Diff)
			}
		}
	}
	answer := newEngine(t).reference()
	promqltest.RunBuiltinTestsWithStorage(t, querytest.Mirror{Answer: answer, Seen: judge}, querytest.NewModel)
	t.Logf("%d queries, %d differ, %d open", asked, failed, open)
	if asked < 10_000 || open*100 > asked {
		t.Errorf("%d queries were compared and %d of them left open, want at least 10,000 and at most 1 %%", asked, open)
	}
}
