// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

func encodeFloats(ts []int64, vs []float64) []byte {
	var buf []byte
	var st chunk.FloatState
	for i, t := range ts {
		buf = chunk.AppendFloat(buf, i, &st, t, vs[i])
	}
	return buf
}

// checkFloats fails unless b holds exactly the given samples, bit for bit.
func checkFloats(tb testing.TB, b *column.Block, ts []int64, vs []float64) {
	tb.Helper()
	if !slices.Equal(b.T, ts) {
		tb.Fatalf("times %v, want %v", b.T, ts)
	}
	if len(b.V) != len(vs) {
		tb.Fatalf("%d values, want %d", len(b.V), len(vs))
	}
	for i, v := range vs {
		if got, want := math.Float64bits(b.V[i]), math.Float64bits(v); got != want {
			tb.Fatalf("value %d: bits %#x, want %#x", i, got, want)
		}
	}
}

// checkMarks fails unless the samples behind each mark come out as they went in, also where fewer are read or a range.
func checkMarks(tb testing.TB, stream []byte, ts []int64, vs []float64) {
	tb.Helper()
	var buf []byte
	var st chunk.FloatState
	for i, t := range ts[:min(len(ts), math.MaxUint8)] {
		if m := chunk.MakeMark(&st, ts[0], i, len(buf)); m.Len() > 0 {
			if m.Len() != i || m.LastT(ts[0]) != ts[i-1] {
				tb.Fatalf("mark behind %d samples at %d, want %d at %d", m.Len(), m.LastT(ts[0]), i, ts[i-1])
			}
			for _, to := range []int{i, min(i+1, len(ts)), len(ts)} {
				from := min(i+i%3, to)
				mint, maxt := int64(math.MinInt64), int64(math.MaxInt64)
				if from < to {
					mint, maxt = ts[from], ts[to-1]
				} else {
					from = i
				}
				var b column.Block
				if err := chunk.DecodeFloatsFrom(m, ts[0], stream[m.From():], to-i, mint, maxt, &b); err != nil {
					tb.Fatalf("%d samples behind %d: %v", to-i, i, err)
				}
				checkFloats(tb, &b, ts[from:to], vs[from:to])
			}
		} else if i >= 2 && uint64(ts[i-1]-ts[0]) <= math.MaxUint32 {
			tb.Fatalf("no mark behind %d samples", i)
		}
		buf = chunk.AppendFloat(buf, i, &st, t, vs[i])
	}
}

// checkAgainstPeer holds our codec against Prometheus' in both directions.
func checkAgainstPeer(tb testing.TB, ts []int64, vs []float64) {
	tb.Helper()
	theirs := xorChunk(tb, ts, vs)
	ours := encodeFloats(ts, vs)
	if want := theirs.Bytes()[2:]; !bytes.Equal(ours, want) {
		tb.Fatalf("encoded %x, want %x\ntimes %v\nvalues %v", ours, want, ts, vs)
	}
	var b column.Block
	if err := chunk.DecodeFloats(theirs.Bytes()[2:], len(ts), math.MinInt64, math.MaxInt64, &b); err != nil {
		tb.Fatal(err)
	}
	checkFloats(tb, &b, ts, vs)
	checkMarks(tb, ours, ts, vs)

	var c chunkenc.XORChunk
	c.Reset(append(binary.BigEndian.AppendUint16(nil, uint16(len(ts))), ours...))
	it := c.Iterator(nil)
	for i := range ts {
		if it.Next() != chunkenc.ValFloat {
			tb.Fatalf("peer stops at sample %d: %v", i, it.Err())
		}
		if t, v := it.At(); t != ts[i] || math.Float64bits(v) != math.Float64bits(vs[i]) {
			tb.Fatalf("peer reads sample %d as %d, %v", i, t, v)
		}
	}
}

func TestFloatStreamIsThatOfPrometheus(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range fleet {
		for _, jitter := range []int{0, 3, 5000} {
			for _, n := range []int{1, 2, 3, 120, 480} {
				ts, vs := s.samples(r, n, jitter)
				checkAgainstPeer(t, ts, vs)
			}
		}
	}
}

// oddValues are floats whose bits a careless codec changes.
var oddValues = []float64{
	0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(value.StaleNaN), math.Float64frombits(value.NormalNaN),
	math.Float64frombits(0x7ff0000000000001), math.Float64frombits(0xfff8000000000123), math.Float64frombits(math.MaxUint64),
	math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, 1, -1, 0.1, math.Float64frombits(1),
	math.Float64frombits(1 << 63), math.Float64frombits(1<<63 | 1), math.Float64frombits(1 << 32),
}

