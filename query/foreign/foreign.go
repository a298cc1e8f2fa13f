// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package foreign lets the operators of a query read from a storage that is not ours: it makes a column.Source of a
// storage.Queryable. The tests of Prometheus' engine run so over Prometheus' own storage.
//
// A View is one Querier, a Series call is one Select with the hints that Prometheus' engine would give, and a Scan
// walks over the iterators of the series. Series are listed at once; their samples are decoded when they are
// scanned. A View calls its Querier from one goroutine at a time, because not every storage bears more.
//
// What storages do wrong is put right here: series come in label order even if the Select does not sort, and samples
// outside of the range asked for, or not later than the one before, are left out. Errors are the storage's own.
package foreign

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Source is a storage.Queryable as a column.Source. It is as safe for concurrent use as the Queryable.
type Source struct {
	from storage.Queryable
	sets atomic.Uint64 // how many series sets there were
}

// New returns q as a source.
func New(q storage.Queryable) *Source { return &Source{from: q} }

// View implements column.Source. The error is the storage's own.
func (s *Source) View(mint, maxt int64) (column.View, error) {
	q, err := s.from.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &View{source: s, querier: q, mint: mint, maxt: maxt}, nil
}

// KeepsResetHints tells that histograms come with the counter reset hints that readers are to see, so nobody has to
// work them out.
func (s *Source) KeepsResetHints() bool { return true }

// View is one Querier. It is safe for concurrent use.
type View struct {
	source     *Source
	querier    storage.Querier
	mint, maxt int64

	mu       sync.Mutex // held while the querier or an iterator of it is called
	closed   bool
	warnings annotations.Annotations
	iterator chunkenc.Iterator // to be used again
}

var _ column.View = (*View)(nil)

// KeepsResetHints is as that of Source.
func (v *View) KeepsResetHints() bool { return true }

// Series implements column.View. The storage is told the whole hint.
func (v *View) Series(ctx context.Context, ms []*labels.Matcher, h column.Hint) (*column.SeriesSet, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, errClosed
	}
	hints := storage.SelectHints{
		Start: h.MinT, End: h.MaxT, Limit: h.Limit,
		Step: h.Use.Step, Range: h.Use.Range, Func: h.Use.Func, Grouping: h.Use.Grouping, By: h.Use.By,
	}
	if h.MinT == 0 && h.MaxT == 0 {
		hints.Start, hints.End = v.mint, v.maxt
	}
	from := v.querier.Select(ctx, false, &hints, ms...)
	var list []storage.Series
	for from.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list = append(list, from.At())
	}
	v.warnings.Merge(from.Warnings())
	if err := from.Err(); err != nil {
		return nil, err
	}
	return seriesSet(v.source.sets.Add(1), list), nil
}

var errClosed = errors.New("the view of the storage is closed")

// Warnings implements column.View.
func (v *View) Warnings() annotations.Annotations {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.warnings)
}

// Close implements column.View. Closing twice is harmless.
func (v *View) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	return v.querier.Close()
}

// seriesSet lists series in label order.
func seriesSet(gen uint64, list []storage.Series) *column.SeriesSet {
	if byLabels := func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) }; !slices.IsSortedFunc(list, byLabels) {
		slices.SortStableFunc(list, byLabels)
	}
	names, texts := map[string]uint32{}, map[string]uint32{"": 0}
	for _, s := range list {
		s.Labels().Range(func(l labels.Label) { names[l.Name], texts[l.Value] = 0, 0 })
	}
	set := &column.SeriesSet{Gen: gen, N: len(list), Handle: list, Names: number(names), Text: number(texts)}
	set.Syms = make([][]uint32, len(set.Names))
	for i := range set.Syms {
		set.Syms[i] = make([]uint32, len(list))
	}
	for row, s := range list {
		s.Labels().Range(func(l labels.Label) { set.Syms[names[l.Name]][row] = texts[l.Value] })
	}
	return set
}

// number sorts the keys and sets each to its place.
func number(keys map[string]uint32) []string {
	sorted := slices.Sorted(maps.Keys(keys))
	for i, k := range sorted {
		keys[k] = uint32(i)
	}
	return sorted
}
