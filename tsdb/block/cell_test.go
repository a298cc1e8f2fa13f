// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

const (
	slot  = 7_200_000
	slots = 12
)

// dayContent has series of two targets, which are scraped at times of their own, over twelve slots.
func dayContent(series int) content {
	var c content
	for i := range series {
		s := testSeries{labels: labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%05d", i))}
		x := uint64(i)
		for k := range slots * 480 {
			x = x*6364136223846793005 + 1442695040888963407
			s.rows = append(s.rows, float(int64(k)*15_000+int64(i%2*100)+int64(k%3), 0, float64(x>>44)))
		}
		c.series = append(c.series, s)
	}
	return c
}

func TestNarrowReadTakesTheStripesOfItsSlotsAlone(t *testing.T) {
	disk := fsx.NewCrashable()
	c := dayContent(20)
	write(t, disk, c)
	faulty := fsx.NewFaulty(disk)
	b := open(t, faulty)
	reads := 0
	faulty.Observe(func(op fsx.Op, _ string) {
		if op == fsx.OpRead {
			reads++
		}
	})
	check := func(what string, mint, maxt int64, want int) {
		t.Helper()
		reads = 0
		r := b.Reader()
		for id, s := range c.series {
			var dst column.Block
			if err := r.Read(t.Context(), uint32(id), mint, maxt, false, &dst); err != nil {
				t.Fatal(err)
			}
			all := slices.DeleteFunc(slices.Clone(s.rows), func(r row) bool { return r.T < mint || r.T > maxt })
			if diff := sameRows(rowsIn(&dst), all); diff != "" {
				t.Fatal(diff)
			}
		}
		if reads != want {
			t.Errorf("%s: %d reads, want %d", what, reads, want)
		}
	}
	check("before all", allMin, -1, 0)
	check("an hour", 5*slot, 5*slot+slot/2, 2) // a stripe, and one of times
	check("the same again", 5*slot, 5*slot+slot/2, 0)
	check("the end of one slot and the begin of the next", 8*slot-60_000, 8*slot+60_000, 4)
	check("all", allMin, allMax, 2*(slots-3))
	check("behind all", slots*slot, allMax, 0)
}

// TestDamageCostsOneSlot flips a byte of each stripe in turn: reads miss the rows of one slot, and say so.
func TestDamageCostsOneSlot(t *testing.T) {
	c := dayContent(4)
	raw := rawBlock(t, c)
	lost := map[int]int{}
	for at := 20; at < len(raw)-5000; at += 1500 {
		damaged := slices.Clone(raw)
		damaged[at] ^= 0x10
		fs := fsx.NewCrashable()
		place(t, fs, damaged)
		b, err := block.Open(fs, block.Path("blocks", testID), nil, block.Options{})
		if err != nil {
			continue // the byte is not of a stripe
		}
		slotsLost := map[int64]bool{}
		for id, s := range c.series {
			got, err := rowsOf(b, uint32(id), allMin, allMax, true)
			var corrupt *block.CorruptError
			if err == nil && len(got) == len(s.rows) {
				continue
			}
			if !errors.As(err, &corrupt) || !partOf(got, s.rows) {
				t.Fatalf("byte %d: series %d: %d rows, error %v", at, id, len(got), err)
			}
			for _, r := range s.rows {
				if _, ok := slices.BinarySearchFunc(got, r.T, func(r row, t int64) int { return int(r.T - t) }); !ok {
					slotsLost[r.T/slot] = true
				}
			}
		}
		if err := b.Verify(t.Context()); err == nil {
			t.Fatalf("byte %d: Verify found nothing", at)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		lost[len(slotsLost)]++
	}
	if lost[1] < slots || len(lost) != 1 {
		t.Errorf("slots lost, and how often: %v", lost)
	}
}

func TestSeriesOfManyRowsIsCutIntoSmallPages(t *testing.T) {
	var c content
	for i, step := range []int64{15_000, 1000, 15_000, 100} {
		s := testSeries{labels: labels.FromStrings("i", fmt.Sprint(i))}
		for at := int64(0); at < slot; at += step {
			s.rows = append(s.rows, float(at, 0, float64(at*at%1009)))
		}
		c.series = append(c.series, s)
	}
	disk := fsx.NewCrashable()
	write(t, disk, c)
	b := open(t, disk)
	checkContent(t, b, c)
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	var dst column.Block
	dst.Budget = budget.NewRoot("query", 60_000)
	if err := b.Read(t.Context(), 3, slot/2, slot/2+1000, false, &dst); err != nil || len(dst.T) != 11 {
		t.Errorf("a second of 72,000 rows: %d rows, %v", len(dst.T), err)
	}
}

func TestReaderChargesWhatTheCacheDoesNotKeep(t *testing.T) {
	fs := fsx.NewCrashable()
	write(t, fs, dayContent(20))
	check := func(what string, cache int64, low, high int64) {
		t.Helper()
		b, err := block.Open(fs, block.Path("blocks", testID), block.NewCache(cache, nil), block.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		query := budget.NewRoot("query", 0)
		dst := column.Block{Budget: query}
		if err := b.Read(t.Context(), 0, allMin, allMax, false, &dst); err != nil {
			t.Fatal(err)
		}
		columns := int64(16 * cap(dst.T))
		if extra := query.Used() - columns; extra < low || extra > high {
			t.Errorf("%s: %d bytes beside the columns", what, extra)
		}
		dst.Free()
		if query.Used() != 0 {
			t.Errorf("%s: %d bytes left", what, query.Used())
		}
		tight := column.Block{Budget: budget.NewRoot("query", columns+low/2)}
		err = b.Read(t.Context(), 0, allMin, allMax, false, &tight)
		if _, exceeded := errors.AsType[*budget.ExceededError](err); exceeded != (low > 0) || err != nil && len(tight.T) > 0 {
			t.Errorf("%s, with no room: %d rows, %v", what, len(tight.T), err)
		}
	}
	check("cached", 64<<20, 0, 0)
	check("not cached", 0, slots*10_000, slots*200_000)
}

func TestSlotOfABlockIsChecked(t *testing.T) {
	fs := fsx.NewCrashable()
	if err := fs.MkdirAll("blocks"); err != nil {
		t.Fatal(err)
	}
	c := content{series: []testSeries{{labels: labels.FromStrings("a", "b"), rows: []row{float(1, 0, 1)}}}}
	check := func(start, end, length, want int64) {
		t.Helper()
		m, err := block.Write(fs, "blocks", block.Meta{SlotStart: start, SlotEnd: end, Slot: length}, c.source())
		if want == 0 && err == nil || want != 0 && (err != nil || m.Slot != want) {
			t.Errorf("slot %d of [%d, %d): %d, %v", length, start, end, m.Slot, err)
		}
	}
	check(0, 1000, 0, 1000)
	check(0, 7*86_400_000, slot, slot)
	check(0, 0, 0, slot)
	check(math.MinInt64, math.MaxInt64, 0, slot)
	check(0, 1000, -1, 0)
	check(0, 1000, 1<<60, 0)
}
