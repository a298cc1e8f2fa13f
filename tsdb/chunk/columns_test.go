// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/encoding"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// encodeColumns makes the page of rows; nil where they cannot be columns.
func encodeColumns(rows []row) []byte {
	var e chunk.ColumnEncoder
	page, ok := e.Append(nil, &encoding.Encoder{}, blockOf(rows), 0, len(rows))
	if !ok {
		return nil
	}
	return page
}

func timesOf(rows []row) []int64 {
	t := make([]int64, len(rows))
	for i, r := range rows {
		t[i] = r.t
	}
	return t
}

// latencies makes n rows of latency histograms as clients make them: buckets appear as they are first needed, the process
// starts anew now and then, and where it does its last sample is followed by a stale marker.
func latencies(r *rand.Rand, n int, float bool) []row {
	const schema = 3
	counts := map[int]int64{}
	var count, zero uint64
	sum, center := 0.0, r.NormFloat64()*10-20
	rows := make([]row, 0, n)
	at := r.Int64N(1 << 40)
	for i := range n {
		at += 15_000 + int64(r.IntN(7)-3)
		hint := histogram.UnknownCounterReset
		if i > 0 && r.IntN(150) == 0 {
			clear(counts)
			count, zero, sum, hint = 0, 0, 0, histogram.CounterReset
		}
		for range r.IntN(200) {
			k := int(center + r.NormFloat64()*6)
			counts[k]++
			count++
			sum += math.Exp2(float64(k)/8) * (1 - r.Float64()/12)
		}
		if r.IntN(3) == 0 {
			zero++
			count++
		}
		center += r.NormFloat64() / 20
		h := fromCounts(counts)
		h.Schema, h.ZeroThreshold, h.CounterResetHint = schema, 0x1p-128, hint
		h.Count, h.ZeroCount, h.Sum = count, zero, sum
		x := row{t: at, h: h}
		if r.IntN(200) == 0 {
			x.h = &histogram.Histogram{Sum: staleSum}
		}
		if float {
			x.h, x.fh = nil, x.h.ToFloat(nil)
		}
		rows = append(rows, x)
	}
	return rows
}

// fromCounts returns a histogram that has the positive buckets of counts.
func fromCounts(counts map[int]int64) *histogram.Histogram {
	h := &histogram.Histogram{}
	keys := make([]int, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	next, last := 0, int64(0)
	for i, k := range keys {
		if i == 0 || k != next {
			h.PositiveSpans = append(h.PositiveSpans, histogram.Span{Offset: int32(k - next)})
		}
		h.PositiveSpans[len(h.PositiveSpans)-1].Length++
		h.PositiveBuckets = append(h.PositiveBuckets, counts[k]-last)
		next, last = k+1, counts[k]
	}
	return h
}

// checkColumns decodes rows of a page in some ranges.
func checkColumns(t *testing.T, r *rand.Rand, b *column.Block, page []byte, rows []row) {
	t.Helper()
	times := timesOf(rows)
	for i := range 4 {
		from, to := 0, len(rows)
		if i > 0 {
			from = r.IntN(len(rows))
			to = from + r.IntN(len(rows)-from+1)
		}
		b.Reset()
		if err := chunk.DecodeColumns(page, len(rows), from, times[from:to], b); err != nil {
			t.Fatalf("rows %d to %d of %d: %v", from, to, len(rows), err)
		}
		// The stream of both, which is quick to compare, holds every bit.
		if !slices.Equal(encodeHistograms(rowsOf(b)), encodeHistograms(rows[from:to])) {
			checkRows(t, b, slices.Clone(rows[from:to]))
			t.Fatalf("rows %d to %d of %d are others", from, to, len(rows))
		}
	}
}

func TestColumnsOfHistogramsComeBackBitForBit(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 52))
	var b column.Block // one for all
	odd := 0
	for i := range 150 {
		float := i%3 == 0
		rows := latencies(r, 1+r.IntN(300), float)
		if i%2 == 0 {
			rows = randomHistograms(r, 1+r.IntN(60), float)
		}
		if i%5 == 0 {
			rows = append(rows, latencies(r, 1+r.IntN(20), !float)...)
		}
		page := encodeColumns(rows)
		if page == nil {
			odd++
			continue
		}
		checkColumns(t, r, &b, page, rows)
	}
	if odd > 75 {
		t.Errorf("%d of 150 could not be columns", odd)
	}
}

