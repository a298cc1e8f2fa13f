// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package head

import (
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// BenchmarkSelectOfSeriesThatLeft selects series that have left while an older pin is open.
func BenchmarkSelectOfSeriesThatLeft(b *testing.B) {
	const series = 50_000
	x := newBench(b, Options{})
	refs := make([]sample.Ref, series)
	for i := range refs {
		refs[i] = x.series(named(i))
	}
	old := x.pin()
	defer old.Close()
	x.seq.Lock()
	x.lsn++
	x.h.Free(refs, x.lsn)
	x.seq.Unlock()
	p := x.pin()
	defer p.Close()
	for b.Loop() {
		if ids, err := p.Select(b.Context(), nil); err != nil || len(ids) > 0 {
			b.Fatalf("%d series, %v", len(ids), err)
		}
	}
}
