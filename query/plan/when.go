// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// When is the times at which a node is evaluated, Unix milliseconds: Start, Start+Step, ... as long as they are not
// past End. It tells more than the grid: an evaluation from Start to an End that Step does not reach has one step and
// yet is no instant one, which PromQL's sort() sees.
type When struct{ Start, End, Step int64 }

// None tells whether there is no step at all: a subquery can have none.
func (w When) None() bool { return w.End < w.Start }

// Once tells whether this is an instant evaluation.
func (w When) Once() bool { return w.Start == w.End }

// Grid returns the steps; those of Once where there is None, since a grid has at least one.
func (w When) Grid() vector.Grid { return vector.NewGrid(w.Start, w.End, w.Step) }

// first returns the evaluation at the first step alone.
func (w When) first() When { return When{w.Start, w.Start, w.Step} }

// lastStep returns the time of the last step.
func (w When) lastStep() int64 {
	if w.Step <= 0 {
		return w.End
	}
	return w.Start + (w.End-w.Start)/w.Step*w.Step
}

// String is for plans.
func (w When) String() string {
	switch {
	case w.None():
		return "never"
	case w.Once():
		return fmt.Sprintf("@%d", w.Start)
	default:
		return w.Grid().String()
	}
}
