// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import "strconv"

// naturalLess is the natural order of texts as github.com/facette/natsort has it, digits compared as numbers. It is
// no order in the strict sense ("01" and "1" are each less than the other), and answers depend on that.
func naturalLess(a, b string) bool {
	for a != "" {
		if b == "" {
			return false
		}
		var x, y string
		x, a = cutRun(a)
		y, b = cutRun(b)
		m, errX := strconv.Atoi(x)
		n, errY := strconv.Atoi(y)
		numbers := errX == nil && errY == nil
		switch {
		case numbers && m != n:
			return m < n
		case !numbers && x != y:
			return x < y
		case a == "":
			return true
		case b == "":
			return false
		}
	}
	return false
}

// cutRun cuts the digits, or what is no digit, off the front of s.
func cutRun(s string) (run, rest string) {
	i := 1
	for i < len(s) && digit(s[i]) == digit(s[0]) {
		i++
	}
	return s[:i], s[i:]
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
