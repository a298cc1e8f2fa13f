// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"github.com/prometheus/prometheus/model/value"
)

// rest is what a line of the text format has behind its series.
type rest struct {
	v    float64
	t    int64
	hasT bool
	end  int // where the next line begins
}

// readRest reads value and timestamp from pos on, up to the end of the line. It is not ok where a parser has to look: what
// is not written as nearly everybody writes it, what is no number, and a line without an end.
func readRest(b []byte, pos int) (r rest, ok bool) {
	v, at, exact := readDecimal(b, pos)
	if !exact {
		end := at
		for end < len(b) && b[end] > ' ' && b[end] != '{' {
			end++
		}
		text := unsafe.String(unsafe.SliceData(b[pos:end]), end-pos)
		if text == "" || strings.ContainsAny(text, "pP_") { // floats of newer versions of Go, which the format does not have
			return rest{}, false
		}
		var err error
		if v, err = strconv.ParseFloat(text, 64); err != nil {
			return rest{}, false
		}
		if math.IsNaN(v) {
			v = math.Float64frombits(value.NormalNaN)
		}
		at = end
	}
	r.v = v
	if at < len(b) && b[at] == '\n' {
		r.end = at + 1
		return r, true
	}
	if at+1 >= len(b) || b[at] != ' ' {
		return rest{}, false
	}
	at++
	n := bytes.IndexByte(b[at:], '\n')
	const digits = 18 // as many as fit into an int64 for sure
	if n < 1 || n > digits {
		return rest{}, false
	}
	for _, c := range b[at : at+n] {
		if c < '0' || c > '9' {
			return rest{}, false
		}
		r.t = r.t*10 + int64(c-'0')
	}
	r.hasT, r.end = true, at+n+1
	return r, true
}

// readDecimal reads a number of at most 15 digits, with a fraction and an exponent or without, whose value is the quotient
// or the product of two numbers that a float64 has exactly, so that it is rounded once. It returns where it stopped, which
// is at the end of the number if it is exact.
func readDecimal(b []byte, pos int) (v float64, at int, exact bool) {
	at = pos
	negative := at < len(b) && b[at] == '-'
	if negative {
		at++
	}
	var mantissa uint64
	digits, fraction, point := 0, 0, false
	for ; at < len(b); at++ {
		c := b[at]
		if c-'0' < 10 {
			mantissa = mantissa*10 + uint64(c-'0')
			digits++
			if point {
				fraction++
			}
			continue
		}
		if c != '.' || point {
			break
		}
		point = true
	}
	if digits == 0 || digits > 15 || at == len(b) {
		return 0, at, false
	}
	exponent := 0
	if b[at] == 'e' {
		if exponent, at = readExponent(b, at+1); at < 0 {
			return 0, pos, false
		}
	}
	if at == len(b) || b[at] != '\n' && b[at] != ' ' {
		return 0, at, false
	}
	if v, exact = scale(float64(mantissa), exponent-fraction); negative {
		v = -v
	}
	return v, at, exact
}

// scale multiplies v by a power of ten, if that is rounded once.
func scale(v float64, exponent int) (float64, bool) {
	const most = 22 // the highest power that a float64 has exactly
	powers := [most + 1]float64{
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
	}
	switch {
	case exponent == 0:
		return v, true
	case exponent > most || exponent < -most:
		return 0, false
	case exponent > 0:
		return v * powers[exponent], true
	}
	return v / powers[-exponent], true
}

// readExponent reads an exponent of one or two digits with its sign. It ends at -1 if it is none.
func readExponent(b []byte, at int) (exponent, end int) {
	negative := false
	if at < len(b) && (b[at] == '-' || b[at] == '+') {
		negative = b[at] == '-'
		at++
	}
	from := at
	for at < len(b) && b[at]-'0' < 10 && at-from < 3 {
		exponent = exponent*10 + int(b[at]-'0')
		at++
	}
	if at == from || at-from > 2 {
		return 0, -1
	}
	if negative {
		exponent = -exponent
	}
	return exponent, at
}
