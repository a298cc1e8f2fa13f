// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena_test

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

type header struct {
	t int64
	n [5]uint16
	_ [78]byte
}

func TestTableRecordsStayWhereTheyAre(t *testing.T) {
	acct := budget.NewRoot("table", 0)
	tab := arena.NewTable[header](arena.Options{Account: acct})
	var old []*header
	for i := range uint32(20_000) {
		if i >= tab.Cap() {
			if err := tab.Grow(i + 1); err != nil {
				t.Fatal(err)
			}
			if tab.Bytes() != acct.Used() {
				t.Fatalf("%d bytes held, %d charged", tab.Bytes(), acct.Used())
			}
		}
		h := tab.At(i)
		if *h != (header{}) {
			t.Fatalf("new record %d is %+v", i, *h)
		}
		h.t, h.n[4] = int64(i), uint16(i)
		old = append(old, h)
	}
	for i, h := range old {
		if tab.At(uint32(i)) != h || h.t != int64(i) || h.n[4] != uint16(i) {
			t.Fatalf("record %d moved or changed: %+v", i, *h)
		}
	}
	if per := float64(tab.Bytes()) / float64(tab.Cap()); per > 97 {
		t.Errorf("a record of 96 bytes takes %.1f", per)
	}
	for range 2 {
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acct.Used() != 0 || tab.Cap() != 0 {
		t.Errorf("%d bytes charged, %d records after Close", acct.Used(), tab.Cap())
	}
}

func TestVacatedRecordsAreZeroAndTheOthersStay(t *testing.T) {
	tab := arena.NewTable[header](arena.Options{})
	per := tab.PerPage()
	if err := tab.Grow(3 * per); err != nil {
		t.Fatal(err)
	}
	for round := range int64(2) {
		for i := range 3 * per {
			if tab.At(i).t != 0 && round == 0 {
				t.Fatalf("record %d is not zero", i)
			}
			tab.At(i).t = int64(i) + 1 + round
		}
		for i := per; i < 2*per; i++ {
			*tab.At(i) = header{}
		}
		tab.Vacate(per + 5)
		for i := range 3 * per {
			want := int64(i) + 1 + round
			if i/per == 1 {
				want = 0
			}
			if got := tab.At(i).t; got != want {
				t.Fatalf("record %d is %d, want %d", i, got, want)
			}
		}
	}
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
}

func TestTableRefusedByTheBudgetStays(t *testing.T) {
	acct := budget.NewRoot("table", 200_000)
	tab := arena.NewTable[header](arena.Options{Account: acct})
	err := tab.Grow(1_000_000)
	if ee := (*budget.ExceededError)(nil); !errors.As(err, &ee) {
		t.Fatalf("error %v, want a refusal", err)
	}
	if tab.Cap() == 0 || tab.Bytes() != acct.Used() || acct.Used() > 200_000 {
		t.Errorf("%d records, %d bytes held, %d charged", tab.Cap(), tab.Bytes(), acct.Used())
	}
	tab.At(tab.Cap() - 1).t = 1
	if err := tab.Close(); err != nil || acct.Used() != 0 {
		t.Errorf("close: %v, %d bytes charged", err, acct.Used())
	}
}

func TestTableRefusesPointers(t *testing.T) {
	check := func(name string, f func()) {
		t.Helper()
		if violation(t, f) == "" {
			t.Errorf("a table of %s was made", name)
		}
	}
	check("strings", func() { arena.NewTable[struct{ s [2]string }](arena.Options{}) })
	check("slices", func() { arena.NewTable[[]byte](arena.Options{}) })
	check("pointers", func() { arena.NewTable[struct{ p *int }](arena.Options{}) })
	check("nothing", func() { arena.NewTable[struct{}](arena.Options{}) })
	arena.NewTable[struct {
		a [3]float64
		u uintptr
	}](arena.Options{})
}

func TestPrefetchOfMemoryThatHasGoneIsHarmless(t *testing.T) {
	table := arena.NewTable[uint64](arena.Options{})
	if err := table.Grow(1); err != nil {
		t.Fatal(err)
	}
	lines := []unsafe.Pointer{unsafe.Pointer(table.At(0)), nil, unsafe.Pointer(&table)}
	arena.Prefetch(lines)
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	arena.Prefetch(lines)
	arena.Prefetch(nil)
}
