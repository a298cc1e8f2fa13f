// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// genRows makes the rows of one series: runs of kinds, gaps of any length, values of any bits.
func genRows(t *rapid.T) []row {
	n := rapid.SampledFrom([]int{0, 1, 2, 20, 300, 4500}).Draw(t, "rows")
	at := rapid.Int64Range(-1<<40, 1<<41).Draw(t, "start")
	step := rapid.SampledFrom([]int64{1, 1000, 15_000, 1 << 33}).Draw(t, "step")
	period := rapid.IntRange(1, 50).Draw(t, "period")
	kinds := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 4).Draw(t, "kinds")
	bits := rapid.Uint64().Draw(t, "bits")
	var rows []row
	for i := range n {
		r := row{T: at}
		switch kinds[i/period%len(kinds)] {
		case 0, 1:
			r.Bits = math.Float64bits(float64(i / 3))
		case 2:
			bits = bits*6364136223846793005 + 1442695040888963407
			r.Bits, r.ST = bits, at-int64(i%7)
		case 3:
			r.H = tsdbutil.GenerateTestHistogram(int64(i % 5))
		case 4:
			r.FH, r.ST = tsdbutil.GenerateTestFloatHistogram(int64(i%5)), 5
		}
		rows = append(rows, r)
		at += 1 + step*int64(i%3)
	}
	return rows
}

// genNeighbour makes rows at the times of others, in part: the same values, or values that are some more.
func genNeighbour(t *rapid.T, of []row) []row {
	skip := rapid.IntRange(0, 3).Draw(t, "skip") * len(of) / 4
	more := rapid.SampledFrom([]uint64{0, 0, 1, 3}).Draw(t, "more")
	miss := rapid.SampledFrom([]int{0, 0, 2, 50}).Draw(t, "miss")
	rows := slices.Clone(of[skip:])
	if miss > 0 {
		i := 0
		rows = slices.DeleteFunc(rows, func(row) bool { i++; return i%miss == 0 })
	}
	for i := range rows {
		r := &rows[i]
		if r.H == nil && r.FH == nil && more > 0 && !math.IsNaN(math.Float64frombits(r.Bits)) {
			r.Bits = math.Float64bits(math.Float64frombits(r.Bits) + float64(uint64(i)*more/5))
		}
	}
	return rows
}

func genContent(t *rapid.T) content {
	var c content
	for i := range rapid.IntRange(1, 12).Draw(t, "series") {
		s := testSeries{labels: labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%02d", i))}
		if n := len(c.series); n > 0 && rapid.IntRange(0, 2).Draw(t, "neighbour") > 0 {
			s.rows = genNeighbour(t, c.series[n-1].rows)
		} else {
			s.rows = genRows(t)
		}
		for k := range rapid.IntRange(0, 2).Draw(t, "exemplars") {
			s.exemplars = append(s.exemplars, exemplar.Exemplar{Labels: labels.FromStrings("k", "v"), Value: float64(k), Ts: int64(k * 1000)})
		}
		if len(s.rows)+len(s.exemplars) > 0 {
			c.series = append(c.series, s)
		}
	}
	return c
}

func TestRandomBlocksComeBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := genContent(rt)
		if len(c.series) == 0 {
			return
		}
		fs := fsx.NewCrashable()
		if err := fs.MkdirAll("blocks"); err != nil {
			rt.Fatal(err)
		}
		meta := testMeta()
		meta.Slot = rapid.SampledFrom([]int64{60_000, 7_200_000, 1 << 37}).Draw(rt, "slot")
		meta.Level = rapid.IntRange(0, 1).Draw(rt, "level")
		if _, err := block.Write(fs, "blocks", meta, c.source()); err != nil {
			rt.Fatal(err)
		}
		b, err := block.Open(fs, block.Path("blocks", testID), block.NewCache(1<<20, nil), block.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer b.Close()
		if msg := differs(b, c); msg != "" {
			rt.Fatal(msg)
		}
		if err := b.Verify(t.Context()); err != nil {
			rt.Fatal(err)
		}
		for range 3 {
			readPart(rt, b, c)
		}
	})
}

// readPart reads some of the series, in their order and with one reader, between two of the times there are.
func readPart(t *rapid.T, b *block.Block, c content) {
	rows := c.series[rapid.IntRange(0, len(c.series)-1).Draw(t, "id")].rows
	if len(rows) == 0 {
		return
	}
	i := rapid.IntRange(0, len(rows)-1).Draw(t, "from")
	k := rapid.IntRange(i, len(rows)-1).Draw(t, "to")
	mint, maxt := rows[i].T+rapid.Int64Range(0, 1).Draw(t, "past the first"), rows[k].T
	withST := rapid.Bool().Draw(t, "with start timestamps")
	r := b.Reader()
	var dst column.Block
	for id := 0; id < len(c.series); id += rapid.IntRange(1, 2).Draw(t, "next") {
		dst.Reset()
		if err := r.Read(context.Background(), uint32(id), mint, maxt, withST, &dst); err != nil {
			t.Fatal(err)
		}
		var want []row
		for _, r := range c.series[id].rows {
			if !withST {
				r.ST = 0
			}
			if r.T >= mint && r.T <= maxt {
				want = append(want, r)
			}
		}
		if diff := sameRows(rowsIn(&dst), want); diff != "" {
			t.Fatalf("series %d in [%d, %d]:\n%s", id, mint, maxt, diff)
		}
	}
}
