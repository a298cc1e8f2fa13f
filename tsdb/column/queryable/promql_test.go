// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package queryable_test

import (
	"testing"

	"github.com/tidemarkdb/tidemark/query/querytest"
)

func TestPrometheusEngineAnswersItsOwnSuiteOverColumns(t *testing.T) {
	querytest.RunSuite(t, querytest.NewReference(querytest.SuiteOptions()), querytest.NewModel)
}
