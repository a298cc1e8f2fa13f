// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk_test

import (
	"encoding/hex"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/chunk"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// golden are the examples of docs/format-chunk.md by name: each is the rows, and the bytes they become.
func golden() map[string]struct {
	rows   []row
	encode func(rows []row) []byte
	decode func(p []byte, n int, dst *column.Block) error
} {
	grown, moved := goldenHistogram(), goldenHistogram()
	grown.Count, grown.Sum, grown.PositiveBuckets = 23, 24.5, []int64{1, 4, -3, 4, -1}
	moved.CounterResetHint, moved.PositiveSpans = histogram.CounterReset, []histogram.Span{{Offset: 0, Length: 1}}
	moved.Count, moved.PositiveBuckets, moved.Sum = 6, []int64{1}, 2
	custom := &histogram.FloatHistogram{
		Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 1.5, CounterResetHint: histogram.GaugeType,
		PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{1, 2}, CustomValues: []float64{0.5},
	}
	fuller := custom.Copy()
	fuller.Count, fuller.PositiveBuckets[1] = 3.5, 2.5

	floats := []row{{t: 1000, v: 5}, {t: 16000, v: 5}, {t: 31000, v: 6}, {t: 46003, v: 6.5}, {t: 61003, v: staleSum}}
	ints := []row{{t: 1000, h: goldenHistogram()}, {t: 16000, h: grown}, {t: 31000, h: &histogram.Histogram{Sum: staleSum}}, {t: 46000, h: moved}}
	doubles := []row{{t: 1000, fh: custom}, {t: 16000, fh: fuller}}
	starts := []row{{t: 1, v: 1}, {t: 2, v: 1, st: 500}, {t: 3, v: 1, st: 500}, {t: 4, v: 1, st: 1000}, {t: 5, v: 1}}
	page := []row{{t: 1000, st: 900, v: 5}, {t: 16000, st: 900, v: 5}, {t: 31000, fh: custom}}
	one := &histogram.Histogram{
		Schema: 3, ZeroThreshold: 1e-128, Count: 1, Sum: 1.5, PositiveSpans: []histogram.Span{{Offset: 5, Length: 1}}, PositiveBuckets: []int64{1},
	}
	two := one.Copy()
	two.Count, two.Sum, two.PositiveSpans[0].Length, two.PositiveBuckets = 2, 3, 2, []int64{2, -2}
	columns := []row{{t: 1000, h: &histogram.Histogram{}}, {t: 16000, h: one}, {t: 31000, h: two}}

	var steady []row
	for i, x := range []int64{1000, 5_000_000_000, 123_456_789_012} {
		h := &histogram.Histogram{
			Schema: 3, ZeroThreshold: 1e-128, Count: 1 << 40, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 5, Length: 2}},
			PositiveBuckets: []int64{x, int64(7 + 2*i)},
		}
		steady = append(steady, row{t: int64(1000 + 15000*i), h: h})
	}

	type example = struct {
		rows   []row
		encode func(rows []row) []byte
		decode func(p []byte, n int, dst *column.Block) error
	}
	histograms := func(p []byte, n int, dst *column.Block) error {
		return chunk.DecodeHistograms(p, n, math.MinInt64, math.MaxInt64, dst)
	}
	return map[string]example{
		"floats": {floats, func(rows []row) []byte {
			b := blockOf(rows)
			return encodeFloats(b.T, b.V)
		}, func(p []byte, n int, dst *column.Block) error {
			return chunk.DecodeFloats(p, n, math.MinInt64, math.MaxInt64, dst)
		}},
		"histograms":       {ints, encodeHistograms, histograms},
		"float-histograms": {doubles, encodeHistograms, histograms},
		"starts": {starts, func(rows []row) (buf []byte) {
			var s chunk.STState
			for i, r := range rows {
				buf = chunk.AppendST(buf, &s, i, r.st)
			}
			return buf
		}, func(p []byte, n int, dst *column.Block) error {
			b := blockOf(starts)
			c := chunk.Chunk{Kind: sample.Float, N: n, Data: encodeFloats(b.T, b.V), ST: p}
			return c.Decode(math.MinInt64, math.MaxInt64, true, dst)
		}},
		"columns": {columns, encodeColumns, func(p []byte, n int, dst *column.Block) error {
			return chunk.DecodeColumns(p, n, 0, timesOf(columns), dst)
		}},
		"neighbours": {steady, encodeColumns, func(p []byte, n int, dst *column.Block) error {
			return chunk.DecodeColumns(p, n, 0, timesOf(steady), dst)
		}},
		"page": {page, func(rows []row) []byte {
			return chunk.EncodePage(nil, blockOf(rows), 0, len(rows))
		}, func(p []byte, _ int, dst *column.Block) error {
			return chunk.DecodePage(p, math.MinInt64, math.MaxInt64, true, dst)
		}},
	}
}

var dump = regexp.MustCompile("(?s)```golden (\\S+)\n(.*?)```")

// The format page shows each example byte by byte; what follows a # on a line is for the reader.
func TestFormatPageShowsTheBytes(t *testing.T) {
	doc, err := os.ReadFile("../../docs/format-chunk.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string][]byte)
	for _, m := range dump.FindAllStringSubmatch(string(doc), -1) {
		var digits strings.Builder
		for line := range strings.Lines(m[2]) {
			code, _, _ := strings.Cut(line, "#")
			digits.WriteString(strings.Join(strings.Fields(code), ""))
		}
		if shown[m[1]], err = hex.DecodeString(digits.String()); err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
	}
	for name, g := range golden() {
		want := g.encode(g.rows)
		if string(shown[name]) != string(want) {
			t.Errorf("%s: the page shows\n% x, the encoder writes\n% x", name, shown[name], want)
			continue
		}
		var b column.Block
		if err := g.decode(shown[name], len(g.rows), &b); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkRows(t, &b, g.rows)
		delete(shown, name)
	}
	for name := range shown {
		t.Errorf("the page shows %q, which no test knows", name)
	}
}
