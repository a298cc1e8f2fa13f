// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemarkdb/tidemark/tsdb/encoding"
)

// Rows of lines and parabolas, also of those that wrap around, are the same whichever of them are asked for.
func TestRowsOfALineNeedNoneBeforeThem(t *testing.T) {
	r := rand.New(rand.NewPCG(71, 72))
	var e encoding.Encoder
	for i := range 500 {
		n := 1 + r.IntN(400)
		row, delta, grow := r.Int64N(1<<40)-1<<39, r.Int64N(1<<20)-1<<19, int64(0)
		if i%2 == 0 {
			grow = r.Int64N(2000) - 1000
		}
		if i%10 == 0 {
			row, delta = math.MaxInt64-5, math.MaxInt64/7
		}
		x, f := make([]int64, n), make([]float64, n)
		for k := range x {
			x[k], f[k] = row, float64(row%(1<<52))/10
			row += delta
			delta += grow
		}
		ints, values := e.AppendInts(nil, x), e.AppendValues(nil, f, nil)
		if n > 10 && i%10 != 0 && len(ints) > 24 {
			t.Fatalf("a line of %d rows takes %d bytes", n, len(ints))
		}
		from := r.IntN(n + 1)
		to := from + r.IntN(n-from+1)
		gotX, err := encoding.DecodeInts([]int64{-1}, ints, n, from, to)
		if err != nil || gotX[0] != -1 || !slices.Equal(gotX[1:], x[from:to]) {
			t.Fatalf("integers %d to %d of %d: %v, %v", from, to, n, gotX, err)
		}
		if from < to {
			first, last, err := encoding.IntEnds(make([]int64, n), ints, n, from, to)
			if err != nil || first != x[from] || last != x[to-1] {
				t.Fatalf("ends %d and %d of %d: %d, %d, %v", from, to-1, n, first, last, err)
			}
		}
		gotF, err := encoding.DecodeValues(nil, values, n, from, to, nil)
		if err != nil || !slices.Equal(gotF, f[from:to]) {
			t.Fatalf("values %d to %d of %d: %v, %v", from, to, n, gotF, err)
		}
	}
}
