// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package ingest

// EachRejected calls yield, after Commit, with each series of which a row was not stored, in order.
func (r *Request) EachRejected(yield func(series int)) {
	for i := range r.series {
		lo, hi := r.rows(i)
		bad := r.series[i].ref == 0 && !r.series[i].left
		for row := lo; row < hi && !bad; row++ {
			bad = !r.result.At(int(row)).Stored()
		}
		if bad {
			yield(i)
		}
	}
}
