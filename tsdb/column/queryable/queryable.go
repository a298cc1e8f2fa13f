// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package queryable lets Prometheus' code read from any column.Source: it turns a Source into a
// storage.Queryable, a storage.ChunkQueryable and a storage.ExemplarQueryable. Remote read, federation, the
// label endpoints and foreign query engines read through it; our own engine scans columns and does not.
//
// A Querier owns one column.View and releases it in Close. A series set lists its series at once and decodes
// them late, in batches of growing size as iterators are asked for, because most readers walk the series in
// order and many stop early. A batch stays as it is while an iterator stands on it; a reader that hands its
// old iterator back, as storage.Series.Iterator invites it to, lets the batch's memory be used again.
//
// Iterators hand out copies of histograms and set the counter reset hints that Prometheus' storage would
// answer: see hints.go.
//
// A Queryable is safe for concurrent use, and so are the queriers and the series of a set. One series set and
// one iterator belong to one goroutine.
package queryable

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Queryable reads from a column.Source in the ways of Prometheus' storage package.
type Queryable struct {
	src column.Source
}

var (
	_ storage.SampleAndChunkQueryable = (*Queryable)(nil)
	_ storage.ExemplarQueryable       = (*Queryable)(nil)
)

// New returns the Prometheus face of src.
func New(src column.Source) *Queryable { return &Queryable{src: src} }

// Querier implements storage.Queryable. The querier sees the source as it is now.
func (q *Queryable) Querier(mint, maxt int64) (storage.Querier, error) {
	return q.open(mint, maxt)
}

// ChunkQuerier implements storage.ChunkQueryable. Chunks are encoded on the way out, 120 samples each.
func (q *Queryable) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	querier, err := q.open(mint, maxt)
	if err != nil {
		return nil, err
	}
	return chunkQuerier{querier}, nil
}

// ExemplarQuerier implements storage.ExemplarQueryable.
func (q *Queryable) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	return exemplarQuerier{ctx: ctx, src: q.src}, nil
}

func (q *Queryable) open(mint, maxt int64) (*Querier, error) {
	view, err := q.src.View(column.HintStart(mint), maxt)
	if err != nil {
		return nil, fmt.Errorf("open a view of the store: %w", err)
	}
	return &Querier{view: view, mint: mint, maxt: maxt}, nil
}

// Querier implements storage.Querier over one view. The view reaches a little further back than mint, for the
// counter reset hints of first samples.
type Querier struct {
	view       column.View
	mint, maxt int64
	closing    sync.Once
	closeErr   error
}

// Select implements storage.Querier. Series always come in label order.
func (q *Querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	need, limit := column.Need{MinT: q.mint, MaxT: q.maxt, ST: true}, 0
	if hints != nil {
		need.MinT, need.MaxT = max(q.mint, hints.Start), min(q.maxt, hints.End)
		limit = hints.Limit
	}
	if need.MinT > need.MaxT {
		return storage.EmptySeriesSet()
	}
	set, err := q.view.Series(ctx, ms, column.Hint{MinT: need.MinT, MaxT: need.MaxT, Limit: limit})
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	scan := &scanner{ctx: ctx, view: q.view, set: set, need: need}
	return &seriesSet{scan: scan, next: -1, builder: labels.NewScratchBuilder(len(set.Names))}
}

// LabelValues implements storage.LabelQuerier.
func (q *Querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values, err := q.labelValues(ctx, name, limitOf(hints), ms)
	return values, q.view.Warnings(), err
}

func (q *Querier) labelValues(ctx context.Context, name string, limit int, ms []*labels.Matcher) ([]string, error) {
	if r, ok := q.view.(column.LabelReader); ok {
		return r.LabelValues(ctx, name, ms, limit)
	}
	set, err := q.view.Series(ctx, ms, column.Hint{MinT: q.mint, MaxT: q.maxt})
	if err != nil {
		return nil, err
	}
	i, found := slices.BinarySearch(set.Names, name)
	if !found {
		return nil, nil
	}
	values := map[string]struct{}{}
	for _, sym := range set.Syms[i] {
		if sym != 0 {
			values[set.Text[sym]] = struct{}{}
		}
	}
	return truncate(slices.Sorted(maps.Keys(values)), limit), nil
}

// LabelNames implements storage.LabelQuerier.
func (q *Querier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names, err := q.labelNames(ctx, limitOf(hints), ms)
	return names, q.view.Warnings(), err
}

func (q *Querier) labelNames(ctx context.Context, limit int, ms []*labels.Matcher) ([]string, error) {
	if r, ok := q.view.(column.LabelReader); ok {
		return r.LabelNames(ctx, ms, limit)
	}
	set, err := q.view.Series(ctx, ms, column.Hint{MinT: q.mint, MaxT: q.maxt})
	if err != nil {
		return nil, err
	}
	return truncate(slices.Clone(set.Names), limit), nil
}

// Warnings returns what could not be read so far. Prometheus' engine asks a series set for its warnings
// before the samples are read; who wants them all asks here when the query is done.
func (q *Querier) Warnings() annotations.Annotations { return q.view.Warnings() }

// Close releases the view. Closing twice is harmless.
func (q *Querier) Close() error {
	q.closing.Do(func() { q.closeErr = q.view.Close() })
	return q.closeErr
}

func limitOf(hints *storage.LabelHints) int {
	if hints == nil {
		return 0
	}
	return hints.Limit
}

func truncate(s []string, limit int) []string {
	if limit > 0 && len(s) > limit {
		return s[:limit]
	}
	return s
}

// chunkQuerier implements storage.ChunkQuerier: the same series, their samples encoded into chunks.
type chunkQuerier struct {
	*Querier
}

// Select implements storage.ChunkQuerier.
func (q chunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	return storage.NewSeriesSetToChunkSet(q.Querier.Select(ctx, sorted, hints, ms...))
}

// exemplarQuerier implements storage.ExemplarQuerier. The context is kept because the interface's Select has
// none.
type exemplarQuerier struct {
	ctx context.Context
	src column.Source
}

// Select implements storage.ExemplarQuerier. A source that keeps no exemplars answers none.
func (q exemplarQuerier) Select(start, end int64, ms ...[]*labels.Matcher) (_ []exemplar.QueryResult, err error) {
	view, err := q.src.View(start, end)
	if err != nil {
		return nil, fmt.Errorf("open a view of the store: %w", err)
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	r, ok := view.(column.ExemplarReader)
	if !ok {
		return nil, nil
	}
	found, err := r.Exemplars(q.ctx, start, end, ms...)
	if err != nil {
		return nil, err
	}
	out := make([]exemplar.QueryResult, len(found))
	for i, s := range found {
		out[i] = exemplar.QueryResult{SeriesLabels: s.Labels, Exemplars: s.Exemplars}
	}
	return out, nil
}
