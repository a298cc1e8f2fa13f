// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// Kind says what a cell holds.
type Kind uint8

// The kinds of cells.
const (
	Absent Kind = iota
	Float
	Histogram
)

// Shape says what a row holds, so that the common cases need no look at each cell.
type Shape uint8

// What a row may hold. A row without HasHistograms and HasGaps is all floats.
const (
	HasFloats Shape = 1 << iota
	HasHistograms
	HasGaps // at least one cell is absent
	// HasBoth, with HasHistograms, is for answers only: cells that are floats have a histogram beside them where H is not
	// nil. That comes of series that are the same without their names.
	HasBoth
)

// Full is the shape of a row in which every cell is a float.
const Full = HasFloats

// Batch is rows of cells, reused from one fill to the next. Row i is the series IDs[i] of the table of the operator
// that filled it; its cells are [i*Steps, (i+1)*Steps) of V, K and H.
//
// Histograms in H may be shared with other rows and with the storage: who changes one copies it first. The float
// columns are the batch's own; the operator that receives a batch may change them in place.
type Batch struct {
	Steps int
	IDs   []uint32
	V     []float64
	K     []Kind
	// H is empty while no cell of the batch is a histogram, else as long as V.
	H []*histogram.FloatHistogram
	// Shape has one entry per row. Whoever changes K sets it anew, with Measure where it has to be found out.
	Shape []Shape
	// Budget is charged before the batch grows; nil: unlimited.
	Budget *budget.Account
	// Brief says that who reads the batch keeps no histogram of it beyond the next Reset: the memory of those that are
	// made for its cells is then used again.
	Brief bool

	made    made
	charged int64
}

// CellBytes is what one cell of a batch takes without histograms.
const CellBytes = 9

// Reset empties the batch, keeps its memory, and sets the length of rows.
func (b *Batch) Reset(steps int) {
	clear(b.H)
	b.resetMade()
	b.Steps, b.IDs, b.V, b.K, b.H, b.Shape = steps, b.IDs[:0], b.V[:0], b.K[:0], b.H[:0], b.Shape[:0]
}

// Rows returns how many rows there are.
func (b *Batch) Rows() int { return len(b.IDs) }

// Reserve makes room for n more rows. On an error, a *budget.ExceededError, the batch is as it was.
func (b *Batch) Reserve(n int) error {
	rows, cells := len(b.IDs)+n, len(b.V)+n*b.Steps
	if rows <= cap(b.IDs) && cells <= cap(b.V) {
		return nil
	}
	rows, cells = grown(cap(b.IDs), rows), grown(cap(b.V), cells)
	bytes := int64(rows-cap(b.IDs))*5 + int64(cells-cap(b.V))*CellBytes
	if err := b.Budget.Reserve(bytes); err != nil {
		return err
	}
	b.charged += bytes
	b.IDs, b.Shape = grow(b.IDs, rows), grow(b.Shape, rows)
	b.V, b.K = grow(b.V, cells), grow(b.K, cells)
	return nil
}

// Add adds a row for series id and returns its number. Its cells are absent with undefined values and its shape is
// HasGaps; the caller fills them and sets the shape.
func (b *Batch) Add(id uint32) (int, error) {
	if err := b.Reserve(1); err != nil {
		return 0, err
	}
	i, n := len(b.IDs), len(b.V)
	b.IDs, b.Shape = append(b.IDs, id), append(b.Shape, HasGaps)
	b.V, b.K = b.V[:n+b.Steps], b.K[:n+b.Steps]
	clear(b.K[n:])
	if len(b.H) > 0 {
		if err := b.histograms(); err != nil {
			b.Drop(i)
			return 0, err
		}
	}
	return i, nil
}

// Drop takes away the rows from i on.
func (b *Batch) Drop(i int) {
	b.IDs, b.Shape = b.IDs[:i], b.Shape[:i]
	b.V, b.K = b.V[:i*b.Steps], b.K[:i*b.Steps]
	if len(b.H) > 0 {
		clear(b.H[i*b.Steps:])
		b.H = b.H[:i*b.Steps]
	}
}

// Row returns the cells of row i. h is nil while the batch has no histograms.
func (b *Batch) Row(i int) (v []float64, k []Kind, h []*histogram.FloatHistogram) {
	from, to := i*b.Steps, (i+1)*b.Steps
	if len(b.H) > 0 {
		h = b.H[from:to:to]
	}
	return b.V[from:to:to], b.K[from:to:to], h
}

// UseHistograms brings the column of histograms into use for the rows there are and those to come.
func (b *Batch) UseHistograms() error {
	if len(b.H) == len(b.V) {
		return nil
	}
	return b.histograms()
}

func (b *Batch) histograms() error {
	n := len(b.V)
	if n > cap(b.H) {
		bytes := int64(cap(b.V)-cap(b.H)) * 8
		if err := b.Budget.Reserve(bytes); err != nil {
			return err
		}
		b.charged += bytes
		b.H = grow(b.H, cap(b.V))
	}
	old := len(b.H)
	b.H = b.H[:n]
	clear(b.H[old:])
	return nil
}

// Measure finds out the shape of row i.
func (b *Batch) Measure(i int) {
	var s Shape
	for _, k := range b.K[i*b.Steps : (i+1)*b.Steps] {
		s |= shapeOfKind[k]
	}
	b.Shape[i] = s
}

// Part makes ordinary rows of those with HasBoth: a cell that is both counts as the float, and those after it are
// floats or absent, as Prometheus' operators read such series.
func (b *Batch) Part() {
	for i, s := range b.Shape {
		if s&HasBoth == 0 {
			continue
		}
		_, k, h := b.Row(i)
		met := false
		for j := range k {
			switch k[j] {
			case Float:
				met = met || h[j] != nil
				h[j] = nil
			case Histogram:
				if met {
					k[j], h[j] = Absent, nil
				}
			case Absent:
			}
		}
		b.Measure(i)
	}
}

var shapeOfKind = [...]Shape{Absent: HasGaps, Float: HasFloats, Histogram: HasHistograms}

// Free drops the memory of the batch and gives back what was charged for it.
func (b *Batch) Free() {
	b.Budget.Release(b.Charged())
	*b = Batch{Budget: b.Budget, Brief: b.Brief}
}

// grown returns the capacity that makes room for n: what is asked for at first, and then at least half as much again, so
// that a batch that grows row by row copies each row a bounded number of times.
func grown(have, n int) int {
	if n <= have {
		return have
	}
	return max(n, have+have/2)
}

// grow gives s a capacity of exactly n.
func grow[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s
	}
	g := make([]T, len(s), n)
	copy(g, s)
	return g
}
