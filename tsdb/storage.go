// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"errors"
	"sync"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// Storage returns the store behind Prometheus' interfaces, for its test suites and foreign
// engines. Our own ingest and query paths do not go through it.
func (db *DB) Storage() storage.Storage {
	return &promStorage{Queryable: queryable.New(db), db: db, families: map[string]metadata.Metadata{}}
}

// promStorage is the adapter to storage.Storage.
type promStorage struct {
	*queryable.Queryable
	db *DB

	mu       sync.RWMutex
	families map[string]metadata.Metadata // what was last stored of each family; guarded by mu
}

// StartTime returns the time of the oldest sample, Unix milliseconds.
func (s *promStorage) StartTime() (int64, error) {
	t, _ := s.db.OldestSample()
	return t, nil
}

// Close closes the store.
func (s *promStorage) Close() error { return s.db.Close() }

// AppenderV2 returns an appender for one batch.
func (s *promStorage) AppenderV2(ctx context.Context) storage.AppenderV2 {
	a := &appender{ctx: ctx, storage: s, db: s.db, limits: s.db.limits()}
	a.oldest = s.db.oldestScraped(a.limits)
	return a
}

// errAppenderV1 is the answer to callers of Prometheus' first appender interface.
var errAppenderV1 = errors.New("this storage takes samples through storage.AppenderV2 only")

// Appender answers an appender that refuses everything: Prometheus' first appender interface is on its way out and
// none of the packages we use needs it.
func (s *promStorage) Appender(context.Context) storage.Appender { return refusingAppender{} }

// metadataChanged reports whether m is news about a family, and remembers it.
func (s *promStorage) metadataChanged(family string, m metadata.Metadata) bool {
	s.mu.RLock()
	old, ok := s.families[family]
	s.mu.RUnlock()
	if ok && old == m {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.families) >= maxFamilies {
		clear(s.families)
	}
	s.families[string([]byte(family))] = m // the caller's bytes may be used again
	return true
}

// forgetFamilies makes metadata count as new again after a batch with n entries was not stored.
func (s *promStorage) forgetFamilies(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.families)
}

// maxFamilies bounds the memory of what was stored: 200 B each, 20 MB.
const maxFamilies = 100_000