func TestFloatsKeepTheirBits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var ts []int64
		var vs []float64
		at := r.Int64N(1<<40) - 1<<39
		for range 1 + r.IntN(60) {
			ts, vs = append(ts, at), append(vs, oddValues[r.IntN(len(oddValues))])
			at += 1 + r.Int64N(1<<r.IntN(40))
		}
		checkAgainstPeer(t, ts, vs)
	}
}

func TestFloatTimesReachBothEnds(t *testing.T) {
	check := func(ts ...int64) {
		t.Helper()
		vs := make([]float64, len(ts))
		for i := range vs {
			vs[i] = oddValues[i%len(oddValues)]
		}
		checkAgainstPeer(t, ts, vs)
	}
	check(math.MinInt64)
	check(math.MaxInt64)
	check(math.MinInt64, math.MaxInt64)
	check(math.MinInt64, 0, math.MaxInt64)
	check(math.MinInt64, math.MinInt64+1, math.MaxInt64-1, math.MaxInt64)
	// Every edge of the classes of time delta changes.
	for _, dod := range []int64{8191, 8192, 8193, 65535, 65536, 65537, 524287, 524288, 524289} {
		check(0, 1e6, 2e6+dod, 3e6+dod)
		check(0, 1e6, 2e6-dod, 3e6-dod, 4e6)
	}
}

func TestDecodeFloatsKeepsToTheRange(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	ts, vs := oneShape(t, "counter").samples(r, 100, 40)
	stream := encodeFloats(ts, vs)
	check := func(mint, maxt int64) {
		t.Helper()
		var b column.Block
		if err := chunk.DecodeFloats(stream, len(ts), mint, maxt, &b); err != nil {
			t.Fatal(err)
		}
		var wantT []int64
		var wantV []float64
		for i, at := range ts {
			if mint <= at && at <= maxt {
				wantT, wantV = append(wantT, at), append(wantV, vs[i])
			}
		}
		checkFloats(t, &b, wantT, wantV)
	}
	check(math.MinInt64, math.MaxInt64)
	check(ts[0], ts[99])
	check(ts[0]+1, ts[99]-1)
	check(ts[40], ts[40])
	check(ts[40]+1, ts[41]-1)
	check(math.MinInt64, ts[0]-1)
	check(ts[99]+1, math.MaxInt64)
	check(10, 5)
}

// A reader that noted n samples may decode them from bytes to which more samples were added since.
func TestAnyPrefixOfALongerStreamDecodes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, s := range fleet {
		ts, vs := s.samples(r, 130, 3)
		stream := encodeFloats(ts, vs)
		for n := range ts {
			var b column.Block
			if err := chunk.DecodeFloats(stream, n, math.MinInt64, math.MaxInt64, &b); err != nil {
				t.Fatal(err)
			}
			checkFloats(t, &b, ts[:n], vs[:n])
		}
	}
}

func TestRestoredFloatStateGoesOnAsIfNeverLeft(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, s := range fleet {
		ts, vs := s.samples(r, 60, 3)
		want := encodeFloats(ts, vs)
		for cut := range ts {
			buf := encodeFloats(ts[:cut], vs[:cut])
			st, err := chunk.RestoreFloatState(buf, cut)
			if err != nil {
				t.Fatal(err)
			}
			if cut > 0 && (st.LastT() != ts[cut-1] || st.LastV() != vs[cut-1]) {
				t.Fatalf("last sample %d %v, want %d %v", st.LastT(), st.LastV(), ts[cut-1], vs[cut-1])
			}
			// The same off the stream that has more.
			longer, size, err := chunk.RestoreFloatPrefix(want, cut)
			if err != nil || longer != st || size != len(buf) {
				t.Fatalf("%s cut at %d: %d bytes, state %+v, %v, want %d and %+v", s.name, cut, size, longer, err, len(buf), st)
			}
			end, body, _ := st.End(buf)
			if e, b, _ := longer.End(want[:size]); e != end || b != body {
				t.Fatalf("%s cut at %d: end %+v behind %d bytes, want %+v behind %d", s.name, cut, e, b, end, body)
			}
			for i := cut; i < len(ts); i++ {
				buf = chunk.AppendFloat(buf, i, &st, ts[i], vs[i])
			}
			if !bytes.Equal(buf, want) {
				t.Fatalf("%s cut at %d: %x, want %x", s.name, cut, buf, want)
			}
		}
	}
}

