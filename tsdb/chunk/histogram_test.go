// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// exactly compares floats by their bits; nil and empty slices are the same.
var exactly = cmp.Options{
	cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }),
	cmpopts.EquateEmpty(),
}

// row is one sample of any kind.
type row struct {
	t, st int64
	v     float64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
}

func (r row) kind() sample.Kind {
	switch {
	case r.h != nil:
		return sample.Histogram
	case r.fh != nil:
		return sample.FloatHistogram
	}
	return sample.Float
}

// blockOf puts rows into a block.
func blockOf(rows []row) *column.Block {
	var b column.Block
	for _, r := range rows {
		if r.kind() == sample.Float {
			b.AppendFloat(r.t, r.st, r.v)
			continue
		}
		b.AppendHistogram(r.t, r.st, r.h, r.fh)
	}
	return &b
}

// rowsOf reads a block back.
func rowsOf(b *column.Block) []row {
	rows := make([]row, len(b.T))
	for i, t := range b.T {
		rows[i] = row{t: t, st: b.STAt(i), v: b.V[i]}
		if b.KindAt(i) != sample.Float {
			rows[i].h, rows[i].fh = b.H.Int[i], b.H.Float[i]
		}
	}
	return rows
}

func checkRows(tb testing.TB, b *column.Block, want []row) {
	tb.Helper()
	if diff := cmp.Diff(want, rowsOf(b), exactly, cmp.AllowUnexported(row{})); diff != "" {
		tb.Fatalf("rows (-want +got):\n%s", diff)
	}
}

func encodeHistograms(rows []row) []byte {
	var enc chunk.HistEncoder
	var buf []byte
	for _, r := range rows {
		buf = enc.Append(buf, r.t, r.h, r.fh)
	}
	return buf
}

var staleSum = math.Float64frombits(value.StaleNaN)

// randomHistogram makes a histogram, valid or not, of a few layouts.
func randomHistogram(r *rand.Rand, float bool) (*histogram.Histogram, *histogram.FloatHistogram) {
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(r.IntN(4)), Sum: oddValues[r.IntN(len(oddValues))],
		Count: r.Uint64() >> r.IntN(64), ZeroCount: r.Uint64() >> r.IntN(64), ZeroThreshold: 1e-128, Schema: int32(r.IntN(12) - 4),
	}
	side := func(n int) (spans []histogram.Span, buckets []int64) {
		for range n {
			sp := histogram.Span{Offset: int32(r.IntN(9) - 4), Length: uint32(r.IntN(6))}
			spans = append(spans, sp)
			for range sp.Length {
				buckets = append(buckets, int64(r.Uint64()>>r.IntN(64))*int64(1-2*r.IntN(2)))
			}
		}
		return spans, buckets
	}
	h.PositiveSpans, h.PositiveBuckets = side(r.IntN(3))
	h.NegativeSpans, h.NegativeBuckets = side(r.IntN(2))
	switch r.IntN(4) {
	case 0:
		h.Schema, h.CustomValues = histogram.CustomBucketsSchema, []float64{0.1, 1, 2.5, math.Inf(1)}[:r.IntN(5)]
	case 1:
		*h = histogram.Histogram{Sum: staleSum}
	}
	if !float {
		return h, nil
	}
	fh := h.ToFloat(nil)
	fh.CustomValues, fh.ZeroThreshold = h.CustomValues, h.ZeroThreshold
	for i := range fh.PositiveBuckets {
		fh.PositiveBuckets[i] = oddValues[r.IntN(len(oddValues))]
	}
	return nil, fh
}

// randomHistograms makes n samples whose layout changes now and then.
func randomHistograms(r *rand.Rand, n int, float bool) []row {
	rows := make([]row, 0, n)
	at := r.Int64N(1 << 40)
	var h *histogram.Histogram
	var fh *histogram.FloatHistogram
	for i := range n {
		switch {
		case i == 0 || r.IntN(4) == 0:
			h, fh = randomHistogram(r, float)
		case h != nil:
			h = h.Copy()
			h.Count += uint64(r.IntN(50))
			for i := range h.PositiveBuckets {
				h.PositiveBuckets[i] += int64(r.IntN(3) * r.IntN(2))
			}
		default:
			fh = fh.Copy()
			fh.Count += float64(r.IntN(50))
			for i := range fh.PositiveBuckets {
				fh.PositiveBuckets[i] += float64(r.IntN(3) * r.IntN(2))
			}
		}
		rows = append(rows, row{t: at, h: h, fh: fh})
		at += 15000 + int64(r.IntN(3)*r.IntN(5))
	}
	return rows
}

