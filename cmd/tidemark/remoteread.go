// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/tidemarkdb/tidemark/ingest/config"
)

// applyRemoteRead sets who is asked beside the store.
func (s *server) applyRemoteRead(c *config.Config) error { return s.source.ApplyConfig(c.Prom) }

// remoteReadMargin is for how long a new store asks others for what it may have itself, as in Prometheus: twice the length
// of its first blocks.
const remoteReadMargin = 4 * time.Hour

// storeStart is the time from which on the store has all there is, in Unix milliseconds.
func (s *server) storeStart() int64 {
	oldest, ok := s.db.OldestSample()
	if !ok {
		oldest = time.Now().UnixMilli()
	}
	return oldest + remoteReadMargin.Milliseconds()
}
