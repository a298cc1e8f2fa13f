// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package function

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/util/kahansum"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// ofHistogram returns the functions of one histogram; nil: no such function.
func ofHistogram(name string) func(*histogram.FloatHistogram) float64 {
	switch name {
	case "histogram_count":
		return func(h *histogram.FloatHistogram) float64 { return h.Count }
	case "histogram_sum":
		return func(h *histogram.FloatHistogram) float64 { return h.Sum }
	case "histogram_avg":
		return func(h *histogram.FloatHistogram) float64 { return h.Sum / h.Count }
	case "histogram_stdvar":
		return variance
	case "histogram_stddev":
		return func(h *histogram.FloatHistogram) float64 { return math.Sqrt(variance(h)) }
	default:
		return nil
	}
}

// overHistograms makes a kernel of a function of one histogram. Floats go away.
func overHistograms(f func(*histogram.FloatHistogram) float64) kernel {
	return func(w *work, b *vector.Batch) error {
		if len(b.H) == 0 {
			return empty(w, b)
		}
		for i := range b.Rows() {
			v, k, h := b.Row(i)
			n := 0
			for j := range k {
				if k[j] != vector.Histogram {
					k[j] = vector.Absent
					continue
				}
				if err := w.env.Check(); err != nil {
					return err
				}
				v[j], k[j], h[j] = f(h[j]), vector.Float, nil
				n++
			}
			b.Shape[i] = shapeOf(n, len(k))
		}
		b.H = b.H[:0]
		return nil
	}
}

// shapeOf is the shape of a row of n floats and no histogram.
func shapeOf(n, steps int) vector.Shape {
	switch n {
	case steps:
		return vector.Full
	case 0:
		return vector.HasGaps
	default:
		return vector.HasFloats | vector.HasGaps
	}
}

// variance estimates the variance of what a histogram counted, each bucket standing for a number in its middle: the
// geometric middle where buckets grow exponentially.
func variance(h *histogram.FloatHistogram) float64 {
	mean := h.Sum / h.Count
	var sum, c float64
	for it := h.AllBucketIterator(); it.Next(); {
		b := it.At()
		if b.Count == 0 {
			continue
		}
		delta := middle(&b, h.UsesCustomBuckets()) - mean
		sum, c = kahansum.Inc(b.Count*delta*delta, sum, c)
	}
	return (sum + c) / h.Count
}

func middle(b *histogram.Bucket[float64], custom bool) float64 {
	switch {
	case custom:
		return (b.Upper + b.Lower) / 2.0
	case b.Lower <= 0 && b.Upper >= 0:
		return 0
	case b.Upper < 0:
		return -math.Sqrt(b.Upper * b.Lower)
	default:
		return math.Sqrt(b.Upper * b.Lower)
	}
}
