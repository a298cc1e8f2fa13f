// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// Errors with the texts of Prometheus' engine.
var (
	errManyMatches = errors.New("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")
	errGrouping    = errors.New("multiple matches for labels: grouping labels must ensure unique matches")
	errSameLabels  = errors.New("vector cannot contain metrics with the same labelset")
)

// exact computes groups step by step over rows that are held. It makes the checks of Prometheus' engine in the same
// order, so that of several errors the same one is reported.
type exact struct {
	*pairwise
	plan *plan
	of   [2][]uint32 // group by row, as in keys
	step int
	// What follows is by group and valid where the mark is that of the step, step+1.
	seen    []int    // the one side has a cell
	right   []uint32 // its row
	matched []int    // a pair was computed
	// Labels of results are numbered: byPair and, for the last pair of a row of the many side, last.
	last   []lastLabel
	byPair map[[2]uint32]uint32
	byText map[string]uint32
	labels []resultLabels
	// grouped is the step at which a group had labels that another group had, too.
	grouped map[[2]uint32]int
	twice   bool // two results of this step have the same labels

	anyMany []bool // by step: the many side has a cell; nil until it matters

	// Rows of done: what they are made of and where they belong.
	pairs  pairs
	orders []uint32
}

// lastLabel is the label of a row of the many side with the row of the one side that it met last.
type lastLabel struct{ one, label uint32 }

// resultLabels is what is known of the results with some labels. Steps are those of marks.
type resultLabels struct {
	row     uint32 // of done; none while there is no cell
	written int    // the step of the last cell
	matched int    // the step of the last pair
	group   uint32 // of that pair, the first of its step
}

// exactBytes is about what the fields of exact take per group and per row of the many side.
const exactBytes = 3*8 + 4 + 8

func newExact(b *pairwise, p *plan) *exact {
	n := p.keys.n
	return &exact{
		pairwise: b, plan: p, of: p.keys.of,
		seen: make([]int, n), right: make([]uint32, n), matched: make([]int, n),
		last:    make([]lastLabel, b.many.Table().N),
		grouped: map[[2]uint32]int{}, byPair: map[[2]uint32]uint32{}, byText: map[string]uint32{},
	}
}

// run computes all steps.
func (x *exact) run(ctx context.Context) error {
	steps := x.Grid().N
	x.done.Reset(steps)
	for x.step = range steps {
		if err := x.env.Check(); err != nil {
			return err
		}
		if err := x.compute(ctx); err != nil {
			return err
		}
	}
	for i := range x.done.Rows() {
		x.done.Measure(i)
	}
	return nil
}

// sorted returns the results in the order of Prometheus' engine.
func (x *exact) sorted() []uint32 {
	at := make([]uint32, len(x.orders))
	for i := range at {
		at[i] = uint32(i)
	}
	slices.SortStableFunc(at, func(a, b uint32) int { return cmp.Compare(x.orders[a], x.orders[b]) })
	return at
}

func (x *exact) compute(ctx context.Context) error {
	x.twice = false
	if goes, err := x.matchOne(ctx); err != nil || !goes {
		return err
	}
	fill := x.call.Matching.FillValues
	for _, m := range x.plan.hardMany {
		l := heldCell(x.many, m, x.step)
		if l.kind == vector.Absent {
			continue
		}
		g := x.of[0][m]
		switch {
		case x.seen[g] == x.step+1:
			o := x.right[g]
			if err := x.pair(m, o, l, heldCell(x.one, o, x.step)); err != nil {
				return err
			}
		case fill.RHS != nil:
			if err := x.pair(m, none, l, cell{kind: vector.Float, v: *fill.RHS}); err != nil {
				return err
			}
		}
	}
	if fill.LHS != nil {
		if err := x.fillMany(*fill.LHS); err != nil {
			return err
		}
	}
	if x.twice {
		return errSameLabels
	}
	return nil
}

// matchOne finds the row of each group on the one side. It returns false where nothing of this step counts.
func (x *exact) matchOne(ctx context.Context) (bool, error) {
	for _, o := range x.plan.hardOne {
		if x.one.Kind(o, x.step) == vector.Absent {
			continue
		}
		g := x.of[1][o]
		if x.seen[g] == x.step+1 {
			if !x.fills() {
				if there, err := x.manyPresent(ctx); err != nil || !there {
					return false, err
				}
			}
			return false, x.duplicate(o, x.right[g])
		}
		x.seen[g], x.right[g] = x.step+1, o
	}
	return true, nil
}

// fillMany computes what the one side has alone.
func (x *exact) fillMany(value float64) error {
	for _, o := range x.plan.hardOne {
		r := heldCell(x.one, o, x.step)
		if r.kind == vector.Absent || x.matched[x.of[1][o]] == x.step+1 {
			continue
		}
		if err := x.pair(none, o, cell{kind: vector.Float, v: value}, r); err != nil {
			return err
		}
	}
	return nil
}

