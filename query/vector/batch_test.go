// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// addRow adds a row of the kinds given; histograms are made, values count up.
func addRow(t *testing.T, b *vector.Batch, id uint32, kinds ...vector.Kind) {
	t.Helper()
	i, err := b.Add(id)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(kinds, vector.Histogram) {
		if err := b.UseHistograms(); err != nil {
			t.Fatal(err)
		}
	}
	v, k, h := b.Row(i)
	copy(k, kinds)
	for j, x := range kinds {
		v[j] = float64(j)
		if x == vector.Histogram {
			h[j] = &histogram.FloatHistogram{Count: float64(j)}
		}
	}
	b.Measure(i)
}

func TestRowsAreAbsentUntilFilled(t *testing.T) {
	var b vector.Batch
	b.Reset(3)
	addRow(t, &b, 1, vector.Float, vector.Float, vector.Float)
	b.Reset(2)
	i, err := b.Add(7)
	if err != nil {
		t.Fatal(err)
	}
	if _, k, h := b.Row(i); !slices.Equal(k, []vector.Kind{0, 0}) || h != nil || b.Shape[i] != vector.HasGaps {
		t.Errorf("kinds %v, histograms %v, shape %b", k, h, b.Shape[i])
	}
}

func TestShapesSayWhatRowsHold(t *testing.T) {
	var b vector.Batch
	b.Reset(2)
	check := func(want vector.Shape, kinds ...vector.Kind) {
		t.Helper()
		addRow(t, &b, 0, kinds...)
		if got := b.Shape[b.Rows()-1]; got != want {
			t.Errorf("%v has shape %b, want %b", kinds, got, want)
		}
	}
	check(vector.Full, vector.Float, vector.Float)
	check(vector.HasGaps, vector.Absent, vector.Absent)
	check(vector.HasFloats|vector.HasGaps, vector.Absent, vector.Float)
	check(vector.HasFloats|vector.HasHistograms, vector.Histogram, vector.Float)
	check(vector.HasHistograms|vector.HasGaps, vector.Histogram, vector.Absent)
}

func TestHistogramsComeIntoUseForAllRows(t *testing.T) {
	var b vector.Batch
	b.Reset(2)
	addRow(t, &b, 1, vector.Float, vector.Float)
	addRow(t, &b, 2, vector.Histogram, vector.Absent)
	addRow(t, &b, 3, vector.Float, vector.Absent)
	if len(b.H) != len(b.V) {
		t.Fatalf("%d histograms for %d cells", len(b.H), len(b.V))
	}
	for i, want := range []bool{false, true, false} {
		if _, _, h := b.Row(i); (h[0] != nil) != want || h[1] != nil {
			t.Errorf("row %d has histograms %v", i, h)
		}
	}
	kept := b.H
	b.Drop(1)
	if b.Rows() != 1 || len(b.V) != 2 || len(b.H) != 2 || kept[2] != nil {
		t.Errorf("after Drop %d rows, %d cells, %d histograms; a dropped one is alive: %t", b.Rows(), len(b.V), len(b.H), kept[2] != nil)
	}
	addRow(t, &b, 4, vector.Histogram, vector.Histogram)
	b.Reset(2)
	if kept[2] != nil || len(b.H) != 0 {
		t.Error("Reset keeps a histogram alive")
	}
}

func TestBatchesAreChargedBeforeTheyGrow(t *testing.T) {
	acct := budget.NewRoot("query", 1000)
	b := vector.Batch{Budget: acct}
	b.Reset(10)
	if err := b.Reserve(4); err != nil {
		t.Fatal(err)
	}
	used := acct.Used()
	if used < 4*10*vector.CellBytes {
		t.Errorf("%d bytes charged for 40 cells", used)
	}
	for id := range uint32(4) {
		addRow(t, &b, id)
	}
	if acct.Used() != used {
		t.Errorf("rows reserved before were charged again: %d bytes, %d before", acct.Used(), used)
	}
	err := b.Reserve(1000)
	if ee := (*budget.ExceededError)(nil); !errors.As(err, &ee) || acct.Used() != used || b.Rows() != 4 {
		t.Errorf("error %v, %d bytes, %d rows", err, acct.Used(), b.Rows())
	}
	if err := b.UseHistograms(); err != nil || acct.Used() < used+40*8 {
		t.Errorf("histograms: %v, %d bytes", err, acct.Used())
	}
	if b.Free(); acct.Used() != 0 || cap(b.V) != 0 || b.Budget != acct {
		t.Errorf("%d bytes charged after Free", acct.Used())
	}
}

func TestAHistogramWithoutRoomTakesBackTheRow(t *testing.T) {
	acct := budget.NewRoot("query", 300)
	b := vector.Batch{Budget: acct}
	b.Reset(10)
	addRow(t, &b, 1)
	if err := b.UseHistograms(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(2); err == nil || b.Rows() != 1 || len(b.V) != 10 || len(b.H) != 10 {
		t.Errorf("error %v, %d rows, %d cells, %d histograms", err, b.Rows(), len(b.V), len(b.H))
	}
}

func TestGrowingRowByRowCopiesLittle(t *testing.T) {
	var b vector.Batch
	b.Reset(1)
	grown := 0
	for id := range uint32(10_000) {
		before := cap(b.V)
		addRow(t, &b, id, vector.Float)
		if cap(b.V) != before {
			grown++
		}
	}
	if grown > 40 {
		t.Errorf("the batch was copied %d times for 10,000 rows", grown)
	}
}
