// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package column

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

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
	// Scratch is memory that a decoder which fills the block keeps from series to series and over Reset. It charges
	// what that takes with Keep.
	Scratch any
	// Budget is charged by Reserve and Charge before memory grows; nil: unlimited. It must not change while
	// the block holds memory.
	Budget *budget.Account

	want    Need // of the rows to come: Float and HistStats
	floats  floatSlabs
	steady  []steadyRows // ascending
	thin    int          // rows before it may have no buckets
	whole   bool         // buckets are not to be left out
	spoilt  bool         // see Spoilt
	columns int64        // bytes charged for the columns and slabs, kept over Reset
	owned   int64        // bytes charged for histograms, given back by Reset
}

// HistColumns holds native histograms. Both columns are empty when the batch has none, else one entry per
// row, nil where the row is of another kind. Histograms are the reader's own copies.
type HistColumns struct {
	Int   []*histogram.Histogram
	Float []*histogram.FloatHistogram
	// Stored, where Need.HistStats was asked for, are the hints that Prometheus' storage gives the rows of those series that
	// have histograms: what is known without the row before. It may be shorter.
	Stored []histogram.CounterResetHint
}

// Series returns how many series the block holds.
func (b *Block) Series() int { return max(len(b.Off)-1, 0) }

// Rows returns the row range of series i.
func (b *Block) Rows(i int) (from, to int) { return int(b.Off[i]), int(b.Off[i+1]) }

// Reset empties the block and keeps the memory of its columns; what was charged for histograms is given back.
func (b *Block) Reset() {
	b.Off = append(b.Off[:0], 0)
	b.T, b.ST, b.V, b.Kind = b.T[:0], b.ST[:0], b.V[:0], b.Kind[:0]
	clear(b.H.Int)
	clear(b.H.Float)
	b.H.Int, b.H.Float, b.Shape = b.H.Int[:0], b.H.Float[:0], b.Shape[:0]
	b.Budget.Release(b.owned)
	b.owned = 0
	b.want = Need{}
	b.floats.reset()
	b.steady = b.steady[:0]
	b.thin, b.whole, b.spoilt = 0, false, false
	b.H.Stored = b.H.Stored[:0]
}

// Want says which part of the histograms the rows from here to the next Reset are to have: Need.Float,
// Need.HistStats and Need.Ends. A Scan calls it after Reset.
func (b *Block) Want(n Need) {
	b.want = Need{Float: n.Float || n.HistStats || n.Ends, HistStats: n.HistStats, Ends: n.Ends && !n.HistStats}
}

// WantsFloat reports whether histograms are to be float histograms of the block.
func (b *Block) WantsFloat() bool { return b.want.Float }

// Free empties the block, drops its memory and gives back all it was charged.
func (b *Block) Free() {
	b.Budget.Release(b.columns + b.owned)
	*b = Block{Budget: b.Budget}
}

// Reserve makes room for n more rows, after charging Budget for what has to grow. On an error, which is a
// *budget.ExceededError, the block is as it was.
func (b *Block) Reserve(n int) error {
	want := len(b.T) + n
	bytes := growth(b.T, want)*8 + growth(b.V, want)*8
	if len(b.ST) > 0 {
		bytes += growth(b.ST, want) * 8
	}
	if len(b.Kind) > 0 {
		bytes += growth(b.Kind, want) + growth(b.H.Int, want)*8 + growth(b.H.Float, want)*8 + growth(b.H.Stored, want)
	}
	if bytes == 0 {
		return nil
	}
	if err := b.Budget.Reserve(bytes); err != nil {
		return err
	}
	b.columns += bytes
	b.T, b.V = reserve(b.T, want), reserve(b.V, want)
	if len(b.ST) > 0 {
		b.ST = reserve(b.ST, want)
	}
	if len(b.Kind) > 0 {
		b.Kind = reserve(b.Kind, want)
		b.H.Int, b.H.Float = reserve(b.H.Int, want), reserve(b.H.Float, want)
		b.H.Stored = reserve(b.H.Stored, want)
	}
	return nil
}

// Charge charges Budget for bytes that rows point to (histograms) until the next Reset. A decoder calls it
// before it allocates them.
func (b *Block) Charge(bytes int64) error {
	if err := b.Budget.Reserve(bytes); err != nil {
		return err
	}
	b.owned += bytes
	return nil
}

