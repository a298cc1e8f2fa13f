// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena

import (
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/invariant"
)

// tablePage is the size, at most, of the pages that a table grows by.
const tablePage = 64 << 10

// Table is an array outside the Go heap that grows and never moves: pointers to its records stay good until
// Close. T must hold no pointers. The owner locks, as with an Arena, but records that are there may be used
// while other records are.
type Table[T any] struct {
	opts      Options
	pages     []unsafe.Pointer // first record of each
	raw       [][]byte         // the mappings behind pages
	shift     uint32           // records of a page: 1<<shift
	mask      uint32           // and one less
	pageBytes int64
}

// NewTable returns an empty table.
func NewTable[T any](opts Options) *Table[T] {
	typ := reflect.TypeFor[T]()
	if hasPointers(typ) || typ.Size() == 0 || typ.Size() > tablePage {
		invariant.Failf("arena: a table cannot hold %v, which has pointers, no size or too much of it", typ)
	}
	t := &Table[T]{opts: opts, shift: uint32(bits.Len64(tablePage/uint64(typ.Size())) - 1)}
	t.mask = 1<<t.shift - 1
	const page = 4 << 10 // what is mapped and charged is whole pages of memory
	t.pageBytes = (int64(typ.Size())<<t.shift + page - 1) &^ (page - 1)
	return t
}

// Cap returns how many records there are: the indices below it may be used.
func (t *Table[T]) Cap() uint32 { return uint32(len(t.pages)) << t.shift }

// Bytes returns the memory the table holds and is charged for.
func (t *Table[T]) Bytes() int64 { return t.pageBytes * int64(len(t.pages)) }

// Grow makes at least the records 0 to n-1; new ones are zero. The error is a *budget.ExceededError or what the
// operating system said; the records there were stay.
func (t *Table[T]) Grow(n uint32) error {
	for t.Cap() < n {
		if err := t.opts.Account.Reserve(t.pageBytes); err != nil {
			return err
		}
		raw, err := mapRegion(int(t.pageBytes))
		if err != nil {
			t.opts.Account.Release(t.pageBytes)
			return fmt.Errorf("arena: map %d bytes of memory: %w", t.pageBytes, err)
		}
		t.raw = append(t.raw, raw)
		t.pages = append(t.pages, unsafe.Pointer(unsafe.SliceData(raw)))
	}
	return nil
}

// At returns record i, which Grow has made.
func (t *Table[T]) At(i uint32) *T {
	var one T
	// That the shift is less than 32 is said so that no code comes of the case that it is not.
	return (*T)(unsafe.Add(t.pages[i>>(t.shift&31)], uintptr(i&t.mask)*unsafe.Sizeof(one)))
}

// PerPage returns how many records share a page of memory that Vacate gives back: n of them from a multiple of n on.
func (t *Table[T]) PerPage() uint32 { return 1 << t.shift }

// Vacate gives the memory of the page that record i is in to the operating system. All of its records are zero, and stay
// so until they are used again; for that the page stays charged.
func (t *Table[T]) Vacate(i uint32) {
	_ = dropPages(t.raw[i>>t.shift]) // what is not dropped is zero all the same
}

// Close gives all memory back. The table is empty then; closing twice is harmless.
func (t *Table[T]) Close() error {
	var errs []error
	for _, raw := range t.raw {
		errs = append(errs, unmapRegion(raw))
	}
	t.opts.Account.Release(t.Bytes())
	t.pages, t.raw = nil, nil
	return errors.Join(errs...)
}

// hasPointers reports whether values of a type keep heap objects alive.
func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			if hasPointers(f.Type) {
				return true
			}
		}
		return false
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	default:
		return t.Kind() > reflect.Complex128
	}
}
