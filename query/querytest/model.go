// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import (
	"context"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// Model is a storage.Storage over a columntest.Store, as much of one as promqltest needs. Our engine reads it as
// columns.
type Model struct {
	*columntest.Store
	*queryable.Queryable
}

// NewModel returns an empty Model.
func NewModel(testing.TB) storage.Storage { return ModelOf(&columntest.Store{}) }

// ModelOf returns the Model over a store.
func ModelOf(s *columntest.Store) Model { return Model{Store: s, Queryable: queryable.New(s)} }

// AppenderV2 implements storage.Storage.
func (m Model) AppenderV2(context.Context) storage.AppenderV2 { return modelAppender{m.Store} }

// Appender implements storage.Storage. There is none.
func (Model) Appender(context.Context) storage.Appender { return nil }

// StartTime implements storage.Storage.
func (Model) StartTime() (int64, error) { return 0, nil }

// Close implements storage.Storage.
func (Model) Close() error { return nil }

type modelAppender struct{ store *columntest.Store }

// Append implements storage.AppenderV2.
func (a modelAppender) Append(_ storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, _ storage.AppendV2Options) (storage.SeriesRef, error) {
	x := columntest.Sample{ST: st, T: t, V: v}
	if h != nil {
		x.H = h.Copy()
	}
	if fh != nil {
		x.FH = fh.Copy()
	}
	a.store.Append(ls, x)
	return 1, nil
}

// Commit implements storage.AppenderV2.
func (modelAppender) Commit() error { return nil }

// Rollback implements storage.AppenderV2.
func (modelAppender) Rollback() error { return nil }
