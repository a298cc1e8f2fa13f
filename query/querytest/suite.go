// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"testing"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query"
)

// suiteFiles is how many files the suite of the pinned Prometheus has.
const suiteFiles = 21

// SuiteOptions are the settings of an engine that Prometheus' built-in suite assumes.
func SuiteOptions() query.Options {
	return query.Options{
		Timeout:    100_000_000_000,
		MaxSamples: promqltest.DefaultMaxSamplesPerQuery,
		Features: query.Features{
			ExperimentalFunctions: true, ExtendedRangeSelectors: true, BinopFillModifiers: true,
			DelayedNameRemoval: true, UseStartTimestamps: true,
		},
	}
}

// RunSuite runs the whole built-in suite of Prometheus with e, over storages that newStorage makes. The test fails
// where an answer is wrong, and where a file or an expression of the suite was not run or a part was skipped.
func RunSuite(t *testing.T, e promql.QueryEngine, newStorage func(testing.TB) storage.Storage) {
	t.Helper()
	exprs, err := promqltest.GetBuiltInExprs()
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	counted := &countedRun{T: t}
	promqltest.RunBuiltinTestsWithStorage(counted, Mirror{Answer: e, Seen: func(_ storage.Queryable, q Query) { asked[q.Text] = true }}, newStorage)
	if counted.files != suiteFiles || counted.skipped != 0 {
		t.Errorf("%d files of the suite were run and %d skipped, want %d and none", counted.files, counted.skipped, suiteFiles)
	}
	missing := 0
	for _, expr := range exprs {
		if !asked[expr] {
			missing++
			t.Logf("not run: %s", expr)
		}
	}
	if missing > 0 && !t.Failed() {
		t.Errorf("%d of %d expressions of the suite were not run", missing, len(exprs))
	}
}

// countedRun counts the parts that the suite runs.
type countedRun struct {
	*testing.T
	files, skipped int
}

// Run implements promqltest.TBRun.
func (c *countedRun) Run(name string, f func(*testing.T)) bool {
	c.files++
	return c.T.Run(name, func(t *testing.T) {
		defer func() {
			if t.Skipped() {
				c.skipped++
			}
		}()
		f(t)
	})
}
