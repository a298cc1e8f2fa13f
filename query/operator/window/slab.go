// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// slab is memory for the histograms of a batch, cut from large pieces and charged for piece by piece. What was cut
// from it is never used again for another one: it belongs to whoever holds the batch.
type slab struct {
	structs []histogram.FloatHistogram
	floats  []float64
	spans   []histogram.Span
	shared  [2][]histogram.Span // what shareSpans returned last, of either side
}

// Sizes of pieces, in entries: some 16 KiB together.
const (
	slabStructs = 32
	slabFloats  = 1024
	slabSpans   = 256
)

const structBytes, spanBytes = 168, 8

// histogram returns a new histogram.
func (s *slab) histogram(m *memory) (*histogram.FloatHistogram, error) {
	if len(s.structs) == 0 {
		if err := m.charge(slabStructs * structBytes); err != nil {
			return nil, err
		}
		s.structs = make([]histogram.FloatHistogram, slabStructs)
	}
	h := &s.structs[0]
	s.structs = s.structs[1:]
	return h, nil
}

// values returns n new floats, undefined.
func (s *slab) values(m *memory, n int) ([]float64, error) {
	var err error
	var x []float64
	x, s.floats, err = cut(m, s.floats, n, slabFloats, 8)
	return x, err
}

// copySpans returns a copy of spans.
func (s *slab) copySpans(m *memory, spans []histogram.Span) ([]histogram.Span, error) {
	x, rest, err := cut(m, s.spans, len(spans), slabSpans, spanBytes)
	s.spans = rest
	copy(x, spans)
	return x, err
}

// shareSpans returns a copy of the spans of a side, for histograms that are compact, so that nobody has reason to change
// their spans: one copy serves neighbours.
func (s *slab) shareSpans(m *memory, side side, spans []histogram.Span) ([]histogram.Span, error) {
	last := &s.shared[0]
	if side == negative {
		last = &s.shared[1]
	}
	if slices.Equal(*last, spans) {
		return *last, nil
	}
	x, err := s.copySpans(m, spans)
	if err == nil {
		*last = x
	}
	return x, err
}

// cut takes n entries off a piece, or off a new one.
func cut[T any](m *memory, piece []T, n, usual int, size int64) (x, rest []T, err error) {
	if len(piece) < n {
		usual = max(usual, n)
		if err := m.charge(int64(usual) * size); err != nil {
			return nil, piece, err
		}
		piece = make([]T, usual)
	}
	return piece[:n:n], piece[n:], nil
}
