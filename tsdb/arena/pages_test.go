// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena

import "testing"

// A system with pages of 64 KiB would take the neighbours of a span with it.
func TestOnlyWholePagesAreGivenBack(t *testing.T) {
	const span, small, large = 16 << 10, 4 << 10, 64 << 10
	for _, c := range []struct {
		addr    uintptr
		n, page int
		want    bool
	}{
		{0, span, small, true},
		{span, span, small, true},
		{span, span, span, true},
		{0, span, large, false},
		{large, span, large, false},
		{span, large, large, false},
		{large, 4 * span, large, true},
		{100, span, small, false},
		{0, 0, small, false},
	} {
		if got := wholePages(c.addr, c.n, c.page); got != c.want {
			t.Errorf("%d bytes at %d in pages of %d: %t", c.n, c.addr, c.page, got)
		}
	}
}
