// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector_test

import (
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// fillHistograms makes n histograms of width buckets with values that tell them apart.
func fillHistograms(t *testing.T, b *vector.Batch, n, width int) []*histogram.FloatHistogram {
	t.Helper()
	var all []*histogram.FloatHistogram
	for i := range n {
		h, err := b.MakeHistogram()
		if err != nil {
			t.Fatal(err)
		}
		buckets, err := b.MakeBuckets(width)
		if err != nil {
			t.Fatal(err)
		}
		spans, err := b.ShareSpans(0, []histogram.Span{{Offset: int32(i / 10), Length: uint32(width)}})
		if err != nil {
			t.Fatal(err)
		}
		for k := range buckets {
			buckets[k] = float64(i*width + k)
		}
		*h = histogram.FloatHistogram{Count: float64(i), PositiveSpans: spans, PositiveBuckets: buckets}
		all = append(all, h)
	}
	return all
}

func checkHistograms(t *testing.T, all []*histogram.FloatHistogram, width int) {
	t.Helper()
	for i, h := range all {
		if h.Count != float64(i) || h.PositiveSpans[0].Offset != int32(i/10) {
			t.Fatalf("histogram %d has become %v", i, h)
		}
		for k, x := range h.PositiveBuckets {
			if x != float64(i*width+k) {
				t.Fatalf("bucket %d of histogram %d is %v", k, i, x)
			}
		}
	}
}

func TestHistogramsOfABatchLastUntilItIsResetAndForEverWhereItIsNotBrief(t *testing.T) {
	a := budget.NewRoot("test", 1<<30)
	b := &vector.Batch{Budget: a}
	first := fillHistograms(t, b, 300, 7)
	b.Reset(1)
	if a.Used() != 0 {
		t.Errorf("%d bytes are charged for histograms that are not the batch's any more", a.Used())
	}
	second := fillHistograms(t, b, 300, 7)
	for _, h := range second {
		h.Count = -1
	}
	checkHistograms(t, first, 7)
	b.Free()
	if a.Used() != 0 {
		t.Errorf("%d bytes stay charged", a.Used())
	}
}

func TestABriefBatchMakesHistogramsInTheSameMemoryAgain(t *testing.T) {
	a := budget.NewRoot("test", 1<<30)
	b := &vector.Batch{Budget: a, Brief: true}
	fillHistograms(t, b, 3000, 20)
	used := a.Used()
	for range 5 {
		b.Reset(1)
		checkHistograms(t, fillHistograms(t, b, 3000, 20), 20)
	}
	if a.Used() != used || b.Charged() != used {
		t.Errorf("%d bytes are charged, %d by the batch; at first it was %d", a.Used(), b.Charged(), used)
	}
	b.Detach()
	if a.Used() != 0 || b.Brief {
		t.Errorf("a batch that is given back is charged %d bytes, brief: %t", a.Used(), b.Brief)
	}
	if err := b.Lend(a); err != nil || a.Used() != used {
		t.Errorf("a batch that is lent is charged %d bytes (%v), want %d", a.Used(), err, used)
	}
	b.Free()
	if a.Used() != 0 {
		t.Errorf("%d bytes stay charged", a.Used())
	}
}

func TestABatchRefusesHistogramsBeyondTheBudget(t *testing.T) {
	b := &vector.Batch{Budget: budget.NewRoot("test", 4096)}
	if _, err := b.MakeHistogram(); err == nil {
		t.Error("a piece of histograms fits 4 KiB")
	}
	if _, err := b.MakeBuckets(1000); err == nil {
		t.Error("1,000 buckets fit 4 KiB")
	}
}