func TestHistogramsComeBackBitForBit(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for range 200 {
		rows := randomHistograms(r, 1+r.IntN(60), r.IntN(2) == 0)
		var b column.Block
		if err := chunk.DecodeHistograms(encodeHistograms(rows), len(rows), math.MinInt64, math.MaxInt64, &b); err != nil {
			t.Fatal(err)
		}
		checkRows(t, &b, rows)
	}
}

func TestHistogramStreamMayChangeItsKind(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	var rows []row
	for i := range 100 {
		h, fh := randomHistogram(r, i%3 == 0)
		rows = append(rows, row{t: int64(i), h: h, fh: fh})
	}
	var b column.Block
	if err := chunk.DecodeHistograms(encodeHistograms(rows), len(rows), math.MinInt64, math.MaxInt64, &b); err != nil {
		t.Fatal(err)
	}
	checkRows(t, &b, rows)
}

func TestHistogramPrefixesAndRanges(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 36))
	rows := randomHistograms(r, 40, false)
	stream := encodeHistograms(rows)
	check := func(n int, mint, maxt int64, want []row) {
		t.Helper()
		var b column.Block
		if err := chunk.DecodeHistograms(stream, n, mint, maxt, &b); err != nil {
			t.Fatal(err)
		}
		checkRows(t, &b, want)
	}
	for n := range rows {
		check(n, math.MinInt64, math.MaxInt64, rows[:n])
		check(40, rows[n].t, math.MaxInt64, rows[n:])
		check(40, rows[0].t, rows[n].t, rows[:n+1])
	}
	check(40, rows[39].t+1, math.MaxInt64, []row{})
	check(40, math.MinInt64, rows[0].t-1, []row{})
}

func TestHistogramTimesReachBothEnds(t *testing.T) {
	var rows []row
	for _, at := range []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, math.MaxInt64 - 1, math.MaxInt64} {
		rows = append(rows, row{t: at, h: &histogram.Histogram{Count: uint64(at)}})
	}
	var b column.Block
	if err := chunk.DecodeHistograms(encodeHistograms(rows), len(rows), math.MinInt64, math.MaxInt64, &b); err != nil {
		t.Fatal(err)
	}
	checkRows(t, &b, rows)
}

func TestRestoredHistEncoderGoesOnAsIfNeverLeft(t *testing.T) {
	r := rand.New(rand.NewPCG(37, 38))
	for _, float := range []bool{false, true} {
		rows := randomHistograms(r, 50, float)
		want := encodeHistograms(rows)
		for cut := range rows {
			buf := encodeHistograms(rows[:cut])
			enc, err := chunk.RestoreHistEncoder(buf, cut)
			if err != nil {
				t.Fatal(err)
			}
			if enc.Len() != cut || cut > 0 && enc.LastT() != rows[cut-1].t {
				t.Fatalf("restored %d samples up to %d", enc.Len(), enc.LastT())
			}
			for _, row := range rows[cut:] {
				buf = enc.Append(buf, row.t, row.h, row.fh)
			}
			if !slices.Equal(buf, want) {
				t.Fatalf("cut at %d: other bytes", cut)
			}
			enc.Reset()
			if again := enc.Append(nil, rows[0].t, rows[0].h, rows[0].fh); !slices.Equal(again, encodeHistograms(rows[:1])) {
				t.Fatal("an encoder that was reset is not as new")
			}
		}
	}
}

func TestDecodedHistogramsShareNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(39, 40))
	for _, float := range []bool{false, true} {
		rows := randomHistograms(r, 30, float)
		stream := encodeHistograms(rows)
		var b column.Block
		if err := chunk.DecodeHistograms(stream, len(rows), math.MinInt64, math.MaxInt64, &b); err != nil {
			t.Fatal(err)
		}
		for i := range rows[:15] { // spoil the first half as a reader may that compacts in place
			if h := b.H.Int[i]; h != nil {
				spoil(h.PositiveSpans, h.NegativeSpans, h.PositiveBuckets, h.NegativeBuckets)
				_ = append(h.PositiveBuckets, 1, 2, 3)
			} else {
				h := b.H.Float[i]
				spoil(h.PositiveSpans, h.NegativeSpans, h.PositiveBuckets, h.NegativeBuckets)
				_ = append(h.PositiveBuckets, 1, 2, 3)
			}
		}
		var rest column.Block
		for _, x := range rowsOf(&b)[15:] {
			rest.AppendHistogram(x.t, 0, x.h, x.fh)
		}
		checkRows(t, &rest, rows[15:])
	}
}

func spoil[T int64 | float64](pos, neg []histogram.Span, b, c []T) {
	for _, s := range [][]histogram.Span{pos, neg} {
		for i := range s {
			s[i].Offset = 99
		}
	}
	for _, s := range [][]T{b, c} {
		for i := range s {
			s[i] = 99
		}
	}
}

func TestStaleMarkerKeepsTheLayout(t *testing.T) {
	h := goldenHistogram()
	size := func(rows ...row) int { return len(encodeHistograms(rows)) }
	stale := &histogram.Histogram{Sum: staleSum}
	plain := size(row{t: 1, h: h}, row{t: 2, h: h})
	with := size(row{t: 1, h: h}, row{t: 2, h: stale}, row{t: 3, h: h})
	if with-plain > 20 {
		t.Errorf("a stale marker costs %d bytes", with-plain)
	}
}

// A bucket that appears must not make the others start from zero: their counts may be long numbers.
func TestNewBucketCostsLittle(t *testing.T) {
	h := goldenHistogram()
	h.PositiveSpans, h.PositiveBuckets = []histogram.Span{{Offset: 5, Length: 60}}, make([]int64, 60)
	for i := range h.PositiveBuckets {
		h.PositiveBuckets[i] = int64(i%2*2-1) * 1_000_000
	}
	h.PositiveBuckets[0] = 5_000_000
	more := h.Copy()
	more.PositiveSpans = []histogram.Span{{Offset: 3, Length: 1}, {Offset: 1, Length: 60}}
	more.PositiveBuckets = slices.Concat([]int64{1, h.PositiveBuckets[0] - 1}, h.PositiveBuckets[1:])
	one, two := []row{{t: 1, h: h}}, []row{{t: 1, h: h}, {t: 2, h: more}}
	if cost := len(encodeHistograms(two)) - len(encodeHistograms(one)); cost > 40 {
		t.Errorf("a new bucket among 60 costs %d bytes", cost)
	}
	var b column.Block
	if err := chunk.DecodeHistograms(encodeHistograms(two), 2, 0, 10, &b); err != nil {
		t.Fatal(err)
	}
	checkRows(t, &b, two)
}

// Float histograms of whole numbers, which is what most are, cost about what integer ones do.
func TestWholeFloatsCostWhatIntegersDo(t *testing.T) {
	r := rand.New(rand.NewPCG(45, 46))
	var ints, floats []row
	h := goldenHistogram()
	for i := range 120 {
		h = h.Copy()
		h.Count += uint64(r.IntN(20))
		h.PositiveBuckets[r.IntN(5)] += int64(r.IntN(20))
		ints = append(ints, row{t: int64(i), h: h})
		floats = append(floats, row{t: int64(i), fh: h.ToFloat(nil)})
	}
	if a, b := len(encodeHistograms(ints)), len(encodeHistograms(floats)); b > a+a/10 {
		t.Errorf("120 float histograms take %d bytes, as integers %d", b, a)
	}
}

func goldenHistogram() *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 3, ZeroThreshold: 1e-128, ZeroCount: 2, Count: 20, Sum: 18.5, CounterResetHint: histogram.NotCounterReset,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 3}, {Offset: 1, Length: 2}}, PositiveBuckets: []int64{1, 2, -1, 3, 0},
		NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}}, NegativeBuckets: []int64{3},
	}
}

