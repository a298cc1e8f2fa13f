// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package column_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

var stale = math.Float64frombits(value.StaleNaN)

// checkColumns fails unless every column in use has as many rows as T.
func checkColumns(t *testing.T, b *column.Block, rows int) {
	t.Helper()
	if len(b.T) != rows || len(b.V) != rows {
		t.Errorf("%d times, %d values, want %d", len(b.T), len(b.V), rows)
	}
	for name, n := range map[string]int{"ST": len(b.ST), "Kind": len(b.Kind), "Int": len(b.H.Int), "Float": len(b.H.Float)} {
		if n != 0 && n != rows {
			t.Errorf("column %s has %d rows, want none or %d", name, n, rows)
		}
	}
	if len(b.Kind) != len(b.H.Int) || len(b.Kind) != len(b.H.Float) {
		t.Errorf("%d kinds, %d and %d histograms", len(b.Kind), len(b.H.Int), len(b.H.Float))
	}
}

func TestFloatsAloneUseNoOtherColumn(t *testing.T) {
	var b column.Block
	b.Reset()
	for i := range 10 {
		b.AppendFloat(int64(i), 0, float64(i))
	}
	b.EndSeries()
	checkColumns(t, &b, 10)
	if len(b.ST)+len(b.Kind) != 0 {
		t.Errorf("%d start timestamps, %d kinds", len(b.ST), len(b.Kind))
	}
	if b.KindAt(3) != sample.Float || b.STAt(3) != 0 {
		t.Errorf("row 3: kind %d, start %d", b.KindAt(3), b.STAt(3))
	}
}

func TestMixedRowsLineUp(t *testing.T) {
	h, fh := &histogram.Histogram{Count: 1}, &histogram.FloatHistogram{Count: 2}
	var b column.Block
	b.AppendFloat(1, 0, 1)
	b.AppendHistogram(2, 0, h, nil)
	b.AppendFloat(3, 9, 3)
	b.AppendHistogram(4, 8, nil, fh)
	b.T, b.V = append(b.T, 5, 6), append(b.V, 5, 6)
	b.PadFloats()
	checkColumns(t, &b, 6)
	if want := []sample.Kind{0, sample.Histogram, 0, sample.FloatHistogram, 0, 0}; !slices.Equal(b.Kind, want) {
		t.Errorf("kinds %v, want %v", b.Kind, want)
	}
	if want := []int64{0, 0, 9, 8, 0, 0}; !slices.Equal(b.ST, want) {
		t.Errorf("starts %v, want %v", b.ST, want)
	}
	if b.H.Int[1] != h || b.H.Float[3] != fh || b.H.Int[0] != nil || b.H.Float[1] != nil {
		t.Errorf("histograms %v, %v", b.H.Int, b.H.Float)
	}
	b.SetST(0, 7)
	b.SetST(2, 0)
	if b.STAt(0) != 7 || b.STAt(2) != 0 {
		t.Errorf("starts %v after SetST", b.ST)
	}
}

func TestHistogramFirstBringsTheColumnsIntoUse(t *testing.T) {
	var b column.Block
	b.AppendHistogram(1, 5, &histogram.Histogram{}, nil)
	b.AppendFloat(2, 0, 1)
	checkColumns(t, &b, 2)
	if b.KindAt(0) != sample.Histogram || b.KindAt(1) != sample.Float || b.STAt(0) != 5 {
		t.Errorf("kinds %v, starts %v", b.Kind, b.ST)
	}
}

