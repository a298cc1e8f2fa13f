// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// symbol is that of a text in a dictionary without a budget.
func symbol(d *vector.Dict, text string) uint32 {
	sym, err := d.Symbol(text)
	if err != nil {
		panic(err)
	}
	return sym
}

func tableOfSet(tb testing.TB, d *vector.Dict, s *column.SeriesSet) *vector.Table {
	tb.Helper()
	t, err := d.Table(s)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func TestTheFirstTextsAreTakenOverAndLaterOnesTranslated(t *testing.T) {
	d := vector.NewDict()
	first := tableOfSet(t, d, &column.SeriesSet{N: 2, Names: []string{"a"}, Syms: [][]uint32{{1, 2}}, Text: []string{"", "x", "y"}})
	added := symbol(d, "z")
	second := tableOfSet(t, d, &column.SeriesSet{N: 3, Names: []string{"a"}, Syms: [][]uint32{{2, 1, 0}}, Text: []string{"", "w", "y"}})
	check := func(tb *vector.Table, row uint32, want string) {
		t.Helper()
		if got := tb.Value(row, "a"); got != want {
			t.Errorf("row %d is %q, want %q", row, got, want)
		}
	}
	check(first, 0, "x")
	check(first, 1, "y")
	check(second, 0, "y")
	check(second, 1, "w")
	check(second, 2, "")
	if d.Text(added) != "z" || symbol(d, "z") != added || symbol(d, "") != 0 {
		t.Error("a symbol has changed")
	}
	if first.Column("a")[1] != second.Column("a")[0] {
		t.Error("one text has two symbols")
	}
}

func TestTextsThatGrowAreTranslatedAnew(t *testing.T) {
	d := vector.NewDict()
	texts := []string{"", "x", "y", "z"}
	tableOfSet(t, d, &column.SeriesSet{N: 1, Names: []string{"a"}, Syms: [][]uint32{{1}}, Text: texts[:2]})
	symbol(d, "other")
	got := tableOfSet(t, d, &column.SeriesSet{N: 1, Names: []string{"a"}, Syms: [][]uint32{{3}}, Text: texts})
	if v := got.Value(0, "a"); v != "z" {
		t.Errorf("value %q, want z", v)
	}
}

// randomLabels returns labels of up to four names.
func randomLabels(r *rand.Rand) labels.Labels {
	b := labels.NewScratchBuilder(4)
	for i := range 4 {
		if r.IntN(2) == 0 {
			b.Add(fmt.Sprintf("l%d", i), fmt.Sprintf("v%d", r.IntN(3)))
		}
	}
	return b.Labels()
}

// tableOf makes a table of series.
func tableOf(d *vector.Dict, all []labels.Labels) *vector.Table {
	t := &vector.Table{N: len(all), Dict: d}
	for i := range 4 {
		name := fmt.Sprintf("l%d", i)
		col := make([]uint32, len(all))
		for row, ls := range all {
			col[row] = symbol(d, ls.Get(name))
		}
		t.Names, t.Cols = append(t.Names, name), append(t.Cols, col)
	}
	return t
}

func TestTablesOrderGroupAndGiveLabelsLikeLabels(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		all := make([]labels.Labels, 1+r.IntN(60))
		for i := range all {
			all[i] = randomLabels(r)
		}
		tb := tableOf(vector.NewDict(), all)
		var sb labels.ScratchBuilder
		for row, ls := range all {
			if got := tb.Labels(uint32(row), &sb); !labels.Equal(got, ls) {
				t.Fatalf("row %d is %v, want %v", row, got, ls)
			}
		}
		sorted := slices.Clone(all)
		slices.SortStableFunc(sorted, labels.Compare)
		for i, row := range tb.Order() {
			if !labels.Equal(all[row], sorted[i]) {
				t.Fatalf("place %d has %v, want %v", i, all[row], sorted[i])
			}
		}
		seen := map[string]uint32{}
		of, first, _ := tb.Groups()
		for row, ls := range all {
			if _, ok := seen[ls.String()]; !ok {
				seen[ls.String()] = uint32(len(seen))
				if first[len(seen)-1] != uint32(row) {
					t.Fatalf("group %d begins at %d, want %d", len(seen)-1, first[len(seen)-1], row)
				}
			}
			if of[row] != seen[ls.String()] {
				t.Fatalf("row %d is in group %d, want %d", row, of[row], seen[ls.String()])
			}
		}
		if unique, _ := tb.Unique(); unique != (len(seen) == len(all)) {
			t.Fatalf("unique %t with %d of %d", unique, len(seen), len(all))
		}
	}
}

func TestTablesShareWhatStaysAndDoNotChange(t *testing.T) {
	d := vector.NewDict()
	all := []labels.Labels{labels.FromStrings("l0", "a", "l1", "b"), labels.FromStrings("l1", "c")}
	tb := tableOf(d, all)
	check := func(got *vector.Table, row uint32, want labels.Labels) {
		t.Helper()
		var sb labels.ScratchBuilder
		if ls := got.Labels(row, &sb); !labels.Equal(ls, want) {
			t.Errorf("row %d is %v, want %v", row, ls, want)
		}
	}
	check(tb.Without("l1"), 0, labels.FromStrings("l0", "a"))
	check(tb.Keep("l1"), 1, labels.FromStrings("l1", "c"))
	check(tb.With("l1", []uint32{symbol(d, "q"), 0}), 0, labels.FromStrings("l0", "a", "l1", "q"))
	check(tb.With("k", []uint32{0, symbol(d, "q")}), 1, labels.FromStrings("k", "q", "l1", "c"))
	drop := tb.WithDrop(true)
	taken := drop.Take([]uint32{1, 1, 0})
	check(taken, 1, all[1])
	check(taken, 2, all[0])
	if !taken.Dropped(0) || !drop.Dropped(1) || drop.WithDrop(false).Dropped(1) || tb.Dropped(0) {
		t.Error("marks of dropped names got lost or appeared")
	}
	check(tb, 0, all[0])
	check(tb, 1, all[1])
}

func TestGridsEndWhereTheStepReaches(t *testing.T) {
	check := func(start, end, step int64, want vector.Grid, last int64) {
		t.Helper()
		got := vector.NewGrid(start, end, step)
		if got != want || got.End() != last {
			t.Errorf("grid %+v ends at %d, want %+v and %d", got, got.End(), want, last)
		}
	}
	check(0, 10, 5, vector.Grid{Start: 0, Step: 5, N: 3}, 10)
	check(-7, 7, 5, vector.Grid{Start: -7, Step: 5, N: 3}, 3)
	check(5, 5, 5, vector.Grid{Start: 5, Step: 5, N: 1}, 5)
	check(5, 1, 5, vector.Grid{Start: 5, Step: 5, N: 1}, 5)
	check(5, 9, 0, vector.Grid{Start: 5, Step: 1, N: 1}, 5)
	check(5, 9, 7, vector.Grid{Start: 5, Step: 7, N: 1, Longer: true}, 5)
}