func TestDecodeHistogramsChargesTheBudget(t *testing.T) {
	rows := make([]row, 100)
	for i := range rows {
		rows[i] = row{t: int64(i), h: goldenHistogram()}
	}
	stream := encodeHistograms(rows)
	acct := budget.NewRoot("query", 10_000)
	b := column.Block{Budget: acct}
	b.AppendFloat(-5, 0, 1)
	err := chunk.DecodeHistograms(stream, 100, math.MinInt64, math.MaxInt64, &b)
	if ee := (*budget.ExceededError)(nil); !errors.As(err, &ee) || len(b.T) != 1 {
		t.Fatalf("error %v with %d rows, want a refusal and the one row", err, len(b.T))
	}
	if b.Free(); acct.Used() != 0 {
		t.Errorf("%d bytes charged after Free", acct.Used())
	}
	acct.SetLimit(1 << 20)
	if err := chunk.DecodeHistograms(stream, 100, math.MinInt64, math.MaxInt64, &b); err != nil {
		t.Fatal(err)
	}
	used := acct.Used()
	if used < 100*200 {
		t.Errorf("%d bytes charged for 100 histograms", used)
	}
	if b.Reset(); acct.Used() > used/2 {
		t.Errorf("%d of %d bytes charged after Reset", acct.Used(), used)
	}
}

