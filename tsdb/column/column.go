// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package column holds the types in which samples leave the storage: a View pins one consistent state, Series
// lists the series that match in label order, Scan decodes their samples into reused columns.
//
// It is a leaf beside package sample: the query engine, rules and the HTTP API read through these types and
// never import the storage itself. All times are Unix milliseconds; ranges are closed at both ends.
package column

import (
	"context"
	"iter"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Source opens views. It is implemented by the storage.
type Source interface {
	// View pins the state of the store as of now for samples in [mint, maxt]. It sees every batch whose
	// Commit returned before the call, and each batch wholly or not at all. The caller must Close it.
	View(mint, maxt int64) (View, error)
}

// View is one consistent state of the store. It is safe for concurrent use until Close.
type View interface {
	// Series returns the series that match all of ms and may have samples in the hint's range, in label order.
	Series(ctx context.Context, ms []*labels.Matcher, h Hint) (*SeriesSet, error)
	// Scan decodes the samples of the next series of ids (rows of s) into dst, which it resets first, and
	// returns of how many: at least one while len(ids) > 0, fewer than len(ids) when dst has reached a
	// comfortable size. The caller goes on with the rest.
	Scan(ctx context.Context, s *SeriesSet, ids []uint32, n Need, dst *Block) (int, error)
	// Warnings returns what could not be read so far; it grows during Series and Scan.
	Warnings() annotations.Annotations
	// Close releases the pin. Block contents already scanned stay valid.
	Close() error
}

// LabelReader is what a View offers for the label endpoints. limit 0 means no limit; with one, at most limit
// names or values are returned, in order, and work stops there where it can.
type LabelReader interface {
	LabelNames(ctx context.Context, ms []*labels.Matcher, limit int) ([]string, error)
	LabelValues(ctx context.Context, name string, ms []*labels.Matcher, limit int) ([]string, error)
}

// ExemplarSeries is the exemplars of one series, in time order.
type ExemplarSeries struct {
	Labels    labels.Labels
	Exemplars []exemplar.Exemplar
}

// ExemplarReader is what a View offers for exemplar queries: series that match any of the matcher sets.
type ExemplarReader interface {
	Exemplars(ctx context.Context, mint, maxt int64, ms ...[]*labels.Matcher) ([]ExemplarSeries, error)
}

// MetadataReader is what a View offers for metric family descriptions.
type MetadataReader interface {
	// Metadata returns the descriptions known per metric family, of metric alone where it is not empty.
	// Families are in name order, each family's distinct descriptions newest first.
	Metadata(ctx context.Context, metric string) iter.Seq2[string, []metadata.Metadata]
}

// Hint narrows a Series call. The zero value asks for everything in the view.
type Hint struct {
	MinT, MaxT int64 // both zero: the range of the view
	Limit      int   // at most so many series; 0: no limit
}

// Need says which part of the samples a Scan wants.
type Need struct {
	MinT, MaxT int64 // both zero: the range of the view
	ST         bool  // fill Block.ST
}

// SeriesSet is the answer of Series: N series, rows 0..N-1 in label order, each with its labels as symbols.
// It is immutable and stays readable after its View is closed; scanning it needs the View that made it.
type SeriesSet struct {
	Gen uint64 // of the index that made it: equal Gen, equal symbols
	N   int
	// Names are the label names that occur, sorted. Syms[i][row] is the index into Text of the value that
	// Names[i] has in that row; 0, the empty text, where the row lacks the label.
	Names []string
	Syms  [][]uint32
	Text  []string
	// Handle belongs to the View that made the set.
	Handle any
}

// Labels returns the labels of one row. The strings are the set's: they live as long as the caller keeps them.
func (s *SeriesSet) Labels(row uint32, b *labels.ScratchBuilder) labels.Labels {
	b.Reset()
	for i, name := range s.Names {
		if sym := s.Syms[i][row]; sym != 0 {
			b.Add(name, s.Text[sym])
		}
	}
	return b.Labels()
}

// Shape tells a kernel what one scanned series holds, so that common cases need no look at each row.
type Shape uint8

const (
	// HasFloats: at least one row is a float.
	HasFloats Shape = 1 << iota
	// HasHistograms: at least one row is a native histogram.
	HasHistograms
	// HasStale: at least one row is a stale marker.
	HasStale
)

// Block is a batch of decoded series, reused from Scan to Scan. Series i of the batch has the rows
// Off[i]..Off[i+1]-1 of every column, in ascending and unique time order.
type Block struct {
	Off  []uint32
	T    []int64
	ST   []int64 // filled on demand, else empty; 0: none
	V    []float64
	Kind []sample.Kind // empty when every row of the batch is a float
	H    HistColumns
	// Shape has one entry per series.
	Shape []Shape
	// Budget is charged before a column grows; nil: unlimited.
	Budget *budget.Account
}

// HistColumns holds native histograms. Both columns are empty when the batch has none, else one entry per
// row, nil where the row is of another kind. Histograms are the reader's own copies.
type HistColumns struct {
	Int   []*histogram.Histogram
	Float []*histogram.FloatHistogram
}

// Series returns how many series the block holds.
func (b *Block) Series() int { return max(len(b.Off)-1, 0) }

// Rows returns the row range of series i.
func (b *Block) Rows(i int) (from, to int) { return int(b.Off[i]), int(b.Off[i+1]) }

// Reset empties the block and keeps its memory.
func (b *Block) Reset() {
	b.Off = append(b.Off[:0], 0)
	b.T, b.ST, b.V, b.Kind = b.T[:0], b.ST[:0], b.V[:0], b.Kind[:0]
	clear(b.H.Int)
	clear(b.H.Float)
	b.H.Int, b.H.Float, b.Shape = b.H.Int[:0], b.H.Float[:0], b.Shape[:0]
}

// AppendFloat adds a float row to the series being filled; st 0 for no start timestamp.
func (b *Block) AppendFloat(t, st int64, v float64) {
	b.T, b.V = append(b.T, t), append(b.V, v)
	b.PadFloats()
	if st != 0 {
		b.setST(st)
	}
}

// AppendHistogram adds a native histogram row to the series being filled; exactly one of h and fh is not nil,
// and the block owns it from now on.
func (b *Block) AppendHistogram(t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	if n := len(b.T); len(b.Kind) < n || n == 0 {
		b.Kind = grow(b.Kind, n)
		b.H.Int, b.H.Float = grow(b.H.Int, n), grow(b.H.Float, n)
	}
	k := sample.Histogram
	if fh != nil {
		k = sample.FloatHistogram
	}
	b.T, b.V, b.Kind = append(b.T, t), append(b.V, 0), append(b.Kind, k)
	b.H.Int, b.H.Float = append(b.H.Int, h), append(b.H.Float, fh)
	b.PadFloats()
	if st != 0 {
		b.setST(st)
	}
}

// PadFloats brings the optional columns that are in use up to the length of T, after float rows were appended
// to T and V directly.
func (b *Block) PadFloats() {
	n := len(b.T)
	if len(b.ST) > 0 {
		b.ST = grow(b.ST, n)
	}
	if len(b.Kind) > 0 {
		b.Kind = grow(b.Kind, n)
		b.H.Int, b.H.Float = grow(b.H.Int, n), grow(b.H.Float, n)
	}
}

func (b *Block) setST(st int64) {
	b.ST = grow(b.ST, len(b.T))
	b.ST[len(b.T)-1] = st
}

// EndSeries closes the series being filled: the rows since the last call are its rows. It may have none.
func (b *Block) EndSeries() {
	if len(b.Off) == 0 {
		b.Off = append(b.Off, 0)
	}
	var s Shape
	for i := int(b.Off[len(b.Off)-1]); i < len(b.T); i++ {
		s |= b.shapeOf(i)
	}
	b.Off = append(b.Off, uint32(len(b.T)))
	b.Shape = append(b.Shape, s)
}

func (b *Block) shapeOf(i int) Shape {
	var sum float64
	switch b.KindAt(i) {
	case sample.Histogram:
		sum = b.H.Int[i].Sum
	case sample.FloatHistogram:
		sum = b.H.Float[i].Sum
	default:
		if value.IsStaleNaN(b.V[i]) {
			return HasFloats | HasStale
		}
		return HasFloats
	}
	if value.IsStaleNaN(sum) {
		return HasHistograms | HasStale
	}
	return HasHistograms
}

// KindAt returns the kind of a row.
func (b *Block) KindAt(i int) sample.Kind {
	if len(b.Kind) == 0 {
		return sample.Float
	}
	return b.Kind[i]
}

// STAt returns the start timestamp of a row, 0 for none.
func (b *Block) STAt(i int) int64 {
	if len(b.ST) == 0 {
		return 0
	}
	return b.ST[i]
}

// grow lengthens s to n entries; the new ones are zero.
func grow[T any](s []T, n int) []T {
	for len(s) < n {
		var zero T
		s = append(s, zero)
	}
	return s
}
