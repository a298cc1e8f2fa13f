// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package querytest

import "testing"

func TestPairwiseCoversAllPairs(t *testing.T) {
	for n := range 14 {
		seen := map[pairing]bool{}
		all := Pairwise(n)
		for _, s := range all {
			for i := range n {
				for j := range i {
					seen[pairing{i, j, s[i], s[j]}] = true
				}
			}
		}
		if want := 4 * n * (n - 1) / 2; len(seen) != want {
			t.Errorf("%d switches: %d pairs of %d in %d settings", n, len(seen), want, len(all))
		}
		if len(all) > n+10 {
			t.Errorf("%d switches: %d settings", n, len(all))
		}
	}
}
