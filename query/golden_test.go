// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/querytest"
)

// The scripts under testdata are in the form of Prometheus' suite and say what it leaves unsaid. The reference is put
// to them as well: a script that it fails is a mistake of ours.
func TestScripts(t *testing.T) {
	early := querytest.SuiteOptions()
	early.Features.DelayedNameRemoval = false
	runScripts(t, "testdata/*.promqltest", querytest.SuiteOptions())
	runScripts(t, "testdata/early/*.promqltest", early)
}

func runScripts(t *testing.T, pattern string, o query.Options) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts match %s: %v", len(files), pattern, err)
	}
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(file+"/reference", func(t *testing.T) {
			promqltest.RunTestWithStorage(t, string(script), querytest.NewReference(o), querytest.NewPrometheusStorage)
		})
		for name, newStorage := range storages() {
			t.Run(file+"/"+name, func(t *testing.T) {
				promqltest.RunTestWithStorage(t, string(script), newEngine(t, nil, o), newStorage)
			})
		}
	}
}