// Keep charges Budget for bytes that the block holds until Free, beside its columns.
func (b *Block) Keep(bytes int64) error {
	if err := b.Budget.Reserve(bytes); err != nil {
		return err
	}
	b.columns += bytes
	return nil
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
	n := len(b.T)
	b.Kind = lengthen(b.Kind, n)
	b.H.Int, b.H.Float = lengthen(b.H.Int, n), lengthen(b.H.Float, n)
	k := sample.Histogram
	if fh != nil {
		k = sample.FloatHistogram
	} else if b.want.Float {
		h, fh = nil, h.ToFloat(nil)
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
		b.ST = lengthen(b.ST, n)
	}
	if len(b.Kind) > 0 {
		b.Kind = lengthen(b.Kind, n)
		b.H.Int, b.H.Float = lengthen(b.H.Int, n), lengthen(b.H.Float, n)
	}
}

// UseST brings the column of start timestamps into use, for the rows there are and those to come.
func (b *Block) UseST() error {
	if len(b.ST) == len(b.T) {
		return nil
	}
	bytes := growth(b.ST, len(b.T)) * 8
	if err := b.Budget.Reserve(bytes); err != nil {
		return err
	}
	b.columns += bytes
	b.ST = lengthen(reserve(b.ST, len(b.T)), len(b.T))
	return nil
}

// SetST sets the start timestamp of a row that was appended before; 0 for none.
func (b *Block) SetST(row int, st int64) {
	if st != 0 {
		b.ST = lengthen(b.ST, len(b.T))
	}
	if row < len(b.ST) {
		b.ST[row] = st
	}
}

func (b *Block) setST(st int64) { b.SetST(len(b.T)-1, st) }

// Truncate drops all rows of the series being filled from row n on, so that a decoder that finds its input
// damaged can take back what it appended.
func (b *Block) Truncate(n int) {
	b.endSteady(n)
	b.T, b.V = b.T[:n], b.V[:n]
	b.ST = b.ST[:min(n, len(b.ST))]
	if m := min(n, len(b.Kind)); len(b.Kind) > 0 {
		clear(b.H.Int[m:])
		clear(b.H.Float[m:])
		b.Kind, b.H.Int, b.H.Float = b.Kind[:m], b.H.Int[:m], b.H.Float[:m]
	}
}

// EndSeries closes the series being filled: the rows since the last call are its rows. It may have none.
func (b *Block) EndSeries() {
	if len(b.Off) == 0 {
		b.Off = append(b.Off, 0)
	}
	from := int(b.Off[len(b.Off)-1])
	if b.want.HistStats && len(b.Kind) > 0 {
		b.reduce(from)
	}
	var s Shape
	if len(b.Kind) == 0 {
		s = floatShape(b.V[from:])
	} else {
		for i := from; i < len(b.T); i++ {
			s |= b.shapeOf(i)
		}
	}
	b.Off = append(b.Off, uint32(len(b.T)))
	b.Shape = append(b.Shape, s)
}

// floatShape looks for stale markers in a loop that holds nothing else, about a third of a nanosecond a row.
func floatShape(v []float64) Shape {
	if len(v) == 0 {
		return 0
	}
	for _, x := range v {
		if math.Float64bits(x) == value.StaleNaN {
			return HasFloats | HasStale
		}
	}
	return HasFloats
}

func (b *Block) shapeOf(i int) Shape {
	var sum float64
	switch {
	case b.Kind[i] == sample.Float:
		return floatShape(b.V[i : i+1])
	case b.H.Float[i] != nil:
		sum = b.H.Float[i].Sum
	default:
		sum = b.H.Int[i].Sum
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

// lengthen brings s to n entries; the new ones are zero.
func lengthen[T any](s []T, n int) []T {
	old := len(s)
	if old >= n {
		return s
	}
	s = slices.Grow(s, n-old)[:n]
	clear(s[old:])
	return s
}

// grown is the capacity a column gets that must hold n rows: at least half as much again, so that a block
// that is filled series by series copies each row a bounded number of times.
func grown(have, n int) int { return max(n, have+have/2, 64) }

// growth returns by how many entries reserve(s, n) will raise the capacity of s.
func growth[T any](s []T, n int) int64 {
	if n <= cap(s) {
		return 0
	}
	return int64(grown(cap(s), n) - cap(s))
}

func reserve[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s
	}
	g := make([]T, len(s), grown(cap(s), n))
	copy(g, s)
	return g
}