func TestShapeSaysWhatASeriesHolds(t *testing.T) {
	const f, h, s = column.HasFloats, column.HasHistograms, column.HasStale
	check := func(want column.Shape, rows ...any) {
		t.Helper()
		var b column.Block
		b.AppendFloat(-1, 0, stale) // another series before must not count
		b.EndSeries()
		for i, r := range rows {
			switch r := r.(type) {
			case float64:
				b.AppendFloat(int64(i), 0, r)
			case *histogram.Histogram:
				b.AppendHistogram(int64(i), 0, r, nil)
			case *histogram.FloatHistogram:
				b.AppendHistogram(int64(i), 0, nil, r)
			}
		}
		b.EndSeries()
		if got := b.Shape[1]; got != want {
			t.Errorf("%v has shape %b, want %b", rows, got, want)
		}
		if from, to := b.Rows(1); from != 1 || to != 1+len(rows) || b.Series() != 2 {
			t.Errorf("rows %d to %d of %d series", from, to, b.Series())
		}
	}
	check(0)
	check(f, 1.0)
	check(f, math.NaN(), 1.0)
	check(f|s, 1.0, stale)
	check(f|s, stale, 1.0)
	check(h, &histogram.Histogram{})
	check(h|s, &histogram.Histogram{Sum: stale})
	check(h, &histogram.FloatHistogram{Sum: math.NaN()})
	check(h|s, &histogram.FloatHistogram{Sum: stale})
	check(f|h, 1.0, &histogram.Histogram{}, &histogram.FloatHistogram{})
	check(f|h|s, stale, &histogram.Histogram{})
}

func TestEndSeriesWithoutResetStartsAtRowZero(t *testing.T) {
	var b column.Block
	b.EndSeries()
	b.AppendFloat(1, 0, 1)
	b.EndSeries()
	if !slices.Equal(b.Off, []uint32{0, 0, 1}) || b.Series() != 2 {
		t.Errorf("offsets %v", b.Off)
	}
	if b.Reset(); b.Series() != 0 || len(b.T) != 0 {
		t.Errorf("%d series, %d rows after Reset", b.Series(), len(b.T))
	}
}

func TestResetForgetsEveryColumn(t *testing.T) {
	var b column.Block
	b.AppendHistogram(1, 5, &histogram.Histogram{}, nil)
	ints := b.H.Int
	b.Reset()
	b.AppendFloat(1, 0, 1)
	b.AppendFloat(2, 0, 1)
	checkColumns(t, &b, 2)
	if len(b.Kind)+len(b.ST) != 0 {
		t.Errorf("kinds %v, starts %v after Reset", b.Kind, b.ST)
	}
	if ints[0] != nil {
		t.Error("Reset keeps a histogram alive")
	}
	// Memory that is used again holds nothing of before.
	b.AppendHistogram(3, 1, nil, &histogram.FloatHistogram{})
	if b.H.Int[0] != nil || b.Kind[0] != sample.Float || b.ST[0] != 0 {
		t.Errorf("row 0: %v, kind %d, start %d", b.H.Int[0], b.Kind[0], b.ST[0])
	}
}

func TestTruncateTakesBackRows(t *testing.T) {
	var b column.Block
	b.AppendFloat(1, 1, 1)
	b.AppendFloat(2, 2, 2)
	b.Truncate(1)
	checkColumns(t, &b, 1)
	b.AppendHistogram(3, 0, &histogram.Histogram{}, nil)
	b.Truncate(1)
	checkColumns(t, &b, 1)
	b.AppendFloat(4, 0, 4)
	checkColumns(t, &b, 2)
	if b.KindAt(1) != sample.Float || b.STAt(1) != 0 || b.STAt(0) != 1 {
		t.Errorf("kinds %v, starts %v", b.Kind, b.ST)
	}
}

