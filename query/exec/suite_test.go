// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec_test

import (
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

func TestSuiteOfPrometheusPassesWhateverPassesAreOff(t *testing.T) {
	off := [][]string{{"all"}}
	for _, p := range plan.Passes() {
		off = append(off, []string{p.Name})
	}
	for _, passes := range off {
		t.Run(passes[0], func(t *testing.T) {
			promqltest.RunBuiltinTestsWithStorage(t, newEngine(t).without(passes...), newMemory)
		})
	}
}
