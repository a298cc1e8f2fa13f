// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

//go:generate go test -run KernelsAreAsGenerated -write-kernels

// maxKernel is the greatest width with a kernel: one word holds such a number at any two bits within bytes.
const maxKernel = 50

// unpack sets each of x to base plus a number of width bits, which stand one after the other from bit pos on. Eight are done
// at a time while there is a full word behind them.
func unpack(x []int64, b []byte, pos, width uint, base int64) {
	if width == 0 {
		for i := range x {
			x[i] = base
		}
		return
	}
	if at := pos >> 3; width <= maxKernel && at+8 <= uint(len(b)) {
		rows := 8 * min(uint(len(x))/8, (uint(len(b))-at-8)/width)
		unpackEights(x[:rows], b[at:], pos&7, width, base)
		pos += rows * width
		x = x[rows:]
	}
	if width > 57 {
		for i := range x {
			x[i] = base + int64(field(b, pos, width))
			pos += width
		}
		return
	}
	mask := uint64(1)<<(width&63) - 1
	for i := range x {
		x[i] = base + int64(word(b, pos>>3)>>(pos&7)&mask)
		pos += width
	}
}
