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

// vacate gives back the page of memory that a record is in, if all of its records are zero again, and returns the number
// of the first record behind it.
func vacate[T comparable](t *table[T], i uint32) (next uint32) {
	var zero T
	per := t.records.PerPage()
	from := i / per * per
	for k := from; k < from+per; k++ {
		if *t.at(k) != zero {
			return from + per
		}
	}
	t.records.Vacate(i)
	return from + per
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
