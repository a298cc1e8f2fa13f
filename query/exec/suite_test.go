// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/query/operator/window"
	"github.com/tidemarkdb/tidemark/query/plan"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// storages are what the suite runs over: Prometheus' own and the model of ours.
func storages() map[string]func(testing.TB) storage.Storage {
	return map[string]func(testing.TB) storage.Storage{"foreign": querytest.NewPrometheusStorage, "model": querytest.NewModel}
}

func TestSuiteOfPrometheusPasses(t *testing.T) {
	for name, newStorage := range storages() {
		t.Run(name, func(t *testing.T) {
			promqltest.RunBuiltinTestsWithStorage(t, newEngine(t), newStorage)
		})
	}
}

// All passes are on, off, each alone is off, and every two are on together, off together, and each on without the other.
func TestSuiteOfPrometheusPassesWhateverPassesAreOff(t *testing.T) {
	passes := plan.Passes()
	for _, on := range querytest.Pairwise(len(passes)) {
		var off []string
		for i, p := range passes {
			if !on[i] {
				off = append(off, p.Name)
			}
		}
		t.Run(strings.Join(off, ","), func(t *testing.T) {
			e := newEngine(t).without(off...)
			e.noStatistics = true
			promqltest.RunBuiltinTestsWithStorage(t, e, querytest.NewModel)
		})
	}
}

func TestSuiteOfPrometheusPassesHoweverWindowsAreSummedUp(t *testing.T) {
	for name, rung := range map[string]window.Rung{"one by one": window.Sequential, "from prefixes": window.Prefix} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			e.exec.Rung = rung
			promqltest.RunBuiltinTestsWithStorage(t, e, querytest.NewModel)
			agreeOnSuite(t, e, querytest.Comparison{})
		})
	}
}

// What is shared is evaluated by each place where it may not be kept.
func TestSuiteOfPrometheusPassesWithoutKeepingWhatIsShared(t *testing.T) {
	e := newEngine(t)
	e.exec.KeepBytes = -1
	promqltest.RunBuiltinTestsWithStorage(t, e, querytest.NewModel)
}

func TestSuiteOfPrometheusPassesWhileAnalyzed(t *testing.T) {
	e := newEngine(t)
	e.exec.Analyze = true
	promqltest.RunBuiltinTestsWithStorage(t, e, querytest.NewModel)
}
