// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"pgregory.net/rapid"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// genRows makes the rows of one series: runs of kinds, gaps of any length, values of any bits.
func genRows(t *rapid.T) []row {
	n := rapid.SampledFrom([]int{0, 1, 2, 20, 300, 4500}).Draw(t, "rows")
	at := rapid.Int64Range(-1<<40, 1<<41).Draw(t, "start")
	step := rapid.SampledFrom([]int64{1, 15_000, 1 << 33}).Draw(t, "step")
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

func genContent(t *rapid.T) content {
	var c content
	for i := range rapid.IntRange(1, 12).Draw(t, "series") {
		s := testSeries{labels: labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%02d", i)), rows: genRows(t)}
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
		write(t, fs, c)
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
		id := rapid.IntRange(0, len(c.series)-1).Draw(rt, "id")
		rows := c.series[id].rows
		if len(rows) == 0 {
			return
		}
		i := rapid.IntRange(0, len(rows)-1).Draw(rt, "from")
		k := rapid.IntRange(i, len(rows)-1).Draw(rt, "to")
		mint := rows[i].T + rapid.Int64Range(0, 1).Draw(rt, "past the first")
		want := slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.T < mint || r.T > rows[k].T })
		got, err := rowsOf(b, uint32(id), mint, rows[k].T, true)
		if diff := sameRows(got, want); err != nil || diff != "" {
			rt.Fatalf("rows %d to %d: %v\n%s", i, k, err, diff)
		}
	})
}
