// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"github.com/tidemarkdb/tidemark/tsdb/arena"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// table is records off the heap that are taken by number.
type table[T any] struct {
	records *arena.Table[T]
	next    uint32 // numbers from here on were never taken
}

func newTable[T any](a *budget.Account) table[T] {
	return table[T]{records: arena.NewTable[T](arena.Options{Account: a})}
}

// len returns how many numbers were ever taken: those below it are good for at.
func (t *table[T]) len() uint32 { return t.next }

func (t *table[T]) at(i uint32) *T { return t.records.At(i) }

// take returns the number of a record that is zero.
func (t *table[T]) take() (uint32, error) {
	if err := t.records.Grow(t.next + 1); err != nil {
		return 0, err
	}
	t.next++
	return t.next - 1, nil
}

// vacate gives back the pages of memory of which all records are zero again, among those of the records given.
func vacate[T comparable](t *table[T], used []uint32) {
	var zero T
	per := t.records.PerPage()
	looked := map[uint32]bool{}
	for _, i := range used {
		page := i / per
		if looked[page] {
			continue
		}
		looked[page] = true
		empty := true
		for k := page * per; k < (page+1)*per && empty; k++ {
			empty = *t.at(k) == zero
		}
		if empty {
			t.records.Vacate(i)
		}
	}
}

// put copies b into a new block of a.
func put(a *arena.Arena, b []byte) (arena.Ref, error) {
	ref, err := a.Alloc(len(b))
	if err != nil {
		return 0, err
	}
	copy(a.Bytes(ref), b)
	return ref, nil
}
