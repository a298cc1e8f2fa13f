// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package operator holds what the operators of a query have in common: the interfaces by which they are put together,
// the environment of one query, and the loop that runs them.
//
// There are two sorts of operators. Those that work row by row (selectors, window functions, arithmetic with a
// scalar, most functions) hold nothing: row i of the result comes from row i of the input. Those that need more than
// a row (aggregations, joins, quantiles over buckets) read their inputs with Env.Drain when they are opened, or when
// their first cursor moves, and keep only what they must: groups x steps, not series x anything.
//
// A consumer chooses the order of rows by the ids it gives to Cursor. That one freedom serves group order (a group is
// complete before the next begins), joins without buffering (both sides in the order of the match table), narrowing
// (ids left out are never decoded) and parallelism (several cursors over disjoint ids).
//
// Life of a query: Open every node from the root down, in the order in which Prometheus evaluates: left before right,
// arguments before the call; then cursors; then Close from the root down. Open, Table and Cursor are called by one
// goroutine; cursors may then run side by side. A plan is evaluated once.
package operator

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/sample"
)

// Node is an operator whose value is a vector: series, each with one row of cells on the grid.
type Node interface {
	// Open resolves the series; what has to know all of its input to do that evaluates it. It is called once,
	// before anything else, and opens the inputs.
	Open(ctx context.Context) error
	// Table names the series. Valid after Open. Rows of it that turn out to have no cell are yielded as empty or
	// not at all.
	Table() *vector.Table
	// Grid is the steps of a row.
	Grid() vector.Grid
	// Cursor yields the rows with the given ids in that order; nil: all, in the order of the table. Cursors are
	// independent of each other.
	Cursor(ids []uint32) Cursor
	// Close gives back what the node and its inputs hold. It may be called without or before Open, and twice.
	Close()
}

// Cursor moves over rows. It belongs to one goroutine.
type Cursor interface {
	// Next fills b with the next rows, at least one, and tells whether there were any. It resets b first. How many
	// rows it fills is its choice: about BatchCells cells.
	Next(ctx context.Context, b *vector.Batch) (bool, error)
	// Close gives back what the cursor holds.
	Close()
}

// BatchCells is about how many cells a cursor puts in a batch: 9 B each, so a batch stays in the second level cache
// between one operator and the next.
const BatchCells = 1 << 13

// BatchRows is how many rows of a number of steps make up a batch.
func BatchRows(steps int) int { return max(1, BatchCells/max(steps, 1)) }

// Scalar is an operator whose value is one float per step.
type Scalar interface {
	Open(ctx context.Context) error
	// Values returns one float per step of the grid. Valid after Open; not to be changed.
	Values() []float64
	Close()
}

// Ranges is a source of range vectors: the samples of each series for all windows of a grid at once.
type Ranges interface {
	Open(ctx context.Context) error
	Table() *vector.Table
	// Windows says which samples belong to which step.
	Windows() Windows
	// Cursor yields the samples of the series with the given ids in that order; nil: all.
	Cursor(ids []uint32) RangeCursor
	Close()
}

// RangeCursor moves over the series of a Ranges. It belongs to one goroutine.
type RangeCursor interface {
	// Next returns the samples of the next series, until there is none. They are valid until the next call.
	Next(ctx context.Context) (s Samples, ok bool, err error)
	Close()
}

// Samples are those of one series, ascending in time, without stale markers.
type Samples struct {
	ID uint32
	T  []int64
	ST []int64 // start timestamps, 0: none; nil when the query does not use them
	V  []float64
	// Kind is nil when all samples are floats. Where it is not, H holds a histogram for every row that is no float.
	Kind []sample.Kind
	H    []*histogram.FloatHistogram
}

// Windows says which samples the steps of a grid see: at step i those in (At(i)-Range, At(i)] where
// At(i) = Start + i*Step and Start is the first evaluation time less the offset, or the time of an @ modifier, for
// which Step is 0.
type Windows struct {
	Grid  vector.Grid // of the result
	Start int64       // right edge of the window of step 0
	Step  int64
	Range int64 // milliseconds
	// Anchored and Smoothed are the extended selectors. Samples then reach Lookback to the left of the window, and
	// for Smoothed to the right as well.
	Anchored, Smoothed bool
	Lookback           int64
}

// At returns the right edge of the window of step i.
func (w Windows) At(i int) int64 { return w.Start + int64(i)*w.Step }
