// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"context"
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

const partName = "/spill/x.part"

// testPart is rows by number; nil where a number has none.
type testPart []*column.Block

func newTestPart(rng *rand.Rand, series int) testPart {
	p := make(testPart, series)
	for i := range p {
		if rng.IntN(4) == 0 && i != series-1 {
			continue
		}
		b := &column.Block{}
		b.Reset()
		v, n := math.Floor(1000*rng.Float64()), 1+rng.IntN(80)
		for k := range n {
			t := int64(7_200_000 + 15_000*k + i%7)
			switch {
			case i%11 == 5:
				b.AppendHistogram(t, 1, &histogram.Histogram{Count: uint64(k), Sum: v, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{int64(k)}}, nil)
			case i%5 == 1:
				b.AppendFloat(t, t-1000, v)
			default:
				b.AppendFloat(t, 0, v)
			}
			v += math.Floor(20 * rng.Float64() * float64(i%3))
		}
		p[i] = b
	}
	return p
}

func (p testPart) source() PartSource {
	return PartSource{Series: func(yield func(PartRows, error) bool) {
		for k := range p {
			i := (k*7 + 3) % len(p) // any order
			b, gen := p[i], uint32(1+i%3)
			if b == nil {
				b, gen = &column.Block{}, 0
			}
			if (gen > 0 || i%2 == 0) && !yield(PartRows{uint32(i), gen, b}, nil) {
				return
			}
		}
	}}
}

func (p testPart) write(t *testing.T, fsys fsx.FS) PartMeta {
	t.Helper()
	if err := fsys.MkdirAll("/spill"); err != nil {
		t.Fatal(err)
	}
	meta, err := WritePart(fsys, partName, PartMeta{Shard: 3, SlotStart: 7_200_000, Slot: 7_200_000, LSN: 9}, p.source())
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

// read returns the rows of all series; nil where they cannot be read because they are damaged.
func readPart(t *testing.T, p *Part, n int) testPart {
	t.Helper()
	out := make(testPart, n)
	r := p.Reader()
	for i := range out {
		b := &column.Block{}
		b.Reset()
		id, ok := p.Place(uint32(i))
		if !ok {
			out[i] = b
			continue
		}
		err := r.Read(context.Background(), id, math.MinInt64, math.MaxInt64, true, b)
		if _, ok := errors.AsType[*CorruptError](err); ok {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out[i] = b
	}
	return out
}

func sameRows(a, b *column.Block) bool {
	if !slices.Equal(a.T, b.T) || !slices.EqualFunc(a.V, b.V, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) }) {
		return false
	}
	for i := range a.T {
		if a.KindAt(i) != b.KindAt(i) || a.STAt(i) != b.STAt(i) {
			return false
		}
		if len(a.Kind) > 0 && a.H.Int[i] != nil && !a.H.Int[i].Equals(b.H.Int[i]) {
			return false
		}
	}
	return true
}

