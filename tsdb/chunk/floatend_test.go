// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
)

// endedStream is a float stream of which the last bytes are in its end.
type endedStream struct {
	body  []byte
	end   chunk.FloatEnd
	n     int
	lastT int64
	last  uint64
}

// add appends a sample, by Append, by Shed and Append, or by Put, as way says; what the first two cannot do Put does.
func (s *endedStream) add(tb testing.TB, way int, t int64, v float64) {
	tb.Helper()
	x, was := math.Float64bits(v), s.end
	done := way > 0 && s.n >= 2 && s.end.Append(s.lastT, t, s.last, x)
	if !done && s.end != was {
		tb.Fatalf("Append of sample %d refused it and changed the end", s.n)
	}
	if !done && way == 2 {
		var block [chunk.EndBytes]byte
		s.body = append(s.body, block[:s.end.Shed(block[:])]...)
		done = s.n >= 2 && s.end.Append(s.lastT, t, s.last, x)
	}
	if !done {
		room := make([]byte, 0, chunk.MaxMove+8)
		moved := s.end.Put(room, s.n, s.lastT, t, s.last, x)
		if len(moved) > chunk.MaxMove {
			tb.Fatalf("Put moved %d bytes, at most %d were promised", len(moved), chunk.MaxMove)
		}
		s.body = append(s.body, moved...)
	}
	s.n, s.lastT, s.last = s.n+1, t, x
}

func (s *endedStream) whole() []byte { return append(bytes.Clone(s.body), s.end.Bytes()...) }

// checkEnds fails unless a stream with an end is, after every sample, what AppendFloat makes, with the same marks, and goes
// on as if nothing had been after it was read from its bytes.
func checkEnds(tb testing.TB, r *rand.Rand, ts []int64, vs []float64) {
	tb.Helper()
	var s endedStream
	var want []byte
	var st chunk.FloatState
	for i, t := range ts {
		if i > 0 && uint64(t-ts[i-1]) > math.MaxUint32 {
			return
		}
		if m, w := s.end.Mark(s.lastT, s.last, ts[0], i, len(s.body)), chunk.MakeMark(&st, ts[0], i, len(want)); i >= 2 && m != w {
			tb.Fatalf("mark behind %d samples %+v, want %+v", i, m, w)
		}
		s.add(tb, r.IntN(3), t, vs[i])
		if want = chunk.AppendFloat(want, i, &st, t, vs[i]); !bytes.Equal(s.whole(), want) || len(s.body)+s.end.Len() != len(want) {
			tb.Fatalf("after %d samples %x and %x, want %x\ntimes %v\nvalues %v", i+1, s.body, s.end.Bytes(), want, ts[:i+1], vs[:i+1])
		}
		if r.IntN(4) == 0 {
			restored, err := chunk.RestoreFloatState(want, i+1)
			if err != nil {
				tb.Fatal(err)
			}
			end, body, ok := restored.End(want)
			if !ok {
				tb.Fatalf("no end after %d samples", i+1)
			}
			s.end, s.body = end, bytes.Clone(want[:body])
		}
	}
}

func TestBodyAndEndAreTheStream(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for range 20 {
		for _, s := range fleet {
			ts, vs := s.samples(r, 200, 3)
			checkEnds(t, r, ts, vs)
			ts, vs = s.samples(r, 100, 100_000)
			checkEnds(t, r, ts, vs)
		}
	}
	for range 500 { // any bits, times of all classes
		at, ts, vs := r.Int64()-r.Int64(), []int64(nil), []float64(nil)
		for range 20 {
			ts, vs = append(ts, at), append(vs, math.Float64frombits(r.Uint64()<<(r.Uint64()%64)>>(r.Uint64()%64)))
			at += 1 + r.Int64N(1<<(1+r.Uint64()%31))
		}
		checkEnds(t, r, ts, vs)
	}
}

func TestEndIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(chunk.FloatEnd{}); size != 24 {
		t.Errorf("FloatEnd takes %d bytes, a header has 24 for it", size)
	}
}

// Repeat writes what Append does, or nothing, until the end is full.
func TestRepeatIsAppendOfTheSameValue(t *testing.T) {
	const step = 15_000
	var a, b endedStream
	for i := range int64(3) {
		a.add(t, 2, i*step, 7.5)
		b.add(t, 2, i*step, 7.5)
	}
	for i := int64(3); ; i++ {
		if a.end.Repeat(step+1) || a.end.Repeat(step-1) || a.end.Repeat(-step) {
			t.Fatal("a sample at another distance was taken")
		}
		did := a.end.Repeat(step)
		if want := b.end.Append((i-1)*step, i*step, b.last, b.last); did != want {
			t.Fatalf("sample %d: Repeat said %t, Append %t", i, did, want)
		}
		if a.end != b.end {
			t.Fatalf("sample %d: the end is %+v, want %+v", i, a.end, b.end)
		}
		if !did {
			break
		}
	}
}

func TestStreamWithALongGapHasNoEnd(t *testing.T) {
	stream := encodeFloats([]int64{0, 1 << 33}, []float64{1, 2})
	st, err := chunk.RestoreFloatState(stream, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := st.End(stream); ok {
		t.Error("an end was made that cannot tell the gap")
	}
}
