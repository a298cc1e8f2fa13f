// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
	"github.com/tidemarkdb/tidemark/tsdb/wal"
)

func TestSpanIsThatOfTheDecodedRows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var d wal.Decoder
	for range 500 {
		var in, out sample.Batch
		uniform := rng.IntN(2) == 0
		for i := range rng.IntN(3000) >> rng.IntN(12) {
			at := int64(1_700_000_000_000)
			if !uniform {
				at += rng.Int64N(1<<40)>>rng.IntN(40) - 1<<20
			}
			ref := sample.Ref(i)
			if rng.IntN(4) == 0 {
				ref = sample.Ref(rng.Uint64() >> rng.IntN(64)) // refs of one to ten bytes
			}
			in.AppendFloat(ref, 0, at, float64(i), 0)
		}
		p := wal.AppendBatch(nil, &in)
		if err := d.Batch(p, &out); err != nil {
			t.Fatal(err)
		}
		oldest, newest, ok, err := d.Span(p)
		if err != nil || ok != (len(out.T) > 0) || ok && (oldest != slices.Min(out.T) || newest != slices.Max(out.T)) {
			t.Fatalf("%d rows: from %d to %d, %t, %v", len(out.T), oldest, newest, ok, err)
		}
		for range 20 { // damaged: any answer will do, as long as there is one
			bad := slices.Clone(p)
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			_, _, _, _ = d.Span(bad[:rng.IntN(len(bad)+1)])
		}
	}
}
