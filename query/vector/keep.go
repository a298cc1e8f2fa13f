// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import "github.com/prometheus/prometheus/model/histogram"

// HistogramBytes is what the histograms of row i take. Who keeps them longer than the batch charges that: what made
// them is charged for them as long as the batch is used only.
func (b *Batch) HistogramBytes(i int) int64 {
	if b.Shape[i]&HasHistograms == 0 {
		return 0
	}
	_, k, h := b.Row(i)
	return HistogramBytes(k, h)
}

// HistogramBytes is what the histograms of a row of cells take. One that several steps in a row see is counted once.
func HistogramBytes(k []Kind, h []*histogram.FloatHistogram) (n int64) {
	var last *histogram.FloatHistogram
	for i := range k {
		if k[i] == Histogram && h[i] != last {
			last = h[i]
			n += int64(last.Size())
		}
	}
	return n
}
