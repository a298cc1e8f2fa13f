// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package column

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// steadyRows are rows of native histograms of one series of which each goes on counting where the one before it was: a
// decoder knows that without a look at the buckets.
type steadyRows struct{ from, to int }

// NoteSteady says that of the rows from row from on, which are of the series being filled, each but the first goes on
// counting where the one before it was, as SetHints would find out.
func (b *Block) NoteSteady(from int) {
	if to := len(b.T); to-from > 1 {
		b.steady = append(b.steady, steadyRows{from, to})
	}
}

// Moved says that rows from row from on will be moved or taken out: nothing is known any more of how they follow each
// other.
func (b *Block) Moved(from int) {
	b.endSteady(from)
	b.spoilt = b.spoilt || b.thin > from
}

// WantsThin reports whether a decoder may leave out the buckets of steady rows: Need.HistStats was asked for. The first
// of them it must not where ContinuesSeries says so, nor the last where rows may follow.
func (b *Block) WantsThin() bool { return b.want.HistStats && !b.whole }

// WantsEnds reports whether of steady rows a decoder may give one histogram for all but the first and the last: Need.Ends
// was asked for.
func (b *Block) WantsEnds() bool { return b.want.Ends && !b.whole }

// AddAlike is AddFloatHistogram for rows that are one histogram.
func (b *Block) AddAlike(t []int64, k sample.Kind, n int) (*histogram.FloatHistogram, []float64, error) {
	if err := b.Reserve(len(t)); err != nil {
		return nil, nil, err
	}
	h, counts, err := b.AddFloatHistogram(t[0], k, n)
	for _, at := range t[1:] {
		if err != nil {
			break
		}
		b.T, b.V, b.Kind = append(b.T, at), append(b.V, 0), append(b.Kind, k)
		b.H.Int, b.H.Float = append(b.H.Int, nil), append(b.H.Float, h)
	}
	if len(b.ST) > 0 {
		b.ST = lengthen(b.ST, len(b.T))
	}
	return h, counts, err
}

// ContinuesSeries reports whether the series being filled has rows.
func (b *Block) ContinuesSeries() bool {
	return len(b.Off) == 0 && len(b.T) > 0 || len(b.Off) > 0 && len(b.T) > int(b.Off[len(b.Off)-1])
}

// NoteThin says that some of the rows up to now have no buckets.
func (b *Block) NoteThin() { b.thin = len(b.T) }

// Spoilt reports whether rows without buckets were moved: then it is not known which hints there are. Who scans does so
// again, after WantWhole.
func (b *Block) Spoilt() bool { return b.spoilt }

// WantWhole makes decoders read all buckets from here to the next Reset.
func (b *Block) WantWhole() { b.whole = true }

// endSteady leaves what is known of the rows before row n.
func (b *Block) endSteady(n int) {
	for k := len(b.steady) - 1; k >= 0 && b.steady[k].to > n; k-- {
		b.steady[k].to = n
		if b.steady[k].from+1 >= n {
			b.steady = b.steady[:k]
		}
	}
}

// steadyFrom returns the first of the ranges that end behind row n, the first skip of which are known not to.
func (b *Block) steadyFrom(skip, n int) int {
	for skip < len(b.steady) && b.steady[skip].to <= n {
		skip++
	}
	return skip
}
