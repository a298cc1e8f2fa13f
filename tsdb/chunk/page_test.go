// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// randomRows makes n rows: runs of every kind, some with start timestamps.
func randomRows(r *rand.Rand, n int) []row {
	rows := make([]row, 0, n)
	at := r.Int64N(1<<41) - 1<<40
	for len(rows) < n {
		withST := r.IntN(2) == 0
		st := at
		kind := r.IntN(3)
		for range 1 + r.IntN(30) {
			x := row{t: at}
			if kind == 0 {
				x.v = oddValues[r.IntN(len(oddValues))]
			} else {
				x.h, x.fh = randomHistogram(r, kind == 2)
			}
			if withST {
				switch r.IntN(8) {
				case 0:
					st = at
				case 1:
					st = 0
				}
				x.st = st
			}
			rows = append(rows, x)
			at += 1 + r.Int64N(1<<r.IntN(24))
		}
	}
	return rows[:n]
}

func TestPagesComeBackBitForBit(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 52))
	for range 100 {
		rows := randomRows(r, 1+r.IntN(100))
		src := blockOf(rows)
		from := r.IntN(len(rows))
		to := from + r.IntN(len(rows)-from) + 1
		prefix := []byte("before")
		page := chunk.EncodePage(prefix, src, from, to)
		if string(page[:6]) != "before" {
			t.Fatal("EncodePage changed what was there")
		}
		page = page[6:]
		if n, err := chunk.PageRows(page); n != to-from || err != nil {
			t.Fatalf("PageRows = %d, %v, want %d", n, err, to-from)
		}
		var b column.Block
		if err := chunk.DecodePage(page, math.MinInt64, math.MaxInt64, true, &b); err != nil {
			t.Fatal(err)
		}
		checkRows(t, &b, rows[from:to])

		mint, maxt := rows[from+(to-from)/3].t, rows[from+(to-from)*2/3].t-1
		var want []row
		for _, x := range rows[from:to] {
			if mint <= x.t && x.t <= maxt {
				x.st = 0
				want = append(want, x)
			}
		}
		b.Reset()
		if err := chunk.DecodePage(page, mint, maxt, false, &b); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = []row{}
		}
		checkRows(t, &b, want)
	}
}

func TestPageWithoutRowsIsEmpty(t *testing.T) {
	if p := chunk.EncodePage(nil, blockOf([]row{{t: 1}}), 1, 1); len(p) != 0 {
		t.Errorf("page %x", p)
	}
	var b column.Block
	if err := chunk.DecodePage(nil, 0, 10, true, &b); err != nil || len(b.T) != 0 {
		t.Errorf("%d rows, %v", len(b.T), err)
	}
}

// A page of a slot's 480 floats may cost 12 bytes more than the samples' bits.
func TestPageOfFloatsCostsLittleMoreThanItsStream(t *testing.T) {
	r := rand.New(rand.NewPCG(53, 54))
	for _, s := range fleet {
		ts, vs := s.samples(r, 480, 3)
		var b column.Block
		for i, at := range ts {
			b.AppendFloat(at, 0, vs[i])
		}
		page, stream := chunk.EncodePage(nil, &b, 0, 480), encodeFloats(ts, vs)
		if extra := len(page) - len(stream); extra > 12 {
			t.Errorf("%s: page of %d bytes for a stream of %d", s.name, len(page), len(stream))
		}
	}
}

func TestChunkDecodesWithStartTimestamps(t *testing.T) {
	r := rand.New(rand.NewPCG(55, 56))
	for range 200 {
		n := 1 + r.IntN(60)
		starts := make([]int64, n)
		for i := range starts {
			switch {
			case i > 0 && r.IntN(5) > 0:
				starts[i] = starts[i-1]
			case r.IntN(3) > 0:
				starts[i] = r.Int64() - r.Int64()
			}
		}
		c := chunk.Chunk{N: n}
		var st chunk.STState
		var fs chunk.FloatState
		for i, s := range starts {
			before := len(c.ST)
			if c.ST = chunk.AppendST(c.ST, &st, i, s); len(c.ST)-before > chunk.MaxSTBytes {
				t.Fatalf("%d bytes for one start timestamp", len(c.ST)-before)
			}
			c.Data = chunk.AppendFloat(c.Data, i, &fs, int64(i), 1)
		}
		// Any prefix, any range.
		c.N = 1 + r.IntN(n)
		mint, maxt := int64(r.IntN(n)), int64(r.IntN(n))
		var b column.Block
		b.AppendFloat(-9, 5, 0) // rows that are there already stay
		if err := c.Decode(mint, maxt, true, &b); err != nil {
			t.Fatal(err)
		}
		want := []int64{5}
		for i := mint; i <= min(maxt, int64(c.N-1)); i++ {
			want = append(want, starts[i])
		}
		for i, w := range want {
			if b.STAt(i) != w {
				t.Fatalf("starts %v, want %v (of %v)", b.ST, want, starts)
			}
		}
		if len(b.T) != len(want) || len(b.ST) != len(want) {
			t.Fatalf("%d rows, %d starts, want %d", len(b.T), len(b.ST), len(want))
		}
	}
}

