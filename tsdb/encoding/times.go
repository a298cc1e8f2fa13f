// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"slices"
)

const (
	timesAffine = iota
	timesDeltas
)

// Times is a column of times in milliseconds, strictly ascending. It is immutable.
type Times struct {
	n           int
	first, step int64
	list        []int64 // nil: affine
}

// AppendTimes appends t, which ascends strictly, as a self-describing column and returns the longer slice.
func (e *Encoder) AppendTimes(dst []byte, t []int64) []byte {
	if len(t) == 0 {
		return append(dst, timesAffine, 0)
	}
	step := int64(1)
	if len(t) > 1 {
		step = t[1] - t[0]
	}
	affine := true
	for i := range t {
		affine = affine && t[i] == t[0]+step*int64(i)
	}
	if affine {
		dst = binary.AppendUvarint(append(dst, timesAffine), uint64(len(t)))
		return binary.AppendUvarint(binary.AppendVarint(dst, t[0]), uint64(step))
	}
	dst = binary.AppendUvarint(append(dst, timesDeltas), uint64(len(t)))
	dst = binary.AppendVarint(dst, t[0])
	for i := range t[1:] {
		dst = binary.AppendUvarint(dst, uint64(t[i+1]-t[i]))
	}
	return dst
}

// ParseTimes reads and checks a column of times. The answer does not keep src.
func ParseTimes(src []byte) (Times, error) {
	var t Times
	if len(src) == 0 || src[0] > timesDeltas {
		return t, &CorruptError{Msg: "unknown codec of times"}
	}
	off := 1
	bad := false
	uvarint := func() uint64 {
		u, w := binary.Uvarint(src[off:])
		bad = bad || w <= 0
		off += max(w, 0)
		return u
	}
	n := uvarint()
	if bad || n > 1<<31 {
		return t, &CorruptError{Msg: "number of times", Off: off}
	}
	t.n = int(n)
	if n == 0 {
		return t, nil
	}
	u := uvarint()
	t.first = int64(u>>1) ^ -int64(u&1)
	if src[0] == timesAffine {
		t.step = int64(uvarint())
		if bad || t.step <= 0 || n > 1 && t.First()+t.step*(int64(n)-1) < t.first {
			return Times{}, &CorruptError{Msg: "step", Off: off}
		}
		return t, nil
	}
	if len(src)-off < t.n-1 {
		return Times{}, &CorruptError{Msg: "times cut short", Off: off}
	}
	last := t.first
	t.list = append(make([]int64, 0, t.n), last)
	for range n - 1 {
		d := uvarint()
		if bad || last+int64(d) <= last {
			return Times{}, &CorruptError{Msg: "times do not ascend", Off: off}
		}
		last += int64(d)
		t.list = append(t.list, last)
	}
	return t, nil
}

// Len returns the number of rows.
func (t *Times) Len() int { return t.n }

// First returns the first time, 0 if there is none.
func (t *Times) First() int64 { return t.first }

// Last returns the last time, 0 if there is none.
func (t *Times) Last() int64 {
	if t.n == 0 {
		return 0
	}
	return t.at(t.n - 1)
}

func (t *Times) at(i int) int64 {
	if t.list != nil {
		return t.list[i]
	}
	return t.first + t.step*int64(i)
}

// Search returns the first row whose time is at least x, Len if there is none.
func (t *Times) Search(x int64) int {
	switch {
	case t.n == 0 || x <= t.first:
		return 0
	case x > t.Last():
		return t.n
	case t.list != nil:
		i, _ := slices.BinarySearch(t.list, x)
		return i
	}
	return int((uint64(x-t.first) + uint64(t.step) - 1) / uint64(t.step))
}

// AppendTo appends the times of the rows [from, to) to dst; 0 <= from <= to <= Len.
func (t *Times) AppendTo(dst []int64, from, to int) []int64 {
	if t.list != nil {
		return append(dst, t.list[from:to]...)
	}
	for i := from; i < to; i++ {
		dst = append(dst, t.first+t.step*int64(i))
	}
	return dst
}