// Prometheus, having reopened a chunk of equal values, reuses a window of 64 bits that it never announced.
func TestStreamOfAReopenedPrometheusChunkDecodes(t *testing.T) {
	ts, vs := []int64{1000, 2000, 3000}, []float64{5, 5, 5}
	c := xorChunk(t, ts, vs)
	app, err := c.Appender()
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range []float64{6, 7, -1, math.NaN()} {
		at := int64(4000 + 1000*i)
		app.Append(0, at, v)
		ts, vs = append(ts, at), append(vs, v)
	}
	var b column.Block
	if err := chunk.DecodeFloats(c.Bytes()[2:], len(ts), math.MinInt64, math.MaxInt64, &b); err != nil {
		t.Fatal(err)
	}
	checkFloats(t, &b, ts, vs)
}

func TestAppendFloatGrowsByAtMostMaxFloatBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	most := 0
	for range 2000 {
		var buf []byte
		var st chunk.FloatState
		at := int64(math.MinInt64)
		for n := range 6 {
			before := len(buf)
			buf = chunk.AppendFloat(buf, n, &st, at, math.Float64frombits(r.Uint64()|1<<63*uint64(n&1)|uint64(n&1)))
			most = max(most, len(buf)-before)
			at += 1 + r.Int64N(1<<60)
		}
	}
	buf := chunk.AppendFloat(nil, 0, &chunk.FloatState{}, math.MinInt64, 0)
	var st chunk.FloatState
	buf = chunk.AppendFloat(buf[:0], 0, &st, math.MinInt64, 0)
	before := len(buf)
	buf = chunk.AppendFloat(buf, 1, &st, math.MaxInt64, math.Float64frombits(1<<63|1))
	most = max(most, len(buf)-before)
	if most != chunk.MaxFloatBytes {
		t.Errorf("an append took up to %d bytes, the limit says %d", most, chunk.MaxFloatBytes)
	}
	if size := unsafe.Sizeof(st); size > 40 {
		t.Errorf("FloatState takes %d bytes, the head has 40 for it", size)
	}
}

// A slab has room for MaxFloatBytes more: AppendFloat must use it and neither move nor write beyond it.
func TestAppendFloatStaysWithinItsSlab(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, s := range fleet {
		ts, vs := s.samples(r, 200, 3)
		slab := bytes.Repeat([]byte{0xee}, 4096)
		buf := slab[:0:0]
		var st chunk.FloatState
		for i, at := range ts {
			limit := len(buf) + chunk.MaxFloatBytes
			buf = chunk.AppendFloat(slab[:len(buf):limit], i, &st, at, vs[i])
			if &buf[0] != &slab[0] {
				t.Fatal("the stream left its slab")
			}
			if slab[limit] != 0xee {
				t.Fatal("bytes beyond the capacity were written")
			}
		}
		if !bytes.Equal(buf, encodeFloats(ts, vs)) {
			t.Fatal("the bytes depend on the capacity")
		}
	}
}

func TestDamagedFloatStreamsAreErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	ts, vs := oneShape(t, "ratio").samples(r, 50, 0)
	stream := encodeFloats(ts, vs)
	check := func(stream []byte, n int, msg string) {
		t.Helper()
		var b column.Block
		b.AppendFloat(1, 0, 2)
		err := chunk.DecodeFloats(stream, n, math.MinInt64, math.MaxInt64, &b)
		var ce *chunk.CorruptError
		if !errors.As(err, &ce) || ce.Msg != msg {
			t.Errorf("error %v, want %q", err, msg)
		}
		checkFloats(t, &b, []int64{1}, []float64{2})
	}
	for cut := range len(stream) - 1 {
		var b column.Block
		err := chunk.DecodeFloats(stream[:cut], 50, math.MinInt64, math.MaxInt64, &b)
		if ce := (*chunk.CorruptError)(nil); !errors.As(err, &ce) {
			t.Fatalf("stream cut at %d: error %v", cut, err)
		}
	}
	check(nil, 1, "first sample is cut short")
	check(stream[:10], 1, "first sample is cut short")
	check(stream, -1, "more samples than the bytes can hold")
	check(stream, math.MaxInt, "more samples than the bytes can hold")
	check(stream[:14], 2, "first time delta is cut short")
	check(stream, 55, "fewer samples than promised")
	check(encodeFloats([]int64{5, 5}, []float64{1, 1}), 2, "time does not ascend")
	check(encodeFloats([]int64{5, 6, 6}, []float64{1, 1, 1}), 3, "time does not ascend")
	check(encodeFloats([]int64{math.MaxInt64 - 1, math.MaxInt64, math.MinInt64}, []float64{1, 1, 1}), 3, "time does not ascend")
	// 0 ms, 0.0, delta 1, then: value changed, new window, 31 zeros before 64 bits.
	wide := append(make([]byte, 9), 1, 0b11_11111_0, 0b00000_000, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	check(wide, 2, "window of more than 64 bits")
}

