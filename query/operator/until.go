// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

// Until makes a comparison for sorting much: it is cmp while the query runs, and when the query stops all is equal to
// it, so that the sort ends soon. Who sorts has to ask Check afterwards.
func Until[T any](e *Env, cmp func(a, b T) int) func(a, b T) int {
	asked, stopped := 0, false
	return func(a, b T) int {
		if asked++; asked&4095 == 0 && !stopped {
			stopped = e.Check() != nil
		}
		if stopped {
			return 0
		}
		return cmp(a, b)
	}
}