// manyPresent tells whether the many side has any cell at this step: if not, Prometheus' engine does not look at the
// one side. Seldom asked, so that all of the side is read for it.
func (x *exact) manyPresent(ctx context.Context) (bool, error) {
	for _, m := range x.plan.hardMany {
		if x.many.Kind(m, x.step) != vector.Absent {
			return true, nil
		}
	}
	if x.anyMany == nil {
		x.anyMany = make([]bool, x.Grid().N)
		if err := x.many.HoldAll(ctx); err != nil {
			return false, err
		}
		x.many.Present(x.anyMany)
	}
	return x.anyMany[x.step], nil
}

// duplicate returns the error for two rows of one group on the one side.
func (x *exact) duplicate(row, earlier uint32) error {
	var sb labels.ScratchBuilder
	side := "right"
	if x.swap {
		side = "left"
	}
	group := x.matchLabels(row, &sb).String()
	a, b := x.one.Table().Labels(row, &sb).String(), x.one.Table().Labels(earlier, &sb).String()
	if a > b {
		a, b = b, a
	}
	return fmt.Errorf("found duplicate series for the match group %s on the %s hand-side of the operation: [%s, %s]"+
		";many-to-many matching not allowed: matching labels must be unique on one side", group, side, a, b)
}

// pair computes one result. l is of the many side.
func (x *exact) pair(m, o uint32, l, r cell) error {
	if x.swap {
		l, r = r, l
	}
	order, g := m, uint32(0)
	if m == none {
		order, g = uint32(x.many.Table().N)+o, x.of[1][o]
	} else {
		g = x.of[0][m]
	}
	v, h, keep, f := x.operation.compute(l, r)
	x.faults.set(x.Grid().N, x.step, order, f)
	if f.fails() {
		return nil
	}
	label := x.label(m, o)
	if x.call.Matching.Card == parser.CardOneToOne {
		if x.matched[g] == x.step+1 {
			return errManyMatches
		}
	} else if x.again(g, label) {
		return errGrouping
	}
	x.matched[g] = x.step + 1
	if !keep {
		return nil
	}
	return x.write(label, order, [2]uint32{m, o}, v, h)
}

// again notes that a group has a result with some labels, and tells whether it had one at this step before.
func (x *exact) again(g, label uint32) bool {
	l, mark := &x.labels[label], x.step+1
	if l.matched != mark {
		l.matched, l.group = mark, g
		return false
	}
	if l.group == g {
		return true
	}
	key := [2]uint32{g, label}
	was := x.grouped[key]
	x.grouped[key] = mark
	return was == mark
}

// label numbers the labels of the result of a pair.
func (x *exact) label(m, o uint32) uint32 {
	if m == none {
		return x.findLabel(m, o)
	}
	l := &x.last[m]
	if l.one != o+2 { // 0 is for no pair yet, and none is the last number.
		l.one, l.label = o+2, x.findLabel(m, o)
	}
	return l.label
}

func (x *exact) findLabel(m, o uint32) uint32 {
	key := [2]uint32{m, o}
	if id, ok := x.byPair[key]; ok {
		return id
	}
	var text []byte
	for i := range x.pairwise.labels.cols {
		text = binary.LittleEndian.AppendUint32(text, x.pairwise.labels.cols[i].symbol(m, o))
	}
	id, ok := x.byText[string(text)]
	if !ok {
		id = uint32(len(x.labels))
		x.byText[string(text)] = id
		x.labels = append(x.labels, resultLabels{row: none})
	}
	x.byPair[key] = id
	return id
}

// write puts a cell in the row of its labels.
func (x *exact) write(label, order uint32, from [2]uint32, v float64, h *histogram.FloatHistogram) error {
	l := &x.labels[label]
	if l.written == x.step+1 {
		if !x.instant() || !x.env.DelayedNameRemoval {
			x.twice = true
			return nil
		}
		l.row = none // An instant may have two.
	}
	l.written = x.step + 1
	if l.row == none {
		if err := x.addResult(order, from); err != nil {
			return err
		}
		l.row = uint32(len(x.orders) - 1)
	}
	if h != nil {
		if err := x.done.UseHistograms(); err != nil {
			return err
		}
	}
	at := int(l.row)*x.done.Steps + x.step
	x.done.V[at], x.done.K[at] = v, vector.Float
	if h != nil {
		x.done.K[at], x.done.H[at] = vector.Histogram, h
	}
	return nil
}

// addResult adds a row to done, which grows by doubling.
func (x *exact) addResult(order uint32, from [2]uint32) error {
	n := x.done.Rows()
	if n == cap(x.done.IDs) {
		if err := x.done.Reserve(max(n, 16)); err != nil {
			return err
		}
	}
	if _, err := x.done.Add(uint32(n)); err != nil {
		return err
	}
	x.pairs.add(from[0], from[1])
	x.orders = append(x.orders, order)
	return nil
}

// instant tells whether the rules of Prometheus' engine for instants hold.
func (x *exact) instant() bool { return x.Grid().Instant() }