func TestDecodeFloatsChargesTheBudgetFirst(t *testing.T) {
	ts, vs := oneShape(t, "const").samples(rand.New(rand.NewPCG(1, 1)), 500, 0)
	stream := encodeFloats(ts, vs)
	acct := budget.NewRoot("query", 1000)
	b := column.Block{Budget: acct}
	err := chunk.DecodeFloats(stream, 500, math.MinInt64, math.MaxInt64, &b)
	if ee := (*budget.ExceededError)(nil); !errors.As(err, &ee) {
		t.Fatalf("error %v, want a refusal", err)
	}
	if acct.Used() != 0 || len(b.T) != 0 {
		t.Errorf("%d bytes, %d rows left after a refusal", acct.Used(), len(b.T))
	}
	acct.SetLimit(10_000)
	if err := chunk.DecodeFloats(stream, 500, math.MinInt64, math.MaxInt64, &b); err != nil {
		t.Fatal(err)
	}
	if acct.Used() < 8000 {
		t.Errorf("%d bytes charged for 500 rows", acct.Used())
	}
	if b.Free(); acct.Used() != 0 {
		t.Errorf("%d bytes charged after Free", acct.Used())
	}
}

func TestDecodeFloatsPadsOtherColumns(t *testing.T) {
	var b column.Block
	b.AppendHistogram(1, 7, &histogram.Histogram{}, nil)
	if err := chunk.DecodeFloats(encodeFloats([]int64{5, 6}, []float64{1, 2}), 2, 0, 10, &b); err != nil {
		t.Fatal(err)
	}
	if len(b.ST) != 3 || len(b.Kind) != 3 || len(b.H.Int) != 3 || len(b.H.Float) != 3 {
		t.Errorf("columns of %d, %d, %d, %d rows, want 3", len(b.ST), len(b.Kind), len(b.H.Int), len(b.H.Float))
	}
}

// floatsFrom reads samples from fuzz input: strictly ascending times and values of chosen or raw bits.
func floatsFrom(in []byte) (ts []int64, vs []float64) {
	at := int64(0)
	for len(in) >= 10 {
		step, kind := binary.LittleEndian.Uint64(in), in[8]
		at += int64(step>>(8+kind%56)) + 1
		v := oddValues[int(in[9])%len(oddValues)]
		if kind > 128 {
			v = math.Float64frombits(step * 0x9e3779b97f4a7c15 << (in[9] & 63))
		}
		in = in[10:]
		if len(ts) > 0 && at <= ts[len(ts)-1] {
			break
		}
		ts, vs = append(ts, at), append(vs, v)
	}
	return ts, vs
}

func FuzzFloatStreamIsThatOfPrometheus(f *testing.F) {
	r := rand.New(rand.NewPCG(17, 18))
	for range 20 {
		in := make([]byte, r.IntN(400))
		for i := range in {
			in[i] = byte(r.Uint32())
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ts, vs := floatsFrom(in)
		checkAgainstPeer(t, ts, vs)
	})
}

// Any bytes give rows that ascend within the range, or an error; what Prometheus reads from them, we read too.
func FuzzDecodeFloats(f *testing.F) {
	r := rand.New(rand.NewPCG(19, 20))
	for _, s := range fleet {
		ts, vs := s.samples(r, 40, 3)
		f.Add(encodeFloats(ts, vs), uint16(40), int64(0), int64(math.MaxInt64))
		f.Add(encodeFloats(ts, vs)[3:], uint16(45), ts[10], ts[20])
	}
	f.Fuzz(func(t *testing.T, in []byte, n uint16, mint, maxt int64) {
		var b column.Block
		err := chunk.DecodeFloats(slices.Clip(in), int(n), mint, maxt, &b)
		for i, at := range b.T {
			if at < mint || at > maxt || i > 0 && at <= b.T[i-1] {
				t.Fatalf("times %v in [%d, %d]", b.T, mint, maxt)
			}
		}
		var c chunkenc.XORChunk
		c.Reset(append(binary.BigEndian.AppendUint16(nil, n), in...))
		it, row := c.Iterator(nil), 0
		for it.Next() != chunkenc.ValNone && err == nil {
			at, v := it.At()
			if at > maxt {
				break
			}
			if at < mint {
				continue
			}
			if row >= len(b.T) || b.T[row] != at || math.Float64bits(b.V[row]) != math.Float64bits(v) {
				t.Fatalf("row %d differs from the peer's %d %v", row, at, v)
			}
			row++
		}
		if err == nil && row != len(b.T) {
			t.Fatalf("%d rows, the peer reads %d", len(b.T), row)
		}
		if _, rerr := chunk.RestoreFloatState(in, int(n)); err != nil && mint == math.MinInt64 && maxt == math.MaxInt64 && rerr == nil {
			t.Fatalf("restored a stream that does not decode: %v", err)
		}
	})
}
