// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// Prometheus' whole built-in suite, run by Prometheus' own engine over this storage: what fails is the storage's.
func TestPrometheusSuiteOverThisStorage(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	promqltest.RunBuiltinTestsWithStorage(t, engine, func(tb testing.TB) storage.Storage {
		db, err := Open(context.Background(), Options{
			Dir: testDir, FS: fsx.NewCrashable(), SegmentBytes: minSegmentBytes, MaxFuture: -1, Shards: 2,
			Late: LateWindows{Scrape: AllRetention}, // the suite writes each series whole before the next
		})
		if err != nil {
			tb.Fatal(err)
		}
		return db.Storage()
	})
}

// The same with every sample in blocks: slots are short and the head is flushed at every commit.
func TestPrometheusSuiteOverBlocks(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	promqltest.RunBuiltinTestsWithStorage(t, engine, func(tb testing.TB) storage.Storage {
		db, err := Open(context.Background(), Options{
			Dir: testDir, FS: fsx.NewCrashable(), SegmentBytes: minSegmentBytes, MaxFuture: -1, Shards: 2, Slot: 12 * time.Hour,
			Late: LateWindows{Scrape: AllRetention},
		})
		if err != nil {
			tb.Fatal(err)
		}
		return flushedStorage{db.Storage(), db}
	})
}

// flushedStorage flushes the head before it is read.
type flushedStorage struct {
	storage.Storage

	db *DB
}

func (s flushedStorage) Querier(mint, maxt int64) (storage.Querier, error) {
	if len(s.db.head.Slots()) > 0 {
		if err := s.db.Flush(context.Background()); err != nil {
			return nil, err
		}
	}
	return s.Storage.Querier(mint, maxt)
}
