// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package scrapetest_test

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb"

	"github.com/tidemarkdb/tidemark/ingest/scrape/scrapetest"
)

func TestPrometheusStorageIsWhatTheSuiteAsksFor(t *testing.T) {
	scrapetest.Run(t, func(t *testing.T, window time.Duration) scrapetest.Store {
		t.Helper()
		o := tsdb.DefaultOptions()
		o.OutOfOrderTimeWindow, o.EnableExemplarStorage, o.MaxExemplars = window.Milliseconds(), true, 10
		db, err := tsdb.Open(t.TempDir(), nil, nil, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	})
}
