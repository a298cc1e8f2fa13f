// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import "encoding/binary"

const intsVarint = 0

// AppendInts appends x as a self-describing column and returns the longer slice.
func (e *Encoder) AppendInts(dst []byte, x []int64) []byte {
	dst = append(dst, intsVarint)
	var last int64
	for _, i := range x {
		dst = binary.AppendVarint(dst, i-last)
		last = i
	}
	return dst
}

// DecodeInts appends the rows [from, to) of a column of n rows to dst; 0 <= from <= to <= n. A *CorruptError
// says that the bytes do not follow the format.
func DecodeInts(dst []int64, src []byte, n, from, to int) ([]int64, error) {
	if len(src) == 0 || src[0] != intsVarint {
		return dst, &CorruptError{Msg: "unknown codec of integers"}
	}
	off := 1
	var last int64
	for i := range n {
		d, w := binary.Varint(src[off:])
		if w <= 0 {
			return dst, &CorruptError{Msg: "integer cut short", Off: off}
		}
		off += w
		last += d
		if i >= from && i < to {
			dst = append(dst, last)
		}
	}
	if off != len(src) {
		return dst, &CorruptError{Msg: "bytes behind the last integer", Off: off}
	}
	return dst, nil
}
