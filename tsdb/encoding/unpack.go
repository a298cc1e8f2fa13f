// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import "encoding/binary"

// unpackAdd adds to each of x a number of width bits, which stand one after the other from bit pos on. Eight rows are done
// at a time, as many as there can be from one word.
func unpackAdd(x []int64, b []byte, pos, width uint) {
	if width == 0 {
		return
	}
	near := uint(0) // rows behind which there is a full word
	if end := 8 * uint(len(b)); end >= pos+128 && width <= 57 {
		near = min(uint(len(x)), (end-pos-128)/width)
	}
	rows := near &^ 7
	switch {
	case width <= 7:
		unpack7(x[:rows], b, pos, width)
	case width <= 14:
		unpack14(x[:rows], b, pos, width)
	case width <= 28:
		unpack28(x[:rows], b, pos, width)
	default:
		rows = 0
	}
	unpack57(x[rows:near], b, pos+rows*width, width)
	pos += near * width
	x = x[near:]
	for i := range x {
		x[i] += int64(field(b, pos, width))
		pos += width
	}
}

// at returns the bits from pos on: 57 at least.
func at(b []byte, pos uint) uint64 { return binary.LittleEndian.Uint64(b[pos>>3:]) >> (pos & 7) }

func unpack7(x []int64, b []byte, pos, width uint) {
	mask, n := int64(1)<<(width&63)-1, width&63
	for ; len(x) >= 8; x = x[8:] {
		out := (*[8]int64)(x)
		w := at(b, pos)
		out[0] += int64(w) & mask
		w >>= n
		out[1] += int64(w) & mask
		w >>= n
		out[2] += int64(w) & mask
		w >>= n
		out[3] += int64(w) & mask
		w >>= n
		out[4] += int64(w) & mask
		w >>= n
		out[5] += int64(w) & mask
		w >>= n
		out[6] += int64(w) & mask
		w >>= n
		out[7] += int64(w) & mask
		pos += 8 * width
	}
}

func unpack14(x []int64, b []byte, pos, width uint) {
	mask, n := int64(1)<<(width&63)-1, width&63
	for ; len(x) >= 8; x = x[8:] {
		out := (*[8]int64)(x)
		v, w := at(b, pos), at(b, pos+4*width)
		out[0] += int64(v) & mask
		out[4] += int64(w) & mask
		v, w = v>>n, w>>n
		out[1] += int64(v) & mask
		out[5] += int64(w) & mask
		v, w = v>>n, w>>n
		out[2] += int64(v) & mask
		out[6] += int64(w) & mask
		v, w = v>>n, w>>n
		out[3] += int64(v) & mask
		out[7] += int64(w) & mask
		pos += 8 * width
	}
}

func unpack28(x []int64, b []byte, pos, width uint) {
	mask, n := int64(1)<<(width&63)-1, width&63
	for ; len(x) >= 8; x = x[8:] {
		out := (*[8]int64)(x)
		u, v := at(b, pos), at(b, pos+2*width)
		out[0] += int64(u) & mask
		out[1] += int64(u>>n) & mask
		out[2] += int64(v) & mask
		out[3] += int64(v>>n) & mask
		pos += 4 * width
		u, v = at(b, pos), at(b, pos+2*width)
		out[4] += int64(u) & mask
		out[5] += int64(u>>n) & mask
		out[6] += int64(v) & mask
		out[7] += int64(v>>n) & mask
		pos += 4 * width
	}
}

func unpack57(x []int64, b []byte, pos, width uint) {
	mask := int64(1)<<(width&63) - 1
	for i := range x {
		x[i] += int64(at(b, pos)) & mask
		pos += width
	}
}