func TestGrowthIsChargedFirst(t *testing.T) {
	acct := budget.NewRoot("query", 64*17)
	b := column.Block{Budget: acct}
	if err := b.Reserve(10); err != nil {
		t.Fatal(err)
	}
	if acct.Used() != int64(cap(b.T)+cap(b.V))*8 {
		t.Errorf("%d bytes charged for capacities %d and %d", acct.Used(), cap(b.T), cap(b.V))
	}
	b.AppendFloat(1, 0, 1)
	used := acct.Used()
	if err := b.UseST(); err == nil {
		t.Error("a column of start timestamps fits in no bytes")
	}
	err := b.Reserve(1000)
	if ee := (*budget.ExceededError)(nil); !errors.As(err, &ee) || acct.Used() != used || len(b.T) != 1 {
		t.Errorf("error %v, %d bytes charged, %d before", err, acct.Used(), used)
	}
	if b.Charge(1<<20) == nil || acct.Used() != used {
		t.Error("a charge beyond the budget went through")
	}
	if err := b.Charge(40); err != nil || acct.Used() != used+40 {
		t.Errorf("charge: %v, %d bytes", err, acct.Used())
	}
	if b.Reset(); acct.Used() != used {
		t.Errorf("%d bytes charged after Reset, %d for the columns", acct.Used(), used)
	}
	if b.Free(); acct.Used() != 0 || cap(b.T) != 0 || b.Budget != acct {
		t.Errorf("%d bytes charged after Free", acct.Used())
	}
}

func TestReserveChargesEveryColumnInUse(t *testing.T) {
	acct := budget.NewRoot("query", 0)
	b := column.Block{Budget: acct}
	b.AppendHistogram(1, 1, &histogram.Histogram{}, nil)
	if err := b.Reserve(1000); err != nil {
		t.Fatal(err)
	}
	if used := acct.Used(); used < 990*(8+8+8+1+8+8) {
		t.Errorf("%d bytes charged for 1000 rows of six columns", used)
	}
	for name, room := range map[string]int{
		"T": cap(b.T), "V": cap(b.V), "ST": cap(b.ST), "Kind": cap(b.Kind), "Int": cap(b.H.Int), "Float": cap(b.H.Float),
	} {
		if room < 1001 {
			t.Errorf("column %s has room for %d rows", name, room)
		}
	}
}

func TestUseSTAddsTheColumn(t *testing.T) {
	acct := budget.NewRoot("query", 0)
	b := column.Block{Budget: acct}
	b.AppendFloat(1, 0, 1)
	b.AppendFloat(2, 0, 1)
	for range 2 {
		if err := b.UseST(); err != nil {
			t.Fatal(err)
		}
	}
	checkColumns(t, &b, 2)
	if len(b.ST) != 2 || acct.Used() != int64(cap(b.ST))*8 {
		t.Errorf("%d start timestamps, %d bytes charged for %d", len(b.ST), acct.Used(), cap(b.ST))
	}
}

func TestSeriesSetLabelsLeaveOutWhatARowLacks(t *testing.T) {
	s := column.SeriesSet{
		N: 2, Names: []string{"__name__", "job"}, Syms: [][]uint32{{1, 1}, {0, 2}}, Text: []string{"", "up", "node"},
	}
	var sb labels.ScratchBuilder
	check := func(row uint32, want labels.Labels) {
		t.Helper()
		if got := s.Labels(row, &sb); !labels.Equal(got, want) {
			t.Errorf("row %d: %v, want %v", row, got, want)
		}
	}
	check(0, labels.FromStrings("__name__", "up"))
	check(1, labels.FromStrings("__name__", "up", "job", "node"))
	check(0, labels.FromStrings("__name__", "up"))
}

func BenchmarkEndSeries(b *testing.B) {
	const series, rows = 100, 480
	var blk column.Block
	for i := range series * rows {
		blk.T, blk.V = append(blk.T, int64(i)), append(blk.V, float64(i))
	}
	for b.Loop() {
		blk.Off, blk.Shape = blk.Off[:0], blk.Shape[:0]
		t := blk.T
		for i := range series {
			blk.T = t[:(i+1)*rows]
			blk.V = blk.V[:(i+1)*rows]
			blk.EndSeries()
		}
		blk.T, blk.V = t, blk.V[:len(t)]
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series*rows), "ns/row")
}
