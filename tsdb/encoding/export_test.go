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
	case valuesProduct:
		h.u8()
		name = "product"
	case valuesNear:
		h.u8()
		h.uvarint()
		name = "near"
	default:
		name = "decimal"
	}
	if src[0]&patchedFlag != 0 {
		return name + " patched"
	}
	return name + describeInts(src[h.off])
}

func describeInts(kind byte) string {
	form := [...]string{"const", "pack", "rice", "huffman", "segments", "sparse", "patch"}[kind>>formShift]
	return fmt.Sprintf(" %d %s", kind&orderMask, form)
}

// DescribeColumn names the codec of a column of that kind.
func DescribeColumn(kind string, src []byte) string {
	switch kind {
	case "integers":
		return describeInts(src[0])
	case "times":
		return [...]string{"affine", "line", "list"}[src[0]]
	}
	return Describe(src)
}
