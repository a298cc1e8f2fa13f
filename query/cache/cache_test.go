// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"math"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// random returns an entry of steps [from, to) with some series.
func random(rng *rand.Rand, from, to int64, series int) *Entry {
	e := &Entry{From: from, To: to, Stamp: rng.Uint64()}
	n := int(to - from)
	for i := range series {
		s := Series{
			Labels:  AppendLabels(nil, labels.FromStrings("__name__", "m", "i", strconv.Itoa(i))),
			Present: make([]bool, n), Values: make([]float64, n),
		}
		full := rng.IntN(2) == 0
		for j := range n {
			if s.Present[j] = full || rng.IntN(3) > 0; s.Present[j] {
				s.Values[j] = rng.NormFloat64()
			}
		}
		e.Series = append(e.Series, s)
	}
	return e
}

func TestEntriesComeBackAsTheyWerePut(t *testing.T) {
	c := New(0)
	defer c.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	l := LineOf("rate(x[5m])", "", 1_700_000_015_000, 60_000)
	account := budget.NewRoot("query", 0)
	for block := range int64(20) {
		want := random(rng, block*BlockSteps+rng.Int64N(100), block*BlockSteps+100+rng.Int64N(157), rng.IntN(200))
		c.Put(l, block, want)
		got, err := c.Get(l, block, account)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Entry{}, "Bytes")); diff != "" {
			t.Fatalf("block %d (-want +got):\n%s", block, diff)
		}
		if account.Used() != got.Bytes {
			t.Errorf("%d bytes charged, the entry says %d", account.Used(), got.Bytes)
		}
		account.Release(got.Bytes)
	}
	if _, err := c.Get(l, 3, budget.NewRoot("query", 10)); err == nil {
		t.Error("an entry was read into ten bytes")
	}
	for _, other := range []Line{
		LineOf("rate(y[5m])", "", 1_700_000_015_000, 60_000), LineOf("rate(x[5m])", "d", 1_700_000_015_000, 60_000),
		LineOf("rate(x[5m])", "", 1_700_000_016_000, 60_000), LineOf("rate(x[5m])", "", 1_700_000_015_000, 30_000),
	} {
		if e, _ := c.Get(other, 3, account); e != nil {
			t.Errorf("%+v has an entry of another line", other)
		}
	}
}

func TestAnEntryIsChargedBeforeItIsRead(t *testing.T) {
	c := New(512 << 20)
	defer c.Close()
	l := LineOf("x", "", 0, 1000)
	want := random(rand.New(rand.NewPCG(7, 8)), 0, BlockSteps, 5000)
	if !c.Put(l, 0, want) {
		t.Fatal("an entry of 10 MB is too large")
	}
	size := int64(len(want.encode(nil)))
	read := func(limit int64) (allocated int64, account *budget.Account, err error) {
		account = budget.NewRoot("query", limit)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = c.Get(l, 0, account)
		runtime.ReadMemStats(&after)
		return int64(after.TotalAlloc - before.TotalAlloc), account, err
	}
	if allocated, account, err := read(0); err != nil || allocated > account.Used()+64<<10 {
		t.Errorf("%v: %d bytes were allocated, %d charged", err, allocated, account.Used())
	}
	for _, limit := range []int64{size - 1, size + 1000} {
		allocated, account, err := read(limit)
		if err == nil || account.Used() != 0 {
			t.Errorf("%d bytes are charged, error %v", account.Used(), err)
		}
		if allocated > limit+64<<10 || limit < size && allocated > 64<<10 {
			t.Errorf("%d bytes were allocated, the limit is %d and the entry has %d", allocated, limit, size)
		}
	}
	if got := c.Stats(); got.Gets != 3 || got.Misses != 0 {
		t.Errorf("%+v after three reads", got)
	}
}

func TestAnEntryWhoseBytesHaveGoneIsNone(t *testing.T) {
	c := New(0)
	defer c.Close()
	account := budget.NewRoot("query", 0)
	l := LineOf("x", "", 0, 1000)
	c.Put(l, 0, random(rand.New(rand.NewPCG(9, 10)), 0, 10, 3))
	h, ok := c.head(l.key(0))
	if !ok {
		t.Fatal("no head")
	}
	c.mem.Del(h.key())
	if e, err := c.Get(l, 0, account); e != nil || err != nil || account.Used() != 0 {
		t.Errorf("entry %v, error %v, %d bytes are charged", e, err, account.Used())
	}
	if got := c.Stats(); got.Gets != 1 || got.Misses != 1 {
		t.Errorf("%+v after one read that found nothing", got)
	}
}

