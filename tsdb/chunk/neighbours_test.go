// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// flagsOf returns the flags of the first run of a page.
func flagsOf(page []byte) byte {
	_, n := binary.Uvarint(page)
	return page[n]
}

const (
	flagSteady     = 2
	flagNeighbours = 4
)

// bursts makes rows of a service whose load goes up and down a lot, so that its buckets grow by much the same.
func bursts(r *rand.Rand, n int) []row {
	counts := make([]int64, 2+r.IntN(20))
	rows := make([]row, n)
	for i := range rows {
		load := 1000 * math.Exp(r.NormFloat64())
		h := &histogram.Histogram{
			Schema: 3, ZeroThreshold: 0x1p-128, Sum: float64(i),
			PositiveSpans: []histogram.Span{{Offset: 3, Length: uint32(len(counts))}},
		}
		last := int64(0)
		for k := range counts {
			counts[k] += int64(load * (1 + r.Float64()/100))
			h.Count += uint64(counts[k])
			h.PositiveBuckets = append(h.PositiveBuckets, counts[k]-last)
			last = counts[k]
		}
		if r.IntN(3) == 0 {
			h.Count += uint64(i) // observations that are no number are in no bucket
		}
		rows[i] = row{t: int64(i) * 15_000, h: h}
	}
	return rows
}

func TestBucketsAreWrittenAsDifferencesToTheirNeighboursWhereThatIsShorter(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 62))
	var b column.Block
	near := 0
	for range 60 {
		rows := bursts(r, 1+r.IntN(300))
		page := encodeColumns(rows)
		if flagsOf(page)&flagNeighbours != 0 {
			near++
		}
		checkColumns(t, r, &b, page, rows)
		checkColumnsAsFloats(t, r, page, rows)
	}
	if near < 50 {
		t.Errorf("%d of 60 pages have neighbours", near)
	}
}

// checkColumnsAsFloats decodes rows of a page as float histograms.
func checkColumnsAsFloats(t *testing.T, r *rand.Rand, page []byte, rows []row) {
	t.Helper()
	from := r.IntN(len(rows))
	to := from + r.IntN(len(rows)-from+1)
	var b column.Block
	b.Want(column.Need{Float: true})
	if err := chunk.DecodeColumns(page, len(rows), from, timesOf(rows[from:to]), &b); err != nil {
		t.Fatal(err)
	}
	want := make([]row, to-from)
	for i, x := range rows[from:to] {
		want[i] = row{t: x.t, fh: x.h.ToFloat(nil)}
	}
	if !slices.Equal(encodeHistograms(rowsOf(&b)), encodeHistograms(want)) {
		t.Fatalf("rows %d to %d of %d are others as floats", from, to, len(rows))
	}
}

// disturb makes a counter of rows something else at one of them, or not.
func disturb(r *rand.Rand, rows []row) {
	x := &rows[r.IntN(len(rows))]
	if x.h != nil && len(x.h.PositiveBuckets) > 0 {
		switch r.IntN(8) {
		case 0:
			x.h.CounterResetHint = histogram.GaugeType
		case 1:
			x.h.CounterResetHint = histogram.CounterReset
		case 2:
			x.h.PositiveBuckets[0] -= 1 + r.Int64N(1000)
		case 3:
			x.h.PositiveBuckets[len(x.h.PositiveBuckets)-1] += 1 + r.Int64N(1<<60)
		case 4:
			x.h.Count = 0
		case 5:
			x.h.Sum = staleSum
		}
	}
	if x.fh != nil && len(x.fh.PositiveBuckets) > 0 {
		switch r.IntN(6) {
		case 0:
			x.fh.CounterResetHint = histogram.GaugeType
		case 1:
			x.fh.PositiveBuckets[0] = math.NaN()
		case 2:
			x.fh.PositiveBuckets[0]--
		case 3:
			x.fh.ZeroCount = -1
		}
	}
}

