// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb" //nolint:depguard // the storage that the reference engine reads
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// NewPrometheusStorage returns Prometheus' own storage, set up as for its built-in suite. It is closed with the test.
func NewPrometheusStorage(tb testing.TB) storage.Storage {
	tb.Helper()
	return teststorage.New(tb, func(o *tsdb.Options) {
		o.EnableSTStorage = true
		o.FloatChunkEncoding = chunkenc.EncXOR2
		o.EnableHistogramSTEncoding = true
	})
}

// Native is a storage that our engine reads as columns and others through Prometheus' interfaces.
type Native struct {
	storage.Storage
	column.Source
}

// Foreign hides everything of a storage but its querier, so that an engine cannot read it as columns.
func Foreign(q storage.Queryable) storage.Queryable { return storage.QueryableFunc(q.Querier) }

// Shuffled returns q with the series of every Select that asks for no order in another one, which seed decides.
// What an engine answers differently over it is left open by PromQL.
func Shuffled(q storage.Queryable, seed uint64) storage.Queryable {
	return storage.QueryableFunc(func(mint, maxt int64) (storage.Querier, error) {
		inner, err := q.Querier(mint, maxt)
		if err != nil {
			return nil, err
		}
		return shuffledQuerier{inner, seed}, nil
	})
}

type shuffledQuerier struct {
	storage.Querier
	seed uint64
}

// Select implements storage.Querier.
func (q shuffledQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	set := q.Querier.Select(ctx, sorted, h, ms...)
	if sorted {
		return set
	}
	s := &seriesList{next: -1}
	for set.Next() {
		s.all = append(s.all, set.At())
	}
	s.err, s.warnings = set.Err(), set.Warnings()
	rng := rand.New(rand.NewPCG(q.seed, 0))
	rng.Shuffle(len(s.all), func(i, j int) { s.all[i], s.all[j] = s.all[j], s.all[i] })
	return s
}

// seriesList is a storage.SeriesSet of what is given.
type seriesList struct {
	all      []storage.Series
	next     int
	err      error
	warnings annotations.Annotations
}

// Next implements storage.SeriesSet.
func (s *seriesList) Next() bool { s.next++; return s.err == nil && s.next < len(s.all) }

// At implements storage.SeriesSet.
func (s *seriesList) At() storage.Series { return s.all[s.next] }

// Err implements storage.SeriesSet.
func (s *seriesList) Err() error { return s.err }

// Warnings implements storage.SeriesSet.
func (s *seriesList) Warnings() annotations.Annotations { return s.warnings }
