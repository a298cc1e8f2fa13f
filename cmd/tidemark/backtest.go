// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tidemarkdb/tidemark/rules/backtest"
	"github.com/tidemarkdb/tidemark/tsdb"
	"github.com/tidemarkdb/tidemark/tsdb/journal"
)

// openScratch opens an empty store for what the rules of a backtest record. What a crash left of an earlier one goes
// with the next; the API runs one at a time.
func (s *server) openScratch(ctx context.Context) (backtest.Scratch, func() error, error) {
	dir := s.stateDir("backtest")
	if err := os.RemoveAll(dir); err != nil {
		return nil, nil, fmt.Errorf("clear %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, nil, err
	}
	db, err := tsdb.Open(ctx, tsdb.Options{
		Dir: dir, Sync: journal.Process, SegmentBytes: 4 << 20, Shards: 1, MaxFuture: -1, Scrub: -1,
		BlockCache: 8 << 20, SeriesCache: 8 << 20, Budget: s.memory.Child("backtest", 0),
	})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return db, func() error { return errors.Join(db.Close(), os.RemoveAll(dir)) }, nil
}
