// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query"
	"github.com/tidemarkdb/tidemark/query/exec"
	"github.com/tidemarkdb/tidemark/query/querytest"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column/columntest"
)

// nowhere is a sink that keeps nothing.
type nowhere struct{}

func (nowhere) Begin(parser.ValueType) error { return nil }
func (nowhere) Row(*exec.Row) error          { return nil }
func (nowhere) Scalar(int64, float64) error  { return nil }
func (nowhere) Text(int64, string) error     { return nil }

// Histograms that an operator keeps, from whatever rows they came, are charged as long as it does.
func TestHistogramsThatOperatorsKeepAreCharged(t *testing.T) {
	const series, samples = 300, 20
	store := &columntest.Store{}
	size := int64(0)
	for i := range series {
		for at := range int64(samples) {
			h := bigHistogram(i + int(at))
			size += int64(h.ToFloat(nil).Size())
			for _, side := range []string{"a", "b"} {
				store.Append(labels.FromStrings("__name__", "m", "i", strconv.Itoa(i), "side", side), columntest.Sample{T: at * 15_000, V: 1})
			}
			store.Append(labels.FromStrings("__name__", "n", "i", strconv.Itoa(i)), columntest.Sample{T: at * 15_000, H: h})
		}
	}
	const step = 750 * time.Millisecond // many, so that batches are of few rows
	for _, text := range []string{
		"m * on (i) group_left () n", "n * on (i) group_right () m", "n or n", "n == n", "n + on (i) n",
	} {
		memory := budget.NewRoot("test", 0)
		o := query.Options{Memory: memory, Features: querytest.SuiteOptions().Features}
		e := newEngine(t, store, o)
		pq, err := e.NewRangeQuery(t.Context(), nil, nil, text, time.UnixMilli(0), time.UnixMilli(samples*15_000-1), step)
		if err != nil {
			t.Fatal(err)
		}
		q, _ := pq.(*query.Query)
		if _, err := q.Stream(t.Context(), nowhere{}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		q.Close()
		if times := float64(memory.Peak()) / float64(size); times < 0.9 || times > 3 {
			t.Errorf("%s: charged %.2f times for all histograms", text, times)
		}
		if memory.Used() != 0 {
			t.Errorf("%s: %d bytes are charged", text, memory.Used())
		}
	}
}
