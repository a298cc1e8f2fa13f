// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package column_test

import (
	"errors"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

func TestFloatHistogramsOfABlockKeepApartAndAreReusedAfterReset(t *testing.T) {
	account := budget.NewRoot("block", 0)
	b := column.Block{Budget: account}
	var first, used int64
	for round := range 3 {
		b.Reset()
		b.Want(column.Need{Float: true})
		b.AppendFloat(0, 0, 1)
		for i := range 1000 {
			fh, counts, err := b.AddFloatHistogram(int64(i+1), sample.Histogram, i%50)
			if err != nil {
				t.Fatal(err)
			}
			*fh = histogram.FloatHistogram{Count: float64(i), PositiveBuckets: counts}
			for k := range counts {
				counts[k] = float64(i)
			}
		}
		b.EndSeries()
		if len(b.T) != 1001 || b.Kind[0] != sample.Float || b.H.Float[0] != nil || b.Shape[0] != column.HasFloats|column.HasHistograms {
			t.Fatalf("%d rows, kind %d, shape %d", len(b.T), b.Kind[0], b.Shape[0])
		}
		for i, fh := range b.H.Float[1:] {
			if fh.Count != float64(i) || len(fh.PositiveBuckets) != i%50 {
				t.Fatalf("histogram %d has count %g and %d buckets", i, fh.Count, len(fh.PositiveBuckets))
			}
			for _, c := range fh.PositiveBuckets {
				if c != float64(i) {
					t.Fatalf("a bucket of histogram %d is %g", i, c)
				}
			}
		}
		if used = account.Used(); round == 0 {
			first = used
		}
	}
	if used != first || used < 1000*(120+25*8) {
		t.Errorf("%d bytes are charged, %d at first", used, first)
	}
	if b.Free(); account.Used() != 0 {
		t.Errorf("%d bytes are not given back", account.Used())
	}
}

func TestAFloatHistogramThatFindsNoMemoryAddsNoRow(t *testing.T) {
	var exceeded *budget.ExceededError
	for limit := int64(0); limit < 80_000; limit += 1000 {
		b := column.Block{Budget: budget.NewRoot("block", limit+1)}
		b.Reset()
		b.Want(column.Need{Float: true})
		_, _, err := b.AddFloatHistogram(1, sample.FloatHistogram, 10)
		if err == nil {
			return
		}
		if !errors.As(err, &exceeded) || len(b.T)+len(b.Kind)+len(b.H.Float) != 0 {
			t.Fatalf("limit %d: %v, %d rows", limit, err, len(b.T))
		}
	}
	t.Error("no limit was enough")
}
