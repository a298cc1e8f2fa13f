// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/operator/operatortest"
)

// randomLayout returns a histogram with some of the buckets that those of one metric have.
func randomLayout(r *rand.Rand) *histogram.FloatHistogram {
	if r.IntN(10) == 0 {
		return operatortest.RandomHistogram(r)
	}
	h := &histogram.FloatHistogram{Schema: 1, ZeroThreshold: 1e-3, ZeroCount: r.Float64(), Sum: operatortest.RandomFloat(r, true)}
	spans := func() (s []histogram.Span, v []float64) {
		at, end := 0, 0
		for at < 20 {
			from := at + r.IntN(4)
			n := 1 + r.IntN(5)
			s = append(s, histogram.Span{Offset: int32(from - end - 12*(1-min(1, len(s)))), Length: uint32(n)})
			at = from + n
			end = at
			for range n {
				x := math.Abs(operatortest.RandomFloat(r, true))
				v = append(v, x)
				h.Count += x
			}
		}
		return s, v
	}
	h.PositiveSpans, h.PositiveBuckets = spans()
	if r.IntN(2) == 0 {
		h.NegativeSpans, h.NegativeBuckets = spans()
	}
	return h
}

func TestAddingHistogramsIsKahanAdd(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 5))
	fast := 0
	for range 200 {
		var d adder
		first := randomLayout(r)
		got, want := first.Copy(), first.Copy()
		var gotC, wantC *histogram.FloatHistogram
		for range 30 {
			h := randomLayout(r)
			if gotC != nil && d.fits(got, h) {
				fast++
			}
			var gotR, wantR bool
			var gotErr, wantErr error
			gotC, gotR, gotErr = d.add(got, gotC, h.Copy())
			wantC, _, wantR, wantErr = want.KahanAdd(h, wantC)
			if gotR != wantR || (gotErr == nil) != (wantErr == nil) {
				t.Fatalf("got %v, %v; want %v, %v", gotR, gotErr, wantR, wantErr)
			}
			if wantErr != nil {
				break
			}
			for _, d := range []string{cmp.Diff(want, got, cmpopts.EquateNaNs()), cmp.Diff(wantC, gotC, cmpopts.EquateNaNs())} {
				if d != "" {
					t.Fatalf("adding %v differs, -KahanAdd +ours:\n%s", h, d)
				}
			}
		}
	}
	if fast < 100 {
		t.Errorf("only %d additions took the fast path", fast)
	}
}

func BenchmarkAddHistogram(b *testing.B) {
	h := &histogram.FloatHistogram{Schema: 3, ZeroThreshold: 1e-128, Count: 100, Sum: 5}
	h.PositiveSpans = []histogram.Span{{Offset: 5, Length: 30}, {Offset: 3, Length: 30}}
	for i := range 60 {
		h.PositiveBuckets = append(h.PositiveBuckets, float64(i)+0.1)
	}
	for _, fast := range []bool{true, false} {
		b.Run(map[bool]string{true: "adder", false: "KahanAdd"}[fast], func(b *testing.B) {
			sum := h.Copy()
			c, _, _, err := sum.KahanAdd(h, nil)
			if err != nil {
				b.Fatal(err)
			}
			var d adder
			for range b.N {
				if fast {
					c, _, err = d.add(sum, c, h)
				} else {
					c, _, _, err = sum.KahanAdd(h, c)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
