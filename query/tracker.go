// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"

	"github.com/prometheus/prometheus/promql"
)

// newTracker returns what limits concurrency and, where it can, notes the running queries on disk. A directory
// that cannot be written is no reason to answer no queries.
func newTracker(o Options) promql.QueryTracker {
	if o.ActiveQueryDir == "" {
		return newGate(o.MaxConcurrency)
	}
	t, err := promql.NewActiveQueryTracker(o.ActiveQueryDir, o.MaxConcurrency, o.Logger)
	if err != nil {
		o.Logger.Warn("running queries are not noted on disk", "dir", o.ActiveQueryDir, "err", err)
		return newGate(o.MaxConcurrency)
	}
	return t
}

// gate is a promql.QueryTracker that only limits concurrency.
type gate chan struct{}

func newGate(n int) gate { return make(gate, n) }

// GetMaxConcurrent implements promql.QueryTracker.
func (g gate) GetMaxConcurrent() int { return cap(g) }

// Insert implements promql.QueryTracker: it waits for a place.
func (g gate) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case g <- struct{}{}:
		return 0, nil
	default:
	}
	select {
	case g <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Delete implements promql.QueryTracker: it gives the place back.
func (g gate) Delete(int) { <-g }

// Close implements promql.QueryTracker.
func (gate) Close() error { return nil }