func TestDamagedHistogramStreamsAreErrors(t *testing.T) {
	stream := encodeHistograms([]row{{t: 1, h: goldenHistogram()}, {t: 2, h: goldenHistogram()}})
	check := func(stream []byte, n int, msg string) {
		t.Helper()
		var b column.Block
		err := chunk.DecodeHistograms(stream, n, math.MinInt64, math.MaxInt64, &b)
		var ce *chunk.CorruptError
		if !errors.As(err, &ce) || ce.Msg != msg || len(b.T) != 0 {
			t.Errorf("error %v with %d rows, want %q", err, len(b.T), msg)
		}
	}
	for cut := range stream {
		var b column.Block
		err := chunk.DecodeHistograms(stream[:cut], 2, math.MinInt64, math.MaxInt64, &b)
		if ce := (*chunk.CorruptError)(nil); !errors.As(err, &ce) {
			t.Fatalf("stream cut at %d: error %v", cut, err)
		}
	}
	check(stream, -1, "more samples than the bytes can hold")
	check(stream, len(stream)+1, "more samples than the bytes can hold")
	check(stream, 3, "cut short")
	check([]byte{0, 0, 0}, 2, "more samples than the bytes can hold")
	check([]byte{0x80, 0, 0, 0}, 1, "unknown flags of a histogram")
	check([]byte{0x18, 0, 0, 0}, 1, "unknown flags of a histogram")
	check([]byte{0x20, 0, 0, 0}, 1, "unknown flags of a histogram")
	check([]byte{0x04, 0, 0, 0, 0}, 1, "kind of histogram changes without a layout")
	check(encodeHistograms([]row{{t: 1, h: goldenHistogram()}, {t: 1, h: goldenHistogram()}}), 2, "time does not ascend")
	none := make([]byte, 12) // schema, threshold, no spans, no custom values
	layout := func(flags byte, rest ...byte) []byte { return slices.Concat([]byte{flags}, none, rest) }
	check(layout(0x08, 17, 0, 0, 0), 1, "more buckets than the bytes can hold")
	check(layout(0x08, 1, 16, 0, 0), 1, "more buckets than the bytes can hold")
	check(layout(0x0c, 0, 0, 0b00_11111_1, 0b11_111_000, 0, 0, 0, 0, 0, 0, 0, 0), 1, "word of more than eight bytes")
	check([]byte{0x00, 0b0_10_00000}, 1, "window of more than 64 bits")
	check([]byte{0x00, 0b0_11_11111, 0}, 1, "window of more than 64 bits")
	check([]byte{0x08, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1, "schema out of range")
	check(append([]byte{0x08}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0), 1, "span out of range")
}

func FuzzDecodeHistograms(f *testing.F) {
	r := rand.New(rand.NewPCG(41, 42))
	for i := range 20 {
		rows := randomHistograms(r, 20, i%2 == 0)
		f.Add(encodeHistograms(rows), uint16(20), int64(math.MinInt64), int64(math.MaxInt64))
	}
	f.Fuzz(func(t *testing.T, in []byte, n uint16, mint, maxt int64) {
		b := column.Block{Budget: budget.NewRoot("query", 64<<20)}
		if err := chunk.DecodeHistograms(slices.Clip(in), int(n), mint, maxt, &b); err != nil {
			if len(b.T) != 0 {
				t.Fatalf("%d rows beside error %v", len(b.T), err)
			}
			return
		}
		rows := rowsOf(&b)
		var again column.Block
		if err := chunk.DecodeHistograms(encodeHistograms(rows), len(rows), math.MinInt64, math.MaxInt64, &again); err != nil {
			t.Fatal(err)
		}
		checkRows(t, &again, rows)
	})
}

// benchHistograms returns 120 histograms of n buckets, a third of which change from one to the next.
func benchHistograms(n int) []row {
	r := rand.New(rand.NewPCG(43, 44))
	rows := make([]row, 120)
	h := &histogram.Histogram{
		Schema: 3, ZeroThreshold: 1e-128, PositiveSpans: []histogram.Span{{Offset: -int32(n) / 2, Length: uint32(n)}},
		PositiveBuckets: make([]int64, n),
	}
	for i := range rows {
		for range n / 3 {
			at := int(math.Abs(r.NormFloat64()*float64(n)/8+float64(n)/2)) % n
			h.PositiveBuckets[at]++
			if at < n-1 {
				h.PositiveBuckets[at+1]--
			}
			h.Count, h.Sum = h.Count+1, h.Sum+r.ExpFloat64()
		}
		rows[i] = row{t: int64(i) * 15000, h: h.Copy()}
	}
	return rows
}

func BenchmarkHistogram(b *testing.B) {
	for _, n := range []int{20, 60} {
		b.Run(fmt.Sprintf("buckets=%d", n), func(b *testing.B) { benchmarkHistogram(b, benchHistograms(n)) })
	}
}

func benchmarkHistogram(b *testing.B, rows []row) {
	stream := encodeHistograms(rows)
	b.Run("append", func(b *testing.B) {
		var enc chunk.HistEncoder
		for b.Loop() {
			enc.Reset()
			buf := stream[:0:0]
			for _, x := range rows {
				buf = enc.Append(buf, x.t, x.h, nil)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/sample")
		b.ReportMetric(float64(len(stream))/120, "B/sample")
	})
	b.Run("decode", func(b *testing.B) {
		var dst column.Block
		for b.Loop() {
			dst.Reset()
			if err := chunk.DecodeHistograms(stream, 120, math.MinInt64, math.MaxInt64, &dst); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/sample")
	})
	for name, need := range map[string]column.Need{"decode_float": {Float: true}, "decode_stats": {HistStats: true}} {
		b.Run(name, func(b *testing.B) {
			var dst column.Block
			b.ReportAllocs()
			for b.Loop() {
				dst.Reset()
				dst.Want(need)
				if err := chunk.DecodeHistograms(stream, 120, math.MinInt64, math.MaxInt64, &dst); err != nil {
					b.Fatal(err)
				}
				dst.EndSeries()
				column.SetHints(&dst)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/sample")
		})
	}
	peer := chunkenc.NewHistogramChunk()
	app, err := peer.Appender()
	if err != nil {
		b.Fatal(err)
	}
	for _, x := range rows {
		if _, _, app, err = app.AppendHistogram(nil, 0, x.t, x.h.Copy(), true); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("decode_peer", func(b *testing.B) {
		var it chunkenc.Iterator
		for b.Loop() {
			it = peer.Iterator(it)
			for it.Next() != chunkenc.ValNone {
				it.AtHistogram(nil)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/sample")
		b.ReportMetric(float64(len(peer.Bytes()))/120, "B/sample")
	})
}
