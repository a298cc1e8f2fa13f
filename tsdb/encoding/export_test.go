// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"fmt"
	"math"
)

// AppendXOR appends v by the XOR code, whatever takes fewest bytes.
func AppendXOR(dst []byte, v []float64) []byte { return appendXOR(dst, v, math.MaxInt32) }

// Describe names the codec of a column of values.
func Describe(src []byte) string {
	codec := src[0] &^ patchedFlag
	h := header{src: src, off: 1}
	name := ""
	switch codec {
	case valuesRaw:
		return "raw"
	case valuesConst:
		return "constant"
	case valuesXOR:
		return "xor"
	case valuesRef:
		return "ref"
	case valuesDiff:
		h.uvarint()
		h.u8()
		name = "difference"
	case valuesOrdered:
		name = "ordered"
	case valuesUlp:
		h.varint()
		name = "ulp"
	default:
		name = "decimal"
	}
	if src[0]&patchedFlag != 0 {
		return name + " patched"
	}
	kind := h.u8()
	form := []string{"const", "pack", "rice", "huffman", "segments", "sparse", "patch"}[kind>>formShift]
	return fmt.Sprintf("%s %d %s", name, kind&orderMask, form)
}
