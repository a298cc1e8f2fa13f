// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// addAll adds series through a Bulk, and some labels that none of them has.
func (h *head) addAll(t failer, m model, unused ...string) {
	t.Helper()
	b := h.mem.Bulk()
	numbers := map[labels.Label]uint32{}
	syms := map[uint32][2]uint32{}
	number := func(l labels.Label) uint32 {
		n, ok := numbers[l]
		if !ok {
			n = uint32(len(numbers))
			numbers[l] = n
			name, value, err := b.Pair(l.Name, l.Value)
			if err != nil {
				t.Fatalf("pair: %v", err)
			}
			syms[n] = [2]uint32{name, value}
		}
		return n
	}
	for _, text := range unused {
		number(labels.Label{Name: text, Value: "nobody has it"})
	}
	var ids, ends, pairs []uint32
	for _, id := range slices.Sorted(maps.Keys(m)) {
		h.pairs[id] = nil
		m[id].Range(func(l labels.Label) {
			n := number(l)
			pairs = append(pairs, n)
			h.pairs[id] = append(h.pairs[id], syms[n][0], syms[n][1])
		})
		ids, ends = append(ids, id), append(ends, uint32(len(pairs)))
	}
	if err := b.Add(ids, ends, pairs); err != nil {
		t.Fatalf("add: %v", err)
	}
	b.End()
}

func TestBulkMakesTheIndexThatAddMakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, m := newHead(), model{}
		for range rapid.IntRange(1, 3).Draw(t, "rounds") {
			more := model{}
			for range rapid.IntRange(0, 60).Draw(t, "adds") {
				id := uint32(rapid.IntRange(0, 3000).Draw(t, "id"))
				if _, used := m[id]; !used {
					more[id] = genLabels(t)
				}
			}
			h.addAll(t, more, "a", "unused")
			maps.Copy(m, more)
			for range 3 {
				compare(t, h.mem, m, genMatchers(t), rapid.IntRange(0, 3).Draw(t, "limit"))
			}
			for id, ls := range m {
				if pairs, ok := h.mem.FindPairs(ls, nil); !ok || !slices.Equal(pairs, h.pairs[id]) {
					t.Fatalf("FindPairs(%s) = %v, %t, want %v", ls, pairs, ok, h.pairs[id])
				}
			}
		}
		if _, ok := h.mem.FindPairs(labels.FromStrings("a", "nobody has it"), nil); ok {
			t.Fatal("a label that no series has is still there")
		}
		h.remove(slices.Sorted(maps.Keys(m)))
		s, p := &h.mem.mu.symbols, &h.mem.mu.pairs
		if symbols, pairs := int(s.n)-len(s.free), int(p.n)-len(p.free); symbols+pairs+len(h.mem.mu.names) != 0 {
			t.Fatalf("%d symbols, %d pairs and %d names are left of no series", symbols, pairs, len(h.mem.mu.names))
		}
	})
}

func TestBulkRefusesWhatIsThereAndWhatHasNoRoom(t *testing.T) {
	m := NewMem(nil)
	b := m.Bulk()
	if _, _, err := b.Pair("a", "x"); err != nil {
		t.Fatal(err)
	}
	if err := b.Add([]uint32{1, 1}, []uint32{1, 2}, []uint32{0, 0}); !errors.Is(err, ErrInUse) {
		t.Errorf("an id twice: %v", err)
	}
	if err := b.Add([]uint32{maxID + 1}, []uint32{1}, []uint32{0}); !errors.Is(err, ErrID) {
		t.Errorf("an id that is too large: %v", err)
	}
	full := NewMem(budget.NewRoot("test", 1))
	var exceeded *budget.ExceededError
	if _, _, err := full.Bulk().Pair("a", "x"); !errors.As(err, &exceeded) {
		t.Errorf("no memory: %v", err)
	}
	if s := &full.mu.symbols; int(s.n) != len(s.free) {
		t.Error("a symbol is left of a label that had no room")
	}
}