func TestStartTimestampsCostNearlyNothing(t *testing.T) {
	check := func(name string, most int, start func(i int) int64) {
		t.Helper()
		var buf []byte
		var st chunk.STState
		for i := range 480 {
			buf = chunk.AppendST(buf, &st, i, start(i))
		}
		if len(buf) > most {
			t.Errorf("%s: %d bytes for 480 samples", name, len(buf))
		}
	}
	check("none", 0, func(int) int64 { return 0 })
	check("constant", 8, func(int) int64 { return 1_760_000_000_000 })
	check("one restart", 14, func(i int) int64 { return 1_760_000_000_000 + int64(i/300)*1234567 })
	check("delta temporality", 500, func(i int) int64 { return 1_760_000_000_000 + int64(i)*15000 })
}

// damage checks that a page is refused and leaves the block alone.
func damage(tb testing.TB, page []byte, msg string, off int) {
	tb.Helper()
	var b column.Block
	b.AppendFloat(1, 2, 3)
	err := chunk.DecodePage(page, math.MinInt64, math.MaxInt64, true, &b)
	var ce *chunk.CorruptError
	if !errors.As(err, &ce) || ce.Msg != msg || ce.Off != off || len(b.T) != 1 {
		tb.Errorf("error %v with %d rows, want %q at %d", err, len(b.T), msg, off)
	}
}

func TestDamagedPagesAreErrors(t *testing.T) {
	floats := func(ts ...int64) []byte {
		var b column.Block
		for _, at := range ts {
			b.AppendFloat(at, 0, 1)
		}
		return chunk.EncodePage(nil, &b, 0, len(ts))
	}
	good := floats(1, 2, 3)
	damage(t, append([]byte{0}, good[1:]...), "unknown codec", 1)
	damage(t, append([]byte{0x7f}, good[1:]...), "unknown codec", 1)
	damage(t, []byte{1, 0, 0}, "number of rows out of range", 2)
	damage(t, []byte{1, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}, "number of rows out of range", 6)
	damage(t, []byte{1, 1, 5, 0}, "more entries than bytes", 3)
	damage(t, []byte{1}, "malformed number", 1)
	damage(t, []byte{1, 1, 2, 0, 0}, "first sample is cut short", 5)
	damage(t, append(floats(5), floats(5)...), "time does not ascend from run to run", 15)
	damage(t, []byte{1, 100, 3, 0, 0, 0}, "more samples than the bytes can hold", 6)
	h := encodeHistograms([]row{{t: 1, h: goldenHistogram()}})
	damage(t, append([]byte{3, 1, byte(len(h))}, h...), "histograms of another kind than the chunk's", 3)
	st := append(slices.Clone(good), 2, 0, 0)
	st[0] |= 0x80
	damage(t, st, "start timestamps out of order", len(st)-1)
	for cut := 1; cut < len(good); cut++ {
		var b column.Block
		if err := chunk.DecodePage(good[:cut], math.MinInt64, math.MaxInt64, true, &b); err == nil {
			t.Errorf("page cut at %d decodes", cut)
		}
	}
}

func FuzzDecodePage(f *testing.F) {
	r := rand.New(rand.NewPCG(57, 58))
	for range 20 {
		src := blockOf(randomRows(r, 30))
		f.Add(chunk.EncodePage(nil, src, 0, 30), int64(math.MinInt64), int64(math.MaxInt64))
	}
	f.Fuzz(func(t *testing.T, in []byte, mint, maxt int64) {
		b := column.Block{Budget: budget.NewRoot("query", 64<<20)}
		if _, err := chunk.PageRows(in); err != nil {
			if chunk.DecodePage(in, math.MinInt64, math.MaxInt64, true, &b) == nil {
				t.Fatalf("a page decodes whose frames do not: %v", err)
			}
			return
		}
		if err := chunk.DecodePage(slices.Clip(in), mint, maxt, true, &b); err != nil {
			if len(b.T) != 0 {
				t.Fatalf("%d rows beside error %v", len(b.T), err)
			}
			return
		}
		rows := rowsOf(&b)
		for i, x := range rows {
			if x.t < mint || x.t > maxt || i > 0 && x.t <= rows[i-1].t {
				t.Fatalf("times %v in [%d, %d]", b.T, mint, maxt)
			}
		}
		var again column.Block
		page := chunk.EncodePage(nil, &b, 0, len(b.T))
		if err := chunk.DecodePage(page, math.MinInt64, math.MaxInt64, true, &again); err != nil {
			t.Fatal(err)
		}
		checkRows(t, &again, rows)
	})
}

func BenchmarkPage(b *testing.B) {
	r := rand.New(rand.NewPCG(59, 60))
	var src column.Block
	for _, s := range fleet {
		for range s.part {
			ts, vs := s.samples(r, 480, 0)
			for i, at := range ts {
				src.AppendFloat(at, 0, vs[i])
			}
			src.EndSeries()
		}
	}
	pages := make([][]byte, src.Series())
	for i := range pages {
		from, to := src.Rows(i)
		pages[i] = chunk.EncodePage(nil, &src, from, to)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i := range pages {
				from, to := src.Rows(i)
				pages[i] = chunk.EncodePage(pages[i][:0], &src, from, to)
			}
		}
		size := 0
		for _, p := range pages {
			size += len(p)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(src.T)), "ns/sample")
		b.ReportMetric(float64(size)/float64(len(src.T)), "B/sample")
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		var dst column.Block
		for b.Loop() {
			dst.Reset()
			for _, p := range pages {
				if err := chunk.DecodePage(p, math.MinInt64, math.MaxInt64, false, &dst); err != nil {
					b.Fatal(err)
				}
				dst.EndSeries()
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(src.T)), "ns/sample")
	})
}
