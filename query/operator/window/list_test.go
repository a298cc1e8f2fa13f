// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window_test

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// listQueryable hands samples to Prometheus' engine as they are, with the reset hints that they have.
type listQueryable []series

func (q listQueryable) Querier(int64, int64) (storage.Querier, error) {
	return listQuerier{data: q}, nil
}

type listQuerier struct {
	storage.LabelQuerier
	data []series
}

func (listQuerier) Close() error { return nil }

func (q listQuerier) Select(_ context.Context, _ bool, _ *storage.SelectHints, _ ...*labels.Matcher) storage.SeriesSet {
	data := slices.Clone(q.data)
	slices.SortFunc(data, func(a, b series) int { return labels.Compare(a.ls, b.ls) })
	var all []storage.Series
	for _, s := range data {
		list := make([]chunks.Sample, len(s.samples))
		for i, x := range s.samples {
			list[i] = listSample{x}
		}
		all = append(all, storage.NewListSeries(s.ls, list))
	}
	return &listSet{all: all, i: -1}
}

type listSet struct {
	all []storage.Series
	i   int
}

func (s *listSet) Next() bool                      { s.i++; return s.i < len(s.all) }
func (s *listSet) At() storage.Series              { return s.all[s.i] }
func (*listSet) Err() error                        { return nil }
func (*listSet) Warnings() annotations.Annotations { return nil }

type listSample struct{ x columntest.Sample }

func (s listSample) ST() int64               { return s.x.ST }
func (s listSample) T() int64                { return s.x.T }
func (s listSample) F() float64              { return s.x.V }
func (s listSample) H() *histogram.Histogram { return s.x.H }
func (s listSample) Copy() chunks.Sample     { return s }

// FH returns a copy: the engine writes over histograms that it was given.
func (s listSample) FH() *histogram.FloatHistogram {
	if s.x.FH == nil {
		return nil
	}
	return s.x.FH.Copy()
}

func (s listSample) Type() chunkenc.ValueType {
	if s.x.FH != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}
