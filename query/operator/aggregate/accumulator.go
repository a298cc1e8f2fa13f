// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// accumulator holds the state of groups x steps cells and takes rows in.
type accumulator interface {
	// row adds the cells of a row to group g. The shape of r says whether they are all floats.
	row(g uint32, r row) error
	// flat adds floats where there is one step: vs[i] to group gs[i].
	flat(gs []uint32, vs []float64)
	// finish writes the result of group g.
	finish(g uint32, to out)
	// reset empties group 0, for another group of a number of rows.
	reset(rows int) error
	shared() *state
}

// row is a row of the input.
type row struct {
	id    uint32
	shape vector.Shape
	v     []float64
	k     []vector.Kind
	h     []*histogram.FloatHistogram
}

// out is a row of the result. Kinds are absent before.
type out struct {
	v []float64
	k []vector.Kind
	h func(step int, h *histogram.FloatHistogram)
}

// What is known of a cell. The meaning of has: at least one sample was added that counts for the result.
const (
	has      uint8 = 1 << iota
	hasHist        // at least one histogram was seen by a sum or average
	broken         // the histograms do not go together
	nameless       // a series without a name was added
)

// state is what all accumulators have.
type state struct {
	held  *retain.Memory
	keep  *retain.Memory // for what becomes part of the result
	notes *operator.Notes
	env   *operator.Env
	in    *vector.Table
	steps int
	// full counts, per group, the rows that were all floats. Such rows leave the marks of their cells alone.
	full []uint32
	mark []uint8
	// mixed: a histogram was added by an aggregation that adds histograms.
	mixed bool
	// spoilt: a cell is broken. It takes nothing more, so that every cell has to be looked at.
	spoilt bool
	// given is what is still charged for the histograms of groups that are done, which a batch has now.
	given int64
	// err is an error from where none can be returned.
	err error
}

// settle gives back what was charged for the histograms of a batch.
func (s *state) settle() {
	s.keep.Refund(s.given)
	s.given = 0
}

func (s *state) shared() *state { return s }

// seen tells whether a cell of group g has a value.
func (s *state) seen(g uint32, cell int) bool { return s.full[g] > 0 || s.mark[cell]&has != 0 }

// newState returns the state of a number of groups.
func newState(n *node, h, keep *retain.Memory, groups int) (*state, error) {
	steps := n.Grid().N
	s := &state{held: h, keep: keep, notes: &n.notes, env: n.feed.env, in: n.group.in, steps: steps}
	var err error
	if s.full, err = retain.Make[uint32](h, groups); err != nil {
		return nil, err
	}
	s.mark, err = retain.Make[uint8](h, groups*steps)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *state) clear() {
	s.full[0], s.mixed, s.spoilt = 0, false, false
	clear(s.mark)
}

// newAccumulator returns the accumulator of an aggregation. sizes are the numbers of rows of the groups.
func (n *node) newAccumulator(s *state, sizes []uint32) (accumulator, error) {
	groups := len(s.full)
	switch n.cfg.Op {
	case parser.SUM, parser.AVG:
		return newSums(s, groups, n.cfg.Op == parser.AVG)
	case parser.MIN:
		return newLeast(s, groups)
	case parser.MAX:
		return newGreatest(s, groups)
	case parser.COUNT:
		return newCounts(s, groups)
	case parser.STDVAR, parser.STDDEV:
		return newDeviations(s, groups, n.cfg.Op)
	case parser.QUANTILE:
		return newQuantiles(s, sizes, n.cfg.Param.Values())
	default:
		return &existence{state: s}, nil
	}
}

// cellBytes is about what the state of a cell takes; for a quantile per row instead of per group.
func cellBytes(op parser.ItemType) int64 {
	switch op {
	case parser.SUM, parser.AVG, parser.STDVAR, parser.STDDEV:
		return 21
	default:
		return 9
	}
}

// ignored notes that histograms take no part.
func ignored(notes *operator.Notes, slot int, op string) {
	notes.Add(slot, "ignored", op, func(p posrange.PositionRange) error {
		return annotations.NewHistogramIgnoredInAggregationInfo(op, p)
	})
}