func TestAPartHoldsTheRowsAndTheEndsOfItsSeries(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	fsys := fsx.NewCrashable()
	want := newTestPart(rand.New(rand.NewPCG(seed, 1)), 2500)
	meta := want.write(t, fsys)
	p, err := OpenPart(fsys, partName, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if p.Meta() != meta || meta.Series < 2000 || meta.Series >= 2500 || meta.Shard != 3 || meta.LSN != 9 {
		t.Errorf("meta %+v, written %+v", p.Meta(), meta)
	}
	m, err := p.Members()
	if err != nil {
		t.Fatal(err)
	}
	at := map[uint32]int{}
	for k, number := range m.Number {
		at[number] = k
	}
	rows := uint64(0)
	for i, got := range readPart(t, p, len(want)) {
		if want[i] == nil {
			if k, ok := at[uint32(i)]; ok != (i%2 == 0) || ok && m.Gen[k] != 0 || len(got.T) != 0 {
				t.Errorf("series %d without rows: at %d, %t, %d rows", i, k, ok, len(got.T))
			}
			continue
		}
		n, k := len(want[i].T), at[uint32(i)]
		rows += uint64(n)
		if m.Gen[k] != uint32(1+i%3) || m.First[k] != want[i].T[0] || m.Last[k] != want[i].T[n-1] {
			t.Errorf("series %d: generation %d, rows from %d to %d, want %d from %d to %d",
				i, m.Gen[k], m.First[k], m.Last[k], 1+i%3, want[i].T[0], want[i].T[n-1])
		}
		if !sameRows(got, want[i]) {
			t.Errorf("series %d: %d rows are not the %d written", i, len(got.T), n)
		}
	}
	if rows != meta.Rows {
		t.Errorf("%d rows, the meta says %d", rows, meta.Rows)
	}
	if first, end, ok := Times(fsys, partName); !ok || first != meta.MinT || end != meta.MaxT {
		t.Errorf("times from %d to %d, %t", first, end, ok)
	}
}

func TestAPartIsNoBlock(t *testing.T) {
	fsys := fsx.NewCrashable()
	newTestPart(rand.New(rand.NewPCG(1, 1)), 10).write(t, fsys)
	_, err := Open(fsys, partName, nil, Options{})
	if _, ok := errors.AsType[*NewerVersionError](err); !ok {
		t.Errorf("open a part as a block: %v, want what a newer version's block gives", err)
	}
	if _, err := OpenPart(fsys, partName, nil, Options{}); err != nil {
		t.Errorf("open a part: %v", err)
	}
}

func TestRowsThatDoNotBelongAreRefused(t *testing.T) {
	fsys := fsx.NewCrashable()
	if err := fsys.MkdirAll("/spill"); err != nil {
		t.Fatal(err)
	}
	rows := func(times ...int64) *column.Block {
		b := &column.Block{}
		b.Reset()
		for _, at := range times {
			b.AppendFloat(at, 0, 1)
		}
		return b
	}
	for name, series := range map[string][]PartRows{
		"no series": {}, "no rows at all": {{0, 0, rows()}}, "a series without rows": {{0, 1, rows()}}, "no generation": {{0, 0, rows(1)}},
		"another slot": {{0, 1, rows(1, 10)}}, "a time twice": {{0, 1, rows(1, 3, 3, 5)}}, "times out of order": {{0, 1, rows(1, 4, 3, 5)}},
	} {
		_, err := WritePart(fsys, partName, PartMeta{Slot: 10}, PartSource{Series: seqOf(series)})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if names, _ := fsys.List("/spill"); len(names) != 0 {
			t.Errorf("%s: files %v are left", name, names)
		}
	}
}

func seqOf(series []PartRows) iter.Seq2[PartRows, error] {
	return func(yield func(PartRows, error) bool) {
		for _, s := range series {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// Each byte is changed in turn: the part does not open, or some series cannot be read, or nothing is different.
func TestADamagedPartNeverGivesOtherRows(t *testing.T) {
	fsys := fsx.NewCrashable()
	want := newTestPart(rand.New(rand.NewPCG(5, 6)), 30)
	want.write(t, fsys)
	whole, err := fsx.ReadFile(fsys, partName)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for at := range whole {
		bad := slices.Clone(whole)
		bad[at] ^= 1 << (at % 8)
		overwrite(t, fsys, bad)
		p, err := OpenPart(fsys, partName, nil, Options{})
		if err != nil {
			found++
			continue
		}
		for i, got := range readPart(t, p, len(want)) {
			switch {
			case got == nil:
				found++
			case want[i] == nil && len(got.T) > 0, want[i] != nil && !sameRows(got, want[i]):
				t.Errorf("byte %d: series %d has other rows", at, i)
			}
		}
		if _, err := p.Members(); err != nil {
			found++
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if found < len(whole) {
		t.Errorf("%d of %d changes were found", found, len(whole))
	}
	for size := range whole {
		overwrite(t, fsys, whole[:size])
		if _, err := OpenPart(fsys, partName, nil, Options{}); err == nil {
			t.Errorf("a part cut to %d bytes opens", size)
		}
	}
}

func overwrite(t *testing.T, fsys fsx.FS, b []byte) {
	t.Helper()
	f, err := fsys.Create(partName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