// The floats that integer histograms are asked for as are those that Histogram.ToFloat makes, also of counts that no
// float holds.
func TestColumnsAsFloatsAreWhatToFloatMakes(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 54))
	for i := range 100 {
		rows := latencies(r, 1+r.IntN(400), false)
		for _, x := range rows {
			if i%5 == 0 && !value.IsStaleNaN(x.h.Sum) {
				x.h.Schema, x.h.CustomValues = histogram.CustomBucketsSchema, []float64{1, 2}
			}
		}
		if i%2 == 0 {
			big := int64(1)<<(50+r.IntN(13)) + r.Int64N(1000)
			for _, x := range rows[r.IntN(len(rows)):] {
				if len(x.h.PositiveBuckets) > 0 {
					x.h.PositiveBuckets[0] += big
				}
			}
		}
		want := make([]row, len(rows))
		for i, x := range rows {
			want[i] = row{t: x.t, fh: x.h.ToFloat(nil)}
		}
		page := encodeColumns(rows)
		for range 3 {
			from := r.IntN(len(rows))
			var b column.Block
			b.AppendFloat(-1, 0, 1)
			b.Want(column.Need{Float: true})
			if err := chunk.DecodeColumns(page, len(rows), from, timesOf(rows[from:]), &b); err != nil {
				t.Fatal(err)
			}
			if b.T[0] != -1 || !slices.Equal(encodeHistograms(rowsOf(&b)[1:]), encodeHistograms(want[from:])) {
				checkRows(t, &b, append([]row{{t: -1, v: 1}}, want[from:]...))
				t.Fatalf("rows from %d on are others", from)
			}
			if b.Kind[0] != sample.Float || slices.ContainsFunc(b.Kind[1:], func(k sample.Kind) bool { return k != sample.Histogram }) {
				t.Fatalf("kinds %v", b.Kind)
			}
		}
	}
}

func TestHistogramsThatAreNoColumnsAreRefused(t *testing.T) {
	check := func(what string, h *histogram.Histogram) {
		t.Helper()
		if encodeColumns([]row{{t: 1, h: goldenHistogram()}, {t: 2, h: h}}) != nil {
			t.Errorf("%s: is made columns of", what)
		}
	}
	spans := func(n int, s ...histogram.Span) *histogram.Histogram {
		return &histogram.Histogram{Schema: 3, PositiveSpans: s, PositiveBuckets: make([]int64, n)}
	}
	check("fewer buckets than spans say", spans(1, histogram.Span{Length: 2}))
	check("more buckets than spans say", spans(3, histogram.Span{Length: 2}))
	check("spans that descend", spans(2, histogram.Span{Length: 1}, histogram.Span{Offset: -1, Length: 1}))
	check("an index beyond all", spans(2, histogram.Span{Offset: math.MaxInt32, Length: 2}))
}

func TestDecodingColumnsChargesTheBudget(t *testing.T) {
	rows := latencies(rand.New(rand.NewPCG(55, 56)), 200, false)
	page := encodeColumns(rows)
	for limit := int64(1000); ; limit *= 2 { // until it is enough
		acct := budget.NewRoot("query", limit)
		b := column.Block{Budget: acct}
		err := chunk.DecodeColumns(page, len(rows), 0, timesOf(rows), &b)
		if err == nil {
			used := acct.Used()
			b.Reset()
			if used < 200*200 || acct.Used() < 200*8 {
				t.Errorf("%d bytes charged, %d of them for the decoder", used, acct.Used())
			}
			b.Free()
			break
		}
		if ee := (*budget.ExceededError)(nil); !errors.As(err, &ee) || len(b.T) != 0 {
			t.Fatalf("error %v with %d rows, want a refusal", err, len(b.T))
		}
		if b.Free(); acct.Used() != 0 {
			t.Errorf("%d bytes charged after Free", acct.Used())
		}
	}
}

func TestDamagedColumnsAreErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(57, 58))
	rows := latencies(r, 15, false)
	page, times := encodeColumns(rows), timesOf(rows)
	check := func(page []byte) {
		t.Helper()
		b := column.Block{Budget: budget.NewRoot("query", 64<<20)}
		err := chunk.DecodeColumns(page, len(rows), 0, times, &b)
		var bad *chunk.CorruptError
		if err != nil && (!errors.As(err, &bad) || len(b.T) != 0) {
			t.Fatalf("error %v with %d rows", err, len(b.T))
		}
		if err == nil && len(b.T) != len(rows) {
			t.Fatalf("%d rows", len(b.T))
		}
	}
	for i := range page {
		var b column.Block
		if err := chunk.DecodeColumns(page[:i], len(rows), 0, times, &b); err == nil {
			t.Fatalf("a page cut at byte %d of %d is read", i, len(page))
		}
		bad := slices.Clone(page)
		bad[i] ^= 1 << r.IntN(8)
		check(bad)
	}
}

func FuzzDecodeColumns(f *testing.F) {
	r := rand.New(rand.NewPCG(59, 60))
	for i := range 10 {
		rows := latencies(r, 10+20*i, i%2 == 0)
		f.Add(encodeColumns(rows), uint16(len(rows)), uint16(i), uint16(10*i))
	}
	f.Fuzz(func(t *testing.T, in []byte, n, from, wanted uint16) {
		if n > 512 || int(from)+int(wanted) > int(n) {
			return
		}
		times := make([]int64, wanted)
		for i := range times {
			times[i] = int64(i)
		}
		b := column.Block{Budget: budget.NewRoot("query", 64<<20)}
		if err := chunk.DecodeColumns(slices.Clip(in), int(n), int(from), times, &b); err != nil {
			if len(b.T) != 0 {
				t.Fatalf("%d rows beside error %v", len(b.T), err)
			}
			return
		}
		if len(b.T) != int(wanted) {
			t.Fatalf("%d rows of %d", len(b.T), wanted)
		}
		if rows := rowsOf(&b); wanted > 0 {
			if page := encodeColumns(rows); page != nil {
				checkColumns(t, r, &b, page, rows)
			}
		}
	})
}
