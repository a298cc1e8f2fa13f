// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"errors"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// ErrEnough is what a Sink returns that wants no more of the answer. The query ends there, without an error.
var ErrEnough = errors.New("no more of the answer is wanted")

// Sink takes an answer. Begin comes first; then, by the type it was told, any number of Rows, one Scalar or one
// Text. An error ends the query, which returns it unless it is ErrEnough.
type Sink interface {
	// Begin tells the type of the answer: a vector, matrix, scalar or string.
	Begin(t parser.ValueType) error
	// Row hands on one series of a vector or a matrix. What it refers to is valid until it returns, but for the
	// labels and the histograms. The rows of a matrix come in the order of their labels, those of a vector as they
	// are made, which is the order that sort() asks for.
	Row(r *Row) error
	// Scalar hands on the value of a scalar.
	Scalar(t int64, v float64) error
	// Text hands on the value of a string.
	Text(t int64, s string) error
}

// Row is one series of an answer, with at least one point.
type Row struct {
	Labels labels.Labels
	// Grid has the times of the points, one per cell, unless T does: the samples of a range vector have their own.
	Grid vector.Grid
	T    []int64
	// V, K and H are the cells as in a vector.Batch. H is nil where no cell is a histogram. See Histogram.
	V     []float64
	K     []vector.Kind
	H     []*histogram.FloatHistogram
	Shape vector.Shape
}

// Histogram returns the histogram of cell i, nil if it has none. With vector.HasBoth a cell may be a float too, of which
// a vector then shows the histogram and a matrix both.
func (r *Row) Histogram(i int) *histogram.FloatHistogram {
	if r.K[i] == vector.Histogram || r.Shape&vector.HasBoth != 0 && r.K[i] == vector.Float {
		return r.H[i]
	}
	return nil
}

// At returns the time of cell i.
func (r *Row) At(i int) int64 {
	if r.T != nil {
		return r.T[i]
	}
	return r.Grid.At(i)
}
