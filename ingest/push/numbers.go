// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package push

import (
	"errors"
	"math"
	"strconv"
	"unsafe"
)

var (
	errNumber = errors.New("not a number")
	errRange  = errors.New("out of range")
)

// Decimal reads a decimal number without allocating. Unlike strconv it takes neither hexadecimal digits nor underscores;
// words for infinity and NaN it takes where words is true.
func Decimal(b []byte, words bool) (float64, error) {
	if v, ok := shortInteger(b); ok {
		return v, nil
	}
	for _, c := range b {
		digit := c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E'
		if !digit && (!words || c == 'x' || c == 'X' || c == '_' || c == 'p' || c == 'P') {
			return 0, errNumber
		}
	}
	v, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(b), len(b)), 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errRange
	}
	if err != nil {
		return 0, errNumber
	}
	return v, nil
}

// shortInteger reads up to 15 digits, which a float holds exactly: counters mostly are such.
func shortInteger(b []byte) (float64, bool) {
	digits := b
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		digits = b[1:]
	}
	if len(digits) == 0 || len(digits) > 15 {
		return 0, false
	}
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		if n == 0 {
			return math.Copysign(0, -1), true
		}
		n = -n
	}
	return float64(n), true
}

// Integer reads a whole number with an optional minus.
func Integer(b []byte) (int64, error) {
	digits := b
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		digits = b[1:]
	}
	if len(digits) == 0 {
		return 0, errNumber
	}
	n := uint64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, errNumber
		}
		if n > (math.MaxUint64-9)/10 {
			return 0, errRange
		}
		n = n*10 + uint64(c-'0')
	}
	if negative {
		if n > 1<<63 {
			return 0, errRange
		}
		return -int64(n), nil
	}
	if n > math.MaxInt64 {
		return 0, errRange
	}
	return int64(n), nil
}
