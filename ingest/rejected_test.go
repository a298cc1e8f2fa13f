// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/ingest"
	"github.com/tidemarkdb/tidemark/ingest/ingesttest"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestSeriesOfWhichARowIsNotStoredAreListed(t *testing.T) {
	check := func(r *ingesttest.Recorder, want ...int) {
		t.Helper()
		in, err := ingest.New(ingest.Options{Appender: r})
		if err != nil {
			t.Fatal(err)
		}
		for _, known := range []bool{false, true} {
			req := in.Begin()
			series := func(i int) labels.Labels { return labels.FromStrings("__name__", fmt.Sprint("m", i)) }
			for i := range 5 {
				key := req.Hash(1, []byte{byte(i)})
				if req.Begin(key) != (known && !slices.Contains(want, i)) && r.MaxSeries > 0 {
					t.Errorf("series %d is known too soon or too late", i)
				}
				if !known || r.MaxSeries > 0 && slices.Contains(want, i) {
					req.Define(key, series(i))
				}
				for row := range i { // none of the first
					req.Float(0, int64(row), float64(i*10+row))
				}
			}
			if _, err := req.Commit(t.Context(), func(i int) (labels.Labels, error) { return series(i), nil }); err != nil {
				t.Fatal(err)
			}
			var got []int
			req.EachRejected(func(i int) { got = append(got, i) })
			if !slices.Equal(got, want) {
				t.Errorf("series %v, want %v", got, want)
			}
			req.Release()
		}
	}
	check(&ingesttest.Recorder{})
	check(&ingesttest.Recorder{Fate: func(r ingesttest.Row) sample.Reason {
		if r.V == 11 || r.V == 10 || r.V == 32 {
			return sample.TooOld
		}
		return sample.Same
	}}, 1, 3)
	check(&ingesttest.Recorder{MaxSeries: 3}, 3, 4)
}
