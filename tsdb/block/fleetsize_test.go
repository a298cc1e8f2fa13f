// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"math"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// TestFleetComesBackAndIsSmall holds the bytes a sample that the benchmarks report, with some room, and reads all of it.
func TestFleetComesBackAndIsSmall(t *testing.T) {
	check := func(what string, f fleet, most float64) {
		t.Helper()
		dir := t.TempDir()
		m, err := block.Write(fsx.OS(), dir, fleetMeta(), f.source())
		if err != nil {
			t.Fatal(err)
		}
		b, err := block.Open(fsx.OS(), block.Path(dir, m.ULID), block.NewCache(1<<20, nil), block.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if got := float64(b.Size()-b.IndexBytes()) / float64(f.series()*f.samples); got > most {
			t.Errorf("%s: %.3f bytes a sample, want at most %.3f", what, got, most)
		}
		r, id := b.Reader(), uint32(0)
		var dst column.Block
		for s, err := range f.source().Series {
			dst.Reset()
			if err == nil {
				err = r.Read(t.Context(), id, allMin, allMax, false, &dst)
			}
			if err != nil || len(dst.T) != s.To {
				t.Fatalf("%s: %s: %d rows, %v", what, s.Labels, len(dst.T), err)
			}
			for i, v := range dst.V {
				if dst.T[i] != s.Rows.T[i] || math.Float64bits(v) != math.Float64bits(s.Rows.V[i]) {
					t.Fatalf("%s: %s: row %d is %v at %d, want %v at %d", what, s.Labels, i, v, dst.T[i], s.Rows.V[i], s.Rows.T[i])
				}
			}
			id++
		}
	}
	check("an hour", fleet{hosts: 20, samples: 240, step: 15_000}, 0.55)
	check("six slots, jittered", fleet{hosts: 3, samples: 2880, step: 15_000, jitter: 3}, 0.55)
	check("a second apart", fleet{hosts: 1, samples: 7200, step: 1000, jitter: 3}, 0.75)
}