func TestTheSizeOfAnEntryIsKnownBeforeItIsEncoded(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 50 {
		e := random(rng, 0, 1+rng.Int64N(BlockSteps), rng.IntN(20))
		size, want := e.size(), int64(len(e.encode(nil)))
		if size < want || size > want+int64(45*len(e.Series)+50) {
			t.Fatalf("size %d, the entry has %d bytes", size, want)
		}
	}
}

func TestValuesKeepTheirBits(t *testing.T) {
	want := []float64{math.Copysign(0, -1), math.Inf(1), math.Float64frombits(0x7ff8_0000_0000_0123), 5e-324}
	e := &Entry{From: -4, To: 0, Series: []Series{{Present: []bool{true, true, true, true}, Values: want}}}
	got, err := decode(e.encode(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got.Series[0].Values {
		if math.Float64bits(v) != math.Float64bits(want[i]) {
			t.Errorf("value %d: %x, want %x", i, math.Float64bits(v), math.Float64bits(want[i]))
		}
	}
}

func TestLinesNumberTheirSteps(t *testing.T) {
	for _, at := range []int64{-100_000_007, -60_000, -1, 0, 1, 59_999, 60_000, 1_700_000_015_123} {
		l := LineOf("q", "", at, 60_000)
		if got := l.Time(l.Index(at)); got != at {
			t.Errorf("step at %d is at %d", at, got)
		}
		if l.Index(at+60_000) != l.Index(at)+1 || l.Index(at-60_000) != l.Index(at)-1 {
			t.Errorf("steps around %d are not numbered one by one", at)
		}
	}
	for i, want := range map[int64]int64{0: 0, 255: 0, 256: 1, -1: -1, -256: -1, -257: -2} {
		if got := BlockOf(i); got != want {
			t.Errorf("step %d is in block %d, want %d", i, got, want)
		}
	}
}

func TestJoinAndSliceAreInverse(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	whole := random(rng, 10, 100, 5)
	a, b := whole.Slice(10, 40), whole.Slice(40, 100)
	for _, pair := range [][2]*Entry{{a, b}, {b, a}} {
		got, ok := pair[0].Join(pair[1])
		if diff := cmp.Diff(whole, got); !ok || diff != "" {
			t.Errorf("joined: %v (-want +got):\n%s", ok, diff)
		}
	}
	if _, ok := a.Join(whole.Slice(41, 100)); ok {
		t.Error("entries with a gap between them were joined")
	}
	only := &Entry{From: 100, To: 101, Series: []Series{{Labels: []byte("new"), Present: []bool{true}, Values: []float64{7}}}}
	got, _ := whole.Join(only)
	if n := len(got.Series); n != 6 || got.Series[5].Present[0] || !got.Series[5].Present[90] {
		t.Errorf("%d series; the new one is %v", n, got.Series[5].Present)
	}
}

func TestLabelsComeBack(t *testing.T) {
	var sb labels.ScratchBuilder
	for _, ls := range []labels.Labels{labels.EmptyLabels(), labels.FromStrings("a", "", "b", "x\x00y"), labels.FromStrings("__name__", "m", "z", "ü")} {
		got, err := DecodeLabels(AppendLabels(nil, ls), &sb)
		if err != nil || !labels.Equal(got, ls) {
			t.Errorf("%v: %v, %v", ls, got, err)
		}
	}
	if _, err := DecodeLabels([]byte{5, 'a'}, &sb); err == nil {
		t.Error("half a label was read")
	}
}

func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	f.Add(random(rng, 0, 256, 3).encode(nil))
	f.Add(random(rng, -10, -1, 1).encode(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b, nil)
		if err != nil {
			return
		}
		again, err := decode(e.encode(nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range e.Series {
			if !cmp.Equal(e.Series[i].Labels, again.Series[i].Labels, cmpopts.EquateEmpty()) || !cmp.Equal(e.Series[i].Present, again.Series[i].Present) {
				t.Fatalf("series %d changed", i)
			}
		}
	})
}
