// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

// Package vector holds what flows between the operators of a query: a Table names series by symbols, a Batch holds
// rows of cells, one row per series, one cell per step of a Grid.
//
// Rows are series-major: all steps of a series lie side by side, so a kernel runs over one contiguous array and an
// aggregation adds one row to another. An instant query has rows of one cell, and a batch of a thousand of them is
// one array of a thousand values; operators work on the flat arrays and need no second form.
//
// A cell is absent, a float, or a native histogram, told by one byte. Absence is never a value: what stands in V of
// an absent cell is meaningless, and an operator may compute on it and leave it there.
package vector

import "fmt"

// Grid is the times at which an expression is evaluated, Unix milliseconds: Start, Start+Step, ... N of them.
type Grid struct {
	Start int64
	Step  int64 // not 0 where N > 1
	N     int
	// Longer is of a grid with one step: more time than that was asked for. Then it is no instant.
	Longer bool
}

// NewGrid returns the grid from start up to end, both included where step reaches them.
func NewGrid(start, end, step int64) Grid {
	if end <= start || step <= 0 {
		return Grid{Start: start, Step: max(step, 1), N: 1}
	}
	n := int((end-start)/step) + 1
	return Grid{Start: start, Step: step, N: n, Longer: n == 1}
}

// Instant tells whether this is a single time, for which Prometheus' engine has rules of its own.
func (g Grid) Instant() bool { return g.N == 1 && !g.Longer }

// At returns the time of step i.
func (g Grid) At(i int) int64 { return g.Start + int64(i)*g.Step }

// End returns the time of the last step.
func (g Grid) End() int64 { return g.At(g.N - 1) }

// String is for plans and messages.
func (g Grid) String() string {
	if g.N == 1 {
		return fmt.Sprintf("@%d", g.Start)
	}
	return fmt.Sprintf("%d..%d/%d", g.Start, g.End(), g.Step)
}
