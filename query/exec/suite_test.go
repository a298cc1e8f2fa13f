// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// storages are what the suite runs over: Prometheus' own and the model of ours.
func storages() map[string]func(testing.TB) storage.Storage {
	return map[string]func(testing.TB) storage.Storage{"foreign": querytest.NewPrometheusStorage, "model": newMemory}
}

func TestSuiteOfPrometheusPasses(t *testing.T) {
	for name, newStorage := range storages() {
		t.Run(name, func(t *testing.T) {
			promqltest.RunBuiltinTestsWithStorage(t, newEngine(t), newStorage)
		})
	}
}

// Every two passes are on together, off together, and each on without the other.
func TestSuiteOfPrometheusPassesWhateverPassesAreOff(t *testing.T) {
	var names []string
	for _, p := range plan.Passes() {
		names = append(names, p.Name)
	}
	for _, off := range append(pairwise(names), alone(names)...) {
		t.Run(strings.Join(off, ","), func(t *testing.T) {
			e := newEngine(t).without(off...)
			e.noStatistics = true
			promqltest.RunBuiltinTestsWithStorage(t, e, newMemory)
		})
	}
}

// What is shared is evaluated by each place where it may not be kept.
func TestSuiteOfPrometheusPassesWithoutKeepingWhatIsShared(t *testing.T) {
	e := newEngine(t)
	e.exec.KeepBytes = -1
	promqltest.RunBuiltinTestsWithStorage(t, e, newMemory)
}

func TestSuiteOfPrometheusPassesWhileAnalyzed(t *testing.T) {
	e := newEngine(t)
	e.exec.Analyze = true
	promqltest.RunBuiltinTestsWithStorage(t, e, newMemory)
}

func alone(names []string) (sets [][]string) {
	for _, name := range names {
		sets = append(sets, []string{name})
	}
	return sets
}

// pairwise returns sets of names such that for every two of them there is a set with both, one with neither, and one
// with each alone. Each set takes in what covers most of what is left.
func pairwise(names []string) (sets [][]string) {
	type pair struct {
		a, b     int
		inA, inB bool
	}
	left := map[pair]bool{}
	for a := range names {
		for b := range a {
			for state := range 4 {
				left[pair{b, a, state&1 != 0, state&2 != 0}] = true
			}
		}
	}
	for len(left) > 0 {
		best, bestCovers := 0, -1
		for set := range 1 << len(names) {
			covers := 0
			for p := range left {
				if p.inA == (set>>p.a&1 != 0) && p.inB == (set>>p.b&1 != 0) {
					covers++
				}
			}
			if covers > bestCovers {
				best, bestCovers = set, covers
			}
		}
		var in []string
		for i, name := range names {
			if best>>i&1 != 0 {
				in = append(in, name)
			}
		}
		sets = append(sets, in)
		for p := range left {
			if p.inA == (best>>p.a&1 != 0) && p.inB == (best>>p.b&1 != 0) {
				delete(left, p)
			}
		}
	}
	return sets
}
