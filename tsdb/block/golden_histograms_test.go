// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"math"
	"os"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/block"
	"github.com/tidemarkdb/tidemark/tsdb/fsx"
)

// countsOf makes the histogram of scrape k of a service: width buckets, of which one more has something in it every
// fourth scrape, that grow unevenly and by much the same where bursts is set.
func countsOf(k, width int, bursts bool) *histogram.Histogram {
	h := &histogram.Histogram{Schema: 3, ZeroThreshold: 0x1p-128, ZeroCount: uint64(k / 7), Sum: float64(k*k) / 8}
	h.Count = h.ZeroCount
	have, last := min(width, 1+k/4), int64(0)
	if bursts {
		have = width
	}
	for i := range have {
		n := int64(0)
		for j := range k + 1 {
			grow := int64(1 + (j*j*(i+3)+5*j)%17)
			if bursts {
				grow = int64(j*j*j%1009*50 + i)
			}
			n += grow
		}
		h.PositiveBuckets = append(h.PositiveBuckets, n-last)
		h.Count += uint64(n)
		last = n
	}
	h.PositiveSpans = []histogram.Span{{Offset: -2, Length: uint32(min(have, 3))}}
	if have > 3 {
		h.PositiveSpans = append(h.PositiveSpans, histogram.Span{Offset: 4, Length: uint32(have - 3)})
	}
	if k > 20 {
		h.NegativeSpans, h.NegativeBuckets = []histogram.Span{{Offset: 1, Length: 1}}, []int64{int64(k - 20)}
		h.Count += uint64(k - 20)
	}
	return h
}

// withBounds makes a histogram one of custom buckets.
func withBounds(h *histogram.Histogram, bounds ...float64) *histogram.Histogram {
	x := &histogram.Histogram{Schema: histogram.CustomBucketsSchema, Sum: h.Sum, CustomValues: bounds}
	n := min(len(bounds)+1, len(h.PositiveBuckets))
	x.PositiveSpans = []histogram.Span{{Length: uint32(n)}}
	x.PositiveBuckets = h.PositiveBuckets[:n]
	abs := int64(0)
	for _, d := range x.PositiveBuckets {
		abs += d
		x.Count += uint64(abs)
	}
	return x
}

// nativeContent has native histograms of every sort in pages of columns, of streams, and of rows of several kinds.
func nativeContent() content {
	const rows = 60
	var c content
	add := func(name string, of func(k int) row) {
		s := testSeries{labels: labels.FromStrings("__name__", name)}
		for k := range rows {
			r := of(k)
			r.T = int64(k)*15_000 + int64(k%5)
			s.rows = append(s.rows, r)
		}
		c.series = append(c.series, s)
	}
	hinted := func(h *histogram.Histogram, hint histogram.CounterResetHint) *histogram.Histogram {
		h.CounterResetHint = hint
		return h
	}
	stale := &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
	add("a_steady", func(k int) row { return row{H: countsOf(k, 12, false)} })
	add("b_bursts", func(k int) row { return row{H: countsOf(k, 8, true)} })
	add("c_resets", func(k int) row {
		switch {
		case k == 30:
			return row{H: stale}
		case k == 31:
			return row{H: hinted(countsOf(0, 12, false), histogram.CounterReset)}
		case k > 31:
			return row{H: hinted(countsOf(k-31, 12, false), histogram.NotCounterReset)}
		}
		return row{H: countsOf(k, 12, false)}
	})
	add("d_started", func(k int) row { return row{ST: int64(k/20) * 300_000, H: countsOf(k%20, 6, false)} })
	add("e_floats", func(k int) row { return row{FH: countsOf(k, 12, false).ToFloat(nil)} })
	add("f_gauge", func(k int) row {
		h := countsOf(59-k, 5, false).ToFloat(nil)
		h.CounterResetHint = histogram.GaugeType
		h.PositiveBuckets[0] /= 3
		return row{FH: h}
	})
	add("g_bounds", func(k int) row { return row{H: withBounds(countsOf(k, 5, false), 0.1, 0.5, 2.5)} })
	add("h_float_bounds", func(k int) row {
		if k > 40 {
			return row{ST: 7, FH: withBounds(countsOf(k, 5, false), 0.1, 1).ToFloat(nil)}
		}
		return row{ST: 7, FH: withBounds(countsOf(k, 5, false), 0.1, 0.5, 2.5).ToFloat(nil)}
	})
	add("i_kinds", func(k int) row {
		if k%20 == 19 {
			return row{Bits: math.Float64bits(float64(k))}
		}
		return row{H: countsOf(k, 4, false)}
	})
	return c
}

// TestGoldenNativeHistogramsOpenForEver reads pages of native histograms as released versions wrote them. A file stays
// when the next one is added.
func TestGoldenNativeHistogramsOpenForEver(t *testing.T) {
	const current = "testdata/blocks/v2-histograms"
	c := nativeContent()
	if *update {
		if err := os.MkdirAll(current, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(block.Path(current, testID), rawBlock(t, c), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	b, err := block.Open(fsx.OS(), block.Path(current, testID), nil, block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	checkContent(t, b, c)
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	kinds, err := b.PageKinds()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []uint8{2, 10, 3} {
		if kinds[kind] == 0 {
			t.Errorf("the file has no page of kind %d, but %v", kind, kinds)
		}
	}
}
