// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package queryable_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
	"github.com/tidemarkdb/tidemark/tsdb/column/queryable"
)

// memory is a storage.Storage over a columntest.Store: what promqltest needs and no more.
type memory struct {
	*queryable.Queryable
	store *columntest.Store
}

func newMemory(tb testing.TB) storage.Storage {
	tb.Helper()
	store := &columntest.Store{}
	return memory{Queryable: queryable.New(store), store: store}
}

func (m memory) AppenderV2(context.Context) storage.AppenderV2 { return appender{m.store} }
func (memory) Appender(context.Context) storage.Appender       { return nil }
func (memory) StartTime() (int64, error)                       { return 0, nil }
func (memory) Close() error                                    { return nil }

type appender struct{ store *columntest.Store }

func (a appender) Append(_ storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, _ storage.AppendV2Options) (storage.SeriesRef, error) {
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
func (appender) Commit() error   { return nil }
func (appender) Rollback() error { return nil }

func TestPrometheusEngineAnswersItsOwnSuiteOverColumns(t *testing.T) {
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{
		MaxSamples:               promqltest.DefaultMaxSamplesPerQuery,
		Timeout:                  100 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnableDelayedNameRemoval: true,
		UseStartTimestamps:       true,
		Parser:                   parser.NewParser(promqltest.TestParserOpts),
	})
	promqltest.RunBuiltinTestsWithStorage(t, engine, newMemory)
}
