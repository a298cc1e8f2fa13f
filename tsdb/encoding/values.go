// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
)

// Codecs of values.
const (
	valuesRaw = iota
	valuesRef
)

// AppendValues appends v, all of it bit for bit, as a self-describing column and returns the longer slice. refs
// are columns of the same length by which v may be expressed; ValueRef tells whether and by which it is.
func (e *Encoder) AppendValues(dst []byte, v []float64, refs [][]float64) []byte {
	for k, r := range refs {
		if sameBits(v, r) {
			return binary.AppendUvarint(append(dst, valuesRef), uint64(k))
		}
	}
	dst = append(dst, valuesRaw)
	for _, f := range v {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
	}
	return dst
}

func sameBits(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float64bits(a[i]) != math.Float64bits(b[i]) {
			return false
		}
	}
	return true
}

// DecodeValues appends the rows [from, to) of a column of n rows to dst; 0 <= from <= to <= n. ref answers the
// whole column of n rows that a reference means; it is called only for columns of which ValueRef says so. A
// *CorruptError says that the bytes do not follow the format.
func DecodeValues(dst []float64, src []byte, n, from, to int, ref func(k int) ([]float64, error)) ([]float64, error) {
	if len(src) == 0 {
		return dst, &CorruptError{Msg: "no codec"}
	}
	switch src[0] {
	case valuesRaw:
		if len(src)-1 != 8*n {
			return dst, &CorruptError{Msg: "raw values do not fill the column", Off: 1}
		}
		for i := from; i < to; i++ {
			dst = append(dst, math.Float64frombits(binary.LittleEndian.Uint64(src[1+8*i:])))
		}
		return dst, nil
	case valuesRef:
		k, ok := ValueRef(src)
		if !ok || ref == nil {
			return dst, &CorruptError{Msg: "reference without a column", Off: 1}
		}
		v, err := ref(k)
		if err != nil {
			return dst, err
		}
		if len(v) != n {
			return dst, &CorruptError{Msg: "reference to a column of another length", Off: 1}
		}
		return append(dst, v[from:to]...), nil
	}
	return dst, &CorruptError{Msg: "unknown codec of values"}
}

// ValueRef tells which of the refs a column of values needs in order to be decoded, if any.
func ValueRef(src []byte) (k int, ok bool) {
	if len(src) < 2 || src[0] != valuesRef {
		return 0, false
	}
	u, w := binary.Uvarint(src[1:])
	return int(u), w > 0 && u <= math.MaxInt32
}
