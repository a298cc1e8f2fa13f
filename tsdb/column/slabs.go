// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package column

import (
	"unsafe"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// floatSlabs are the float histograms of a Block, and their buckets. They are cut from slabs that Reset empties and
// does not give back, so that decoding a histogram allocates nothing.
type floatSlabs struct {
	hists  slab[histogram.FloatHistogram]
	counts slab[float64]
	spans  slab[histogram.Span]
}

const (
	histSlab  = 256
	countSlab = 4096
	spanSlab  = 256
)

// slab gives out runs of entries that stay where they are.
type slab[T any] struct {
	chunks [][]T
	mark
	taken int // entries, since the last Reset
}

// mark is how far a slab is used.
type mark struct{ chunk, used int }

// take returns n entries, not cleared; nil where a chunk has to be added first.
func (s *slab[T]) take(n int) []T {
	s.taken += n
	for ; s.chunk < len(s.chunks); s.chunk, s.used = s.chunk+1, 0 {
		if c := s.chunks[s.chunk]; s.used+n <= len(c) {
			s.used += n
			return c[s.used-n : s.used : s.used]
		}
	}
	return nil
}

func (f *floatSlabs) reset() {
	f.hists.mark, f.counts.mark, f.spans.mark = mark{}, mark{}, mark{}
	f.hists.taken, f.counts.taken, f.spans.taken = 0, 0, 0
}

// FloatBytes returns what the float histograms that were made since the last Reset take, for who fills the block no further
// than suits the cache.
func (b *Block) FloatBytes() int64 {
	return int64(b.floats.hists.taken)*int64(unsafe.Sizeof(histogram.FloatHistogram{})) + 8*int64(b.floats.counts.taken)
}

// AddFloatHistogram adds a row for a decoder: a histogram, stored as kind k, with room for n buckets, both to be filled
// in whole. Where Need.Float was asked for, it is the way that allocates nothing.
func (b *Block) AddFloatHistogram(t int64, k sample.Kind, n int) (*histogram.FloatHistogram, []float64, error) {
	if err := b.Reserve(1); err != nil {
		return nil, nil, err
	}
	one, err := takeOf(b, &b.floats.hists, 1, histSlab)
	if err != nil {
		return nil, nil, err
	}
	var counts []float64
	if n > 0 {
		if counts, err = takeOf(b, &b.floats.counts, n, countSlab); err != nil {
			return nil, nil, err
		}
	}
	if len(b.Kind) < len(b.T) || len(b.Kind) == 0 {
		if err := b.useHistograms(); err != nil {
			return nil, nil, err
		}
	}
	fh := &one[0]
	b.T, b.V, b.Kind = append(b.T, t), append(b.V, 0), append(b.Kind, k)
	b.H.Int, b.H.Float = append(b.H.Int, nil), append(b.H.Float, fh)
	if len(b.ST) > 0 {
		b.ST = lengthen(b.ST, len(b.T))
	}
	return fh, counts, nil
}

// AddFloatHistograms is AddFloatHistogram for rows with n buckets each: those of histogram i are counts[i*n:(i+1)*n]. Call
// it with no more than some hundred rows at a time.
func (b *Block) AddFloatHistograms(t []int64, k sample.Kind, n int) (hists []histogram.FloatHistogram, counts []float64, err error) {
	if err := b.Reserve(len(t)); err != nil {
		return nil, nil, err
	}
	if hists, err = takeOf(b, &b.floats.hists, len(t), histSlab); err != nil {
		return nil, nil, err
	}
	if n > 0 {
		if counts, err = takeOf(b, &b.floats.counts, n*len(t), countSlab); err != nil {
			return nil, nil, err
		}
	}
	if len(b.Kind) < len(b.T) || len(b.Kind) == 0 {
		if err := b.useHistograms(); err != nil {
			return nil, nil, err
		}
	}
	b.T = append(b.T, t...)
	have, rows := len(b.V), len(b.T)
	b.V, b.H.Int = lengthen(b.V, rows), lengthen(b.H.Int, rows)
	b.Kind, b.H.Float = lengthen(b.Kind, rows), lengthen(b.H.Float, rows)
	for i := range hists {
		b.Kind[have+i], b.H.Float[have+i] = k, &hists[i]
	}
	if len(b.ST) > 0 {
		b.ST = lengthen(b.ST, rows)
	}
	return hists, counts, nil
}

// MakeSpans returns n spans for float histograms of the block, to be filled in whole. They are good for as long as
// those are.
func (b *Block) MakeSpans(n int) ([]histogram.Span, error) {
	return takeOf(b, &b.floats.spans, n, spanSlab)
}

// useHistograms brings the columns of histograms into use, with room for as many rows as the others.
func (b *Block) useHistograms() error {
	rows := cap(b.T)
	bytes := growth(b.Kind, rows) + growth(b.H.Int, rows)*8 + growth(b.H.Float, rows)*8 + growth(b.H.Stored, rows)
	if err := b.Budget.Reserve(bytes); err != nil {
		return err
	}
	b.columns += bytes
	n := len(b.T)
	b.Kind = lengthen(reserve(b.Kind, rows), n)
	b.H.Int, b.H.Float = lengthen(reserve(b.H.Int, rows), n), lengthen(reserve(b.H.Float, rows), n)
	b.H.Stored = reserve(b.H.Stored, rows)
	return nil
}

// takeOf takes n entries of a slab, adding a chunk, which is charged, where there is no room.
func takeOf[T any](b *Block, s *slab[T], n, size int) ([]T, error) {
	if out := s.take(n); out != nil {
		return out, nil
	}
	var zero T
	size = max(size, n)
	bytes := int64(size) * int64(unsafe.Sizeof(zero))
	if err := b.Budget.Reserve(bytes); err != nil {
		return nil, err
	}
	b.columns += bytes
	s.chunks = append(s.chunks, make([]T, size))
	s.taken -= n // it was asked for already
	return s.take(n), nil
}

// reduce leaves of the histograms from row from on what Need.HistStats asks for, and takes back their buckets.
func (b *Block) reduce(from int) {
	b.setHints(from, len(b.T))
	b.H.Stored = lengthen(b.H.Stored, len(b.T))
	var prev *histogram.FloatHistogram
	var hint histogram.CounterResetHint // of prev, beside that of its storage
	for i := from; i < len(b.T); i++ {
		fh := b.H.Float[i]
		if fh == nil {
			continue
		}
		now := fh.CounterResetHint
		b.H.Stored[i] = now
		if !value.IsStaleNaN(fh.Sum) {
			if now == histogram.UnknownCounterReset && prev != nil {
				now = histogram.NotCounterReset
				if fh.DetectReset(prev) {
					now = histogram.CounterReset
				}
			}
			if prev != nil {
				strip(prev, hint)
			}
			prev, hint = fh, now
			continue
		}
		strip(fh, now)
	}
	if prev != nil {
		strip(prev, hint)
	}
	b.floats.counts.mark = mark{} // those of the series before are taken back already
}

func strip(fh *histogram.FloatHistogram, hint histogram.CounterResetHint) {
	*fh = histogram.FloatHistogram{CounterResetHint: hint, Schema: fh.Schema, Count: fh.Count, Sum: fh.Sum}
}