// What a run says of itself is what a look at its buckets says.
func TestSteadyRunsGiveTheHintsThatTheirBucketsGive(t *testing.T) {
	r := rand.New(rand.NewPCG(63, 64))
	steady := 0
	for i := range 600 {
		float := i%3 == 0
		rows := latencies(r, 1+r.IntN(60), float)
		if i%2 == 0 {
			disturb(r, rows)
		}
		page := encodeColumns(rows)
		if page == nil {
			continue
		}
		if flagsOf(page)&flagSteady != 0 {
			steady++
		}
		from := r.IntN(len(rows))
		to := from + r.IntN(len(rows)-from+1)
		for _, n := range []column.Need{{}, {Float: true}} {
			got := hintsOf(t, n, page, rows, from, to, false)
			if want := hintsOf(t, n, page, rows, from, to, true); !slices.Equal(got, want) {
				t.Fatalf("rows %d to %d of %d, float %t: hints %v, want %v", from, to, len(rows), n.Float, got, want)
			}
		}
	}
	if steady < 200 || steady > 500 {
		t.Errorf("%d of 600 runs are steady", steady)
	}
}

// hintsOf returns the hints that rows of a page have for who reads them, behind a row that they may continue.
func hintsOf(t *testing.T, n column.Need, page []byte, rows []row, from, to int, forget bool) (hints []histogram.CounterResetHint) {
	t.Helper()
	var b column.Block
	b.Want(n)
	first := rows[0]
	if first.h != nil {
		b.AppendHistogram(-1, 0, first.h.Copy(), nil)
	} else {
		b.AppendHistogram(-1, 0, nil, first.fh.Copy())
	}
	if err := chunk.DecodeColumns(page, len(rows), from, timesOf(rows[from:to]), &b); err != nil {
		t.Fatal(err)
	}
	if forget {
		b.Moved(0)
	}
	b.EndSeries()
	column.SetHints(&b)
	for i := range b.T {
		if h := b.H.Float[i]; h != nil {
			hints = append(hints, h.CounterResetHint)
		} else {
			hints = append(hints, b.H.Int[i].CounterResetHint)
		}
	}
	return hints
}

// Counts, sums and hints are the same whether buckets are read for them or not, before and behind other rows.
func TestColumnsWithoutTheirBucketsTellTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(65, 66))
	read := func(page []byte, rows []row, from, to int, whole bool) *column.Block {
		var b column.Block
		b.Want(column.Need{HistStats: true})
		if whole {
			b.WantWhole()
		}
		before, behind := rows[0], rows[len(rows)-1]
		if from > 0 {
			b.AppendHistogram(-1, 0, cloneInt(before.h), cloneFloat(before.fh))
		}
		if err := chunk.DecodeColumns(page, len(rows), from, timesOf(rows[from:to]), &b); err != nil {
			t.Fatal(err)
		}
		if to == len(rows) {
			b.AppendHistogram(behind.t+1, 0, cloneInt(behind.h), cloneFloat(behind.fh))
		}
		b.EndSeries()
		return &b
	}
	for i := range 400 {
		var rows []row
		if i%2 == 0 {
			rows = bursts(r, 1+r.IntN(60))
		} else {
			rows = latencies(r, 1+r.IntN(60), i%3 == 0)
		}
		page := encodeColumns(rows)
		if page == nil {
			continue
		}
		from := r.IntN(len(rows)) * r.IntN(2)
		to := len(rows)
		if i%4 > 1 {
			to = from + r.IntN(len(rows)-from+1)
		}
		got, want := read(page, rows, from, to, false), read(page, rows, from, to, true)
		if !slices.Equal(encodeHistograms(rowsOf(got)), encodeHistograms(rowsOf(want))) || !slices.Equal(got.H.Stored, want.H.Stored) {
			checkRows(t, got, rowsOf(want))
			t.Fatalf("rows %d to %d of %d: stored hints %v, want %v", from, to, len(rows), got.H.Stored, want.H.Stored)
		}
	}
}

func cloneInt(h *histogram.Histogram) *histogram.Histogram {
	if h == nil {
		return nil
	}
	return h.Copy()
}

func cloneFloat(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	if h == nil {
		return nil
	}
	return h.Copy()
}
