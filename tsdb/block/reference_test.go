// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// familyBlock is a block of histogram families of twelve buckets, whose columns differ little from each other, over two
// slots. It returns the values.
func familyBlock(t *testing.T) (*Block, [][]float64) {
	t.Helper()
	const families, buckets, rows = 5, 12, 900
	x := uint64(1)
	random := func(n uint64) float64 {
		x = x*6364136223846793005 + 1442695040888963407
		return float64(x >> 33 % n)
	}
	var all [][]float64
	for range families {
		sums, first := make([]float64, rows), 0.0
		for i := range sums {
			first += random(1000)
			sums[i] = first
		}
		for range buckets {
			v, own := make([]float64, rows), 0.0
			for i := range v {
				if random(50) == 0 {
					own += 1 + random(2)
				}
				sums[i] += own
				v[i] = sums[i]
			}
			all = append(all, v)
		}
	}
	times := make([]int64, rows)
	for i := range times {
		times[i] = int64(i) * 15_000
	}
	fs := fsx.NewCrashable()
	if err := fs.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	_, err := Write(fs, "d", Meta{ULID: id, SlotEnd: 7_200_000}, Source{Series: func(yield func(Series, error) bool) {
		for i, v := range all {
			b := column.Block{T: times, V: v}
			ls := labels.FromStrings("family", fmt.Sprintf("%02d", i/buckets), "le", fmt.Sprintf("%02d", i%buckets))
			if !yield(Series{Labels: ls, Rows: &b, To: rows}, nil) {
				return
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(fs, Path("d", id), nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, all
}

func TestNeighboursAreExpressedByEachOther(t *testing.T) {
	b, all := familyBlock(t)
	refs, longest := 0, uint8(0)
	for i := range b.directory.stripes {
		s, err := b.loadStripe(uint32(i), uint32(len(all)))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.pages {
			if p.ref > 0 {
				refs++
			}
			longest = max(longest, p.chain)
		}
	}
	t.Logf("%d of %d pages refer to another; chains of up to %d", refs, len(all)*len(b.directory.stripes), longest)
	if refs < len(all) || longest != maxChain {
		t.Errorf("%d references, chains of up to %d", refs, longest)
	}
}

func TestSeriesIsReadWithItsReferencesInAnyOrder(t *testing.T) {
	b, all := familyBlock(t)
	check := func(r *Reader, id int, from, to int64) {
		t.Helper()
		var dst column.Block
		if err := r.Read(t.Context(), uint32(id), from*15_000, to*15_000-1, false, &dst); err != nil {
			t.Fatal(err)
		}
		if len(dst.T) != int(to-from) {
			t.Fatalf("series %d: %d rows in [%d, %d)", id, len(dst.T), from, to)
		}
		for i, v := range dst.V {
			if math.Float64bits(v) != math.Float64bits(all[id][int(from)+i]) || dst.T[i] != (from+int64(i))*15_000 {
				t.Fatalf("series %d: row %d is %v at %d", id, i, v, dst.T[i])
			}
		}
	}
	forth, back, narrow := b.Reader(), b.Reader(), b.Reader()
	for id := range all {
		check(&forth, id, 0, 900)
		check(&narrow, id, 100, 130)
	}
	for id := range slices.Backward(all) {
		check(&back, id, 0, 900)
		check(&back, id, 450, 500) // over the edge of the slot, with the other range between
		alone := b.Reader()
		check(&alone, id, 899, 900)
	}
}
