// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/tidemarkdb/tidemark/ingest/scrape/scrapetest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// The scrape loops write to our store as they write to Prometheus' own.
func TestScrapingFindsInTheStoreWhatItReliesOn(t *testing.T) {
	scrapetest.Run(t, func(t *testing.T, window time.Duration) scrapetest.Store {
		t.Helper()
		db, err := tsdb.Open(t.Context(), tsdb.Options{
			Dir: "/data", FS: fsx.NewCrashable(), Late: tsdb.LateWindows{Scrape: window}, SegmentBytes: 64 << 10,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db.Storage()
	})
}
