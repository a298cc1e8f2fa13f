// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// randomTable has rows of up to 4 labels with few or many values.
func randomTable(r *rand.Rand) *vector.Table {
	t := &vector.Table{N: r.IntN(3000), Dict: vector.NewDict()}
	for range r.IntN(500_0) {
		symbol(t.Dict, fmt.Sprint(t.Dict.Len()))
	}
	for c := range r.IntN(5) {
		col := make([]uint32, t.N)
		values := 1 + r.IntN(min(t.Dict.Len(), []int{1, 2, 100, 1 << 20}[r.IntN(4)]))
		for i := range col {
			col[i] = uint32(r.IntN(values))
		}
		t.Names, t.Cols = append(t.Names, string(rune('a'+c))), append(t.Cols, col)
	}
	return t
}

func TestGroupsAreNumberedInOrderOfFirstAppearance(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		table := randomTable(r)
		wantOf, wantFirst := make([]uint32, table.N), []uint32(nil)
		seen := map[string]uint32{}
		for row := range table.N {
			key := ""
			for _, col := range table.Cols {
				key += fmt.Sprint(col[row], " ")
			}
			if _, ok := seen[key]; !ok {
				seen[key] = uint32(len(wantFirst))
				wantFirst = append(wantFirst, uint32(row))
			}
			wantOf[row] = seen[key]
		}
		of, first, _ := table.Groups()
		if !slices.Equal(of, wantOf) || !slices.Equal(first, wantFirst) {
			t.Fatalf("%d rows, %d columns: %s", table.N, len(table.Cols), cmp.Diff(wantFirst, first))
		}
		if got, _ := table.Unique(); got != (len(first) == table.N) {
			t.Fatalf("Unique() is %v with %d groups of %d rows", got, len(first), table.N)
		}
	}
}

func TestTablesThatAreDistinctStaySoOnlyWhileNoLabelThatTellsRowsApartGoes(t *testing.T) {
	d := vector.NewDict()
	x, y := symbol(d, "x"), symbol(d, "y")
	table := &vector.Table{N: 2, Names: []string{"a", "b"}, Cols: [][]uint32{{x, x}, {x, y}}, Distinct: true, Dict: d}
	check := func(t1 *vector.Table, want bool) {
		t.Helper()
		if t1.Distinct != want {
			t.Errorf("%v is distinct: %v", t1.Names, t1.Distinct)
		}
	}
	check(table.Without("a"), true)
	check(table.Without("b"), false)
	check(table.Keep("b"), true)
	check(table.Keep("a"), false)
	check(table.WithDrop(true), true)
	check(table.With("b", []uint32{x, x}), false)
	same, _ := table.With("b", []uint32{x, x}).Unique()
	if other, _ := table.Unique(); same || !other {
		t.Error("Unique")
	}
}

func BenchmarkGroups(b *testing.B) {
	const rows = 100_000
	d := vector.NewDict()
	col := func(values int) []uint32 {
		out := make([]uint32, rows)
		for i := range out {
			out[i] = symbol(d, fmt.Sprint(i/3%values))
		}
		return out
	}
	t := &vector.Table{N: rows, Names: []string{"a", "b", "c"}, Cols: [][]uint32{col(5), col(700), col(9)}, Dict: d}
	for b.Loop() {
		if _, _, err := t.Groups(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}
