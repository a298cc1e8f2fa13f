// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package retain holds what operators keep that cannot pass rows on one by one: memory that is charged to the query
// before it is allocated, rows that are done, and the cursor that yields them.
//
// Memory is for one goroutine. Rows are immutable once a cursor reads them; cursors may run side by side.
package retain

import (
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Memory is what an operator holds, charged to an account. The zero value charges nobody.
type Memory struct {
	Account *budget.Account

	bytes int64
}

// Charge takes n bytes from the account before they are allocated.
func (m *Memory) Charge(n int64) error {
	if err := m.Account.Reserve(n); err != nil {
		return err
	}
	m.bytes += n
	return nil
}

// Refund gives n bytes back.
func (m *Memory) Refund(n int64) {
	m.Account.Release(n)
	m.bytes -= n
}

// Release gives back everything.
func (m *Memory) Release() {
	m.Account.Release(m.bytes)
	m.bytes = 0
}

// Make returns n zero values that m is charged for.
func Make[T any](m *Memory, n int) ([]T, error) {
	var t T
	if err := m.Charge(int64(n) * int64(unsafe.Sizeof(t))); err != nil {
		return nil, err
	}
	return make([]T, n), nil
}

// Push appends to s and charges m where s has to grow.
func Push[T any](m *Memory, s []T, x T) ([]T, error) {
	if len(s) == cap(s) {
		g, err := Make[T](m, max(64, cap(s)*3/2))
		if err != nil {
			return s, err
		}
		copy(g, s)
		Drop(m, s)
		s = g[:len(s)]
	}
	return append(s, x), nil
}

// Extend makes s longer by n values: zero values, unless s was longer before. What grows again and again is copied a
// few times only.
func Extend[T any](m *Memory, s []T, n int) ([]T, error) {
	n += len(s)
	if n <= cap(s) {
		return s[:n], nil
	}
	g, err := Make[T](m, max(n, cap(s)*3/2))
	if err != nil {
		return s, err
	}
	copy(g, s)
	Drop(m, s)
	return g[:n], nil
}

// Drop gives back what s was charged for.
func Drop[T any](m *Memory, s []T) {
	var t T
	m.Refund(int64(cap(s)) * int64(unsafe.Sizeof(t)))
}
