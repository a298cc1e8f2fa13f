// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package arena

// wholePages reports whether n bytes at addr are whole pages of so many bytes.
func wholePages(addr uintptr, n, page int) bool {
	return n > 0 && addr%uintptr(page) == 0 && n%page == 0
}
