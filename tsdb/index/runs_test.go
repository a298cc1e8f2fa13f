// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRunsEqualASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := map[uint32]bool{}
		var r runs
		for range rapid.IntRange(0, 80).Draw(t, "inserts") {
			id := uint32(rapid.IntRange(0, 60).Draw(t, "id"))
			var fresh bool
			if r, fresh = r.insert(id); fresh == set[id] {
				t.Fatalf("insert %d reported %t", id, fresh)
			}
			set[id] = true
			checkRuns(t, r, set)
		}
		var gone []uint32
		for id := range uint32(62) {
			if r.contains(id) != set[id] {
				t.Fatalf("contains %d: %t", id, !set[id])
			}
			if rapid.Bool().Draw(t, "gone") {
				gone = append(gone, id)
			}
		}
		hit := newBitset(len(gone))
		r.mark(gone, hit)
		common := false
		for i, id := range gone {
			common = common || set[id]
			if hit.has(i) != set[id] {
				t.Fatalf("mark of %d: %t", id, hit.has(i))
			}
		}
		if r.overlaps(gone) != common {
			t.Fatalf("overlaps: %t", !common)
		}
		for _, id := range gone {
			delete(set, id)
		}
		checkRuns(t, r.subtract(gone), set)
	})
}

// checkRuns asserts the ids of r and that no two runs could be one.
func checkRuns(t *rapid.T, r runs, set map[uint32]bool) {
	t.Helper()
	want := slices.Sorted(maps.Keys(set))
	if got := r.appendTo(nil); !slices.Equal(got, want) {
		t.Fatalf("runs %x hold %v, want %v", []uint32(r), got, want)
	}
	if r.count() != len(want) {
		t.Fatalf("count %d, want %d", r.count(), len(want))
	}
	end := -2
	r.each(func(first, last uint32) bool {
		if int(first) <= end+1 || last < first {
			t.Fatalf("runs %x are not maximal", []uint32(r))
		}
		end = int(last)
		return true
	})
}

func TestPostingsEqualASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls := lists{meter: &meter{}}
		var p postings
		set := map[uint32]bool{}
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			n := rapid.SampledFrom([]int{1, 3, 6, 50, 1500, 5000}).Draw(t, "n")
			step := rapid.SampledFrom([]uint32{1, 2, 7, 90}).Draw(t, "step")
			start := uint32(rapid.IntRange(0, 200000).Draw(t, "start"))
			for i := range uint32(n) {
				id := start + i*step
				if ls.add(&p, id) == set[id] {
					t.Fatalf("add %d reported %t", id, set[id])
				}
				set[id] = true
			}
			checkPostings(t, &ls, &p, set)
			keep := uint32(rapid.SampledFrom([]int{1, 2, 3, 100}).Draw(t, "keep"))
			gone := slices.DeleteFunc(slices.Sorted(maps.Keys(set)), func(id uint32) bool { return id%keep == 0 })
			ls.subtract(&p, gone)
			for _, id := range gone {
				delete(set, id)
			}
			checkPostings(t, &ls, &p, set)
		}
	})
}

func checkPostings(t *rapid.T, ls *lists, p *postings, set map[uint32]bool) {
	t.Helper()
	want := slices.Sorted(maps.Keys(set))
	if got := ls.appendTo(nil, p); !slices.Equal(got, want) || int(p.n) != len(want) {
		t.Fatalf("postings hold %d ids (n %d), want %d", len(got), p.n, len(want))
	}
	every := rapid.SampledFrom([]uint32{1, 7, 5000}).Draw(t, "every")
	var ids []uint32
	for id := uint32(0); id < 300000; id += every {
		ids = append(ids, id)
	}
	hit := newBitset(len(ids))
	ls.mark(p, ids, hit)
	common := false
	for i, id := range ids {
		common = common || set[id]
		if hit.has(i) != set[id] {
			t.Fatalf("mark of %d: %t", id, hit.has(i))
		}
	}
	if ls.overlaps(p, ids) != common {
		t.Fatalf("overlaps: %t", !common)
	}
}

func TestGallopFindsFirstNotBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOf(rapid.Uint32Range(0, 100)).Draw(t, "ids"))))
		id := rapid.Uint32Range(0, 101).Draw(t, "id")
		want, _ := slices.BinarySearch(ids, id)
		if got := gallop(ids, id); got != want {
			t.Fatalf("gallop(%v, %d) = %d, want %d", ids, id, got, want)
		}
	})
}

func TestBitmapTakesLongAndShortRuns(t *testing.T) {
	ls := lists{meter: &meter{}}
	var p postings
	want := 0
	for id := range uint32(100_000) {
		if id < 40_000 || id%2 == 0 { // one long run, then a run for each id
			ls.add(&p, id)
			want++
		}
	}
	if ls.all[p.ids[0]].bitmap == nil {
		t.Fatal("no bitmap")
	}
	ids := ls.appendTo(nil, &p)
	if len(ids) != want || int(p.n) != want || !slices.IsSorted(ids) || ids[39_999] != 39_999 || ids[40_001] != 40_002 {
		t.Errorf("%d ids, want %d", len(ids), want)
	}
	if got := ls.meter.used; got > 40_000 {
		t.Errorf("%d bytes for a run and 30,000 ids in 4 containers", got)
	}
}

func TestRunsAreMergedIntoIDs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var r runs
		var ids, all []uint32
		n := uint32(rnd.IntN(200))
		share := rnd.IntN(10)
		for id := range n {
			switch x := rnd.IntN(12); {
			case x < share:
				ids = append(ids, id)
				all = append(all, id)
			case x < 11:
				r = r.add(id, id)
				all = append(all, id)
			}
		}
		got := r.mergeInto(append([]uint32{7, 5}, ids...), 2)
		if !slices.Equal(got, append([]uint32{7, 5}, all...)) {
			t.Fatalf("%v and %v make %v", r, ids, got)
		}
	}
}
