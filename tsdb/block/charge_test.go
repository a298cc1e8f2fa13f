// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// chargeRows is how many rows a series of chargeBlock has, all in one slot.
const chargeRows = 400

// chargeBlock writes series of many shapes, each with start timestamps, of the same irregular times.
func chargeBlock(t *testing.T) (*fsx.Faulty, string) {
	t.Helper()
	disk := fsx.NewCrashable()
	if err := fsx.MakeDir(disk, "blocks"); err != nil {
		t.Fatal(err)
	}
	shapes := []func(i int) float64{
		func(i int) float64 { return float64(3 * i * i) },
		func(i int) float64 { return float64(i*7919%1000) / 100 },
		func(i int) float64 { return float64(i*i*7919%10007) * 0.001 }, // near decimals
		func(i int) float64 { return math.Sqrt(float64(i)) },
		func(i int) float64 { return math.Ldexp(float64(i*i), -40) },
		func(int) float64 { return 5 },
		func(i int) float64 { return []float64{float64(i), math.NaN(), float64(i)}[min(i%50, 1)] },
	}
	m, err := Write(disk, "blocks", Meta{SlotEnd: 7_200_000, ULID: id}, Source{Series: func(yield func(Series, error) bool) {
		for k := range 10 * len(shapes) {
			var b column.Block
			for i := range chargeRows {
				at := int64(15_000*i + i*i%7)
				b.AppendFloat(at, at-at%100_000-5, shapes[k%len(shapes)](i)+float64(k/len(shapes)))
			}
			if !yield(Series{Labels: labels.FromStrings("__name__", "m", "i", strconv.Itoa(1000+k)), Rows: &b, To: chargeRows}, nil) {
				return
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return fsx.NewFaulty(disk), Path("blocks", m.ULID)
}

func openCharged(t *testing.T, fsys fsx.FS, name string, cache *Cache) *Block {
	t.Helper()
	b, err := Open(fsys, name, cache, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestANarrowReadTakesNoMemoryThatItIsNotChargedFor(t *testing.T) {
	disk, name := chargeBlock(t)
	b := openCharged(t, disk, name, NewCache(1<<20, nil)) // what the cache holds is not the reader's
	for id := range uint32(b.Index().N()) {
		for _, from := range []int64{0, 1, chargeRows / 2, chargeRows - 3} {
			root := budget.NewRoot("root", 0)
			r, dst := b.Reader(), column.Block{Budget: root}
			if err := r.Read(t.Context(), id, 15_000*from, 15_000*(from+2), true, &dst); err != nil || len(dst.T) < 2 || len(dst.T) > 3 {
				t.Fatalf("series %d: %d rows, %v", id, len(dst.T), err)
			}
			held := 8 * (cap(dst.T) + cap(dst.V) + cap(dst.ST) + cap(r.at) + cap(r.values))
			for i := range r.held {
				for _, c := range r.held[i].columns.ring {
					held += 8 * cap(c.values)
				}
			}
			if int64(held) > root.Used() {
				t.Errorf("series %d from row %d: %d bytes are held, %d are charged", id, from, held, root.Used())
			}
		}
	}
}

func TestAStripeIsChargedBeforeItIsRead(t *testing.T) {
	disk, name := chargeBlock(t)
	b := openCharged(t, disk, name, nil)
	reads := 0
	disk.Observe(func(op fsx.Op, _ string) {
		if op == fsx.OpRead {
			reads++
		}
	})
	r, dst := b.Reader(), column.Block{Budget: budget.NewRoot("root", int64(b.directory.stripes[0].size))}
	err := r.Read(t.Context(), 0, 0, math.MaxInt64, false, &dst)
	if _, ok := errors.AsType[*budget.ExceededError](err); !ok || reads > 0 {
		t.Errorf("error %v after %d reads", err, reads)
	}
}

func TestADamagedStripeIsReadOnceByAReader(t *testing.T) {
	check := func(what string, at func(*Block) int64, most int) {
		t.Helper()
		disk, name := chargeBlock(t)
		b := openCharged(t, disk, name, NewCache(1<<20, nil))
		f, err := disk.OpenReadWrite(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xee, 0xee}, at(b)+5); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		reads := 0
		disk.Observe(func(op fsx.Op, _ string) {
			if op == fsx.OpRead {
				reads++
			}
		})
		r := b.Reader()
		var dst column.Block
		for id := range uint32(b.Index().N()) {
			err := r.Read(t.Context(), id, 0, math.MaxInt64, false, &dst)
			if _, ok := errors.AsType[*CorruptError](err); !ok || len(dst.T) > 0 {
				t.Fatalf("%s: series %d: %d rows, error %v", what, id, len(dst.T), err)
			}
		}
		if reads != most {
			t.Errorf("%s: %d reads, want %d", what, reads, most)
		}
	}
	check("stripe", func(b *Block) int64 { return b.directory.stripes[0].off }, 1)
	check("stripe of times", func(b *Block) int64 { return b.directory.times[0].off }, 2)
}

// Series whose times are all their own, over many slots, are more than the stripes of times being filled may take: some are
// written early, and every series comes back.
func TestABlockOfManySlotsKeepsToItsMemoryAndComesBack(t *testing.T) {
	const slots, rows, series = 240, 1200, 9
	disk := fsx.NewCrashable()
	if err := fsx.MakeDir(disk, "blocks"); err != nil {
		t.Fatal(err)
	}
	fill := func(b *column.Block, k int) {
		b.Reset()
		for i := range slots * rows {
			b.AppendFloat(int64(6000*i+i*i*(k+7)%997+k), 0, float64(k))
		}
	}
	account := budget.NewRoot("root", 0)
	var b column.Block
	m, err := Write(disk, "blocks", Meta{ULID: id, Slot: 6000 * rows}, Source{Account: account, Series: func(yield func(Series, error) bool) {
		for k := range series {
			if fill(&b, k); !yield(Series{Labels: labels.FromStrings("i", strconv.Itoa(k)), Rows: &b, To: len(b.T)}, nil) {
				return
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(timesFilling + groupTarget); account.Peak() > most || account.Used() > 0 {
		t.Errorf("%d bytes at most, want %d; %d are left", account.Peak(), most, account.Used())
	}
	got := openCharged(t, disk, Path("blocks", m.ULID), nil)
	if n := len(got.directory.times); n < slots+slots/2 {
		t.Errorf("%d stripes of times for %d slots: none was written early", n, slots)
	}
	r, dst := got.Reader(), column.Block{}
	for k := range series {
		fill(&b, k)
		dst.Reset()
		if err := r.Read(t.Context(), uint32(k), math.MinInt64, math.MaxInt64, false, &dst); err != nil || !slices.Equal(b.T, dst.T) || !slices.Equal(b.V, dst.V) {
			t.Errorf("series %d: %d rows, error %v", k, len(dst.T), err)
		}
	}
}

// A reader decodes into the memory that one before it has handed on: it is charged for all of it, and sees nothing of
// what was in it. Where there is no room for it, it does without.
func TestAReaderIsChargedForTheMemoryThatItBorrows(t *testing.T) {
	disk, name := chargeBlock(t)
	cache := NewCache(1<<20, nil)
	b := openCharged(t, disk, name, cache)
	var first []uint64
	for round := range 3 {
		r := b.Reader()
		var all []uint64
		for id := range uint32(b.Index().N()) {
			root := budget.NewRoot("root", 0)
			dst := column.Block{Budget: root}
			if id == 0 && round > 0 {
				cache.scratch.Put(&decoding{held: make([]held, 1), values: make([]float64, 0, 1000), columns: 8000})
			} else if err := r.ChargeTo(&dst); err != nil {
				t.Fatal(err)
			}
			if err := r.Read(t.Context(), id, 0, math.MaxInt64, true, &dst); err != nil {
				t.Fatal(err)
			}
			held := 8 * int64(cap(dst.T)+cap(dst.V)+cap(dst.ST)+cap(r.at)+cap(r.values))
			for i := range r.held {
				for _, c := range r.held[i].columns.ring {
					held += 8 * int64(cap(c.values))
				}
			}
			if held > root.Used() {
				t.Errorf("round %d, series %d: %d bytes are held, %d are charged", round, id, held, root.Used())
			}
			for _, v := range dst.V {
				all = append(all, math.Float64bits(v))
			}
		}
		if first == nil {
			first = all
		}
		if !slices.Equal(first, all) {
			t.Errorf("round %d reads other values", round)
		}
		r.Close()
		if r.held != nil || r.columns != 0 {
			t.Error("a closed reader holds memory")
		}
	}
	cache.scratch.Put(&decoding{held: make([]held, 1), columns: 1 << 30})
	r, dst := b.Reader(), column.Block{Budget: budget.NewRoot("root", 1<<20)}
	if err := r.Read(t.Context(), 0, 0, 15_000, false, &dst); err != nil || r.columns >= 1<<30 {
		t.Errorf("a read with little memory: %v, of %d bytes", err, r.columns)
	}
}
