// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"unsafe"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// held is memory charged to a query.
type held struct {
	account *budget.Account
	bytes   int64
}

// charge takes n bytes from the budget before they are allocated.
func (h *held) charge(n int64) error {
	if err := h.account.Reserve(n); err != nil {
		return err
	}
	h.bytes += n
	return nil
}

// refund gives n bytes back.
func (h *held) refund(n int64) {
	h.account.Release(n)
	h.bytes -= n
}

// release gives back everything.
func (h *held) release() {
	h.account.Release(h.bytes)
	h.bytes = 0
}

// allocate returns n zero values that h is charged for.
func allocate[T any](h *held, n int) ([]T, error) {
	var t T
	if err := h.charge(int64(n) * int64(unsafe.Sizeof(t))); err != nil {
		return nil, err
	}
	return make([]T, n), nil
}

// push appends to s and charges h where s has to grow.
func push[T any](h *held, s []T, x T) ([]T, error) {
	if len(s) == cap(s) {
		n := max(64, cap(s)*3/2)
		g, err := allocate[T](h, n)
		if err != nil {
			return s, err
		}
		copy(g, s)
		refundSlice(h, s)
		s = g[:len(s)]
	}
	return append(s, x), nil
}

// refundSlice gives back what s was charged for.
func refundSlice[T any](h *held, s []T) {
	var t T
	h.refund(int64(cap(s)) * int64(unsafe.Sizeof(t)))
}

// extend makes s longer by n zero values.
func extend[T any](h *held, s []T, n int) ([]T, error) {
	if len(s)+n <= cap(s) {
		return s[:len(s)+n], nil
	}
	g, err := allocate[T](h, len(s)+n)
	if err != nil {
		return s, err
	}
	copy(g, s)
	refundSlice(h, s)
	return g, nil
}
