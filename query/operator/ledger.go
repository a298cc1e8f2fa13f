// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"slices"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// Ledger follows Prometheus' engine through an expression and counts as it counts: samples per step, samples read, and
// samples held at once. It computes nothing but sums over what meters have counted.
//
// Who drives it calls the methods in the order in which Prometheus evaluates, each after those of the node's inputs.
// A node that takes vectors is entered with Mark, before its inputs, which remembers what is held then.
type Ledger struct {
	held    int64 // samples held now
	peak    int64
	checked int64 // the highest that is compared with the limit: a few peaks are not
	steps   ledgerSteps
}

// ledgerSteps is what one evaluation counts: that of the query, of a subquery, or of a step invariant expression.
type ledgerSteps struct {
	grid          vector.Grid
	total, read   int64
	totals, reads []int64 // per step; nil where nobody asks
}

// NewLedger returns the ledger of a query that is evaluated at the steps of g. perStep: keep the counts of each.
func NewLedger(g vector.Grid, perStep bool) *Ledger {
	l := &Ledger{}
	l.enter(g, perStep)
	return l
}

// Mark returns what is held now.
func (l *Ledger) Mark() int64 { return l.held }

func (l *Ledger) note(held int64) { l.peak = max(l.peak, held) }

func (l *Ledger) check(held int64) {
	l.peak = max(l.peak, held)
	l.checked = max(l.checked, held)
}

func (l *Ledger) count(step int, total, read int64) {
	l.steps.total += total
	l.steps.read += read
	if l.steps.totals != nil {
		l.steps.totals[step] += total
		l.steps.reads[step] += read
	}
}

// Select is an instant vector selector that yielded c.
func (l *Ledger) Select(c *Cells) {
	if c.same() && l.steps.totals == nil {
		sum := c.weight(l.steps.grid.N)
		l.steps.total += sum
		l.steps.read += sum
		l.held += sum
		l.check(l.held)
		return
	}
	for i := range l.steps.grid.N {
		_, size := c.at(i)
		l.count(i, size, size)
		l.held += size
	}
	l.check(l.held)
}

// Smoothed is a smoothed instant vector selector with the windows of m. Prometheus counts neither what it reads nor
// what it yields, and holds the last window of each series.
func (l *Ledger) Smoothed(m *WindowMeter) {
	for id, widest := range m.widest {
		l.check(l.held + int64(widest))
		l.held += int64(m.last[id])
	}
}

// Timestamps is timestamp() or start_timestamp() of a selector, which found some samples and yields out for them.
func (l *Ledger) Timestamps(found, out *Cells) {
	for i := range l.steps.grid.N {
		n, _ := found.at(i)
		l.count(i, n, n)
		made, _ := out.at(i)
		l.check(l.held + n + made)
		l.held += made
	}
}

// Combine is a function, an operator or count_values, evaluated step by step from its inputs.
func (l *Ledger) Combine(mark int64, out *Cells, in ...*Cells) {
	n := l.steps.grid.N
	held, sum := l.held, int64(0)
	if out.same() && !slices.ContainsFunc(in, func(c *Cells) bool { return !c.same() }) {
		// What is held grows from step to step, so that it is the most at the last.
		for _, c := range in {
			held += c.Every
		}
		sum = out.weight(n)
		l.check(held + sum)
		l.held = mark + sum
		l.note(l.held)
		return
	}
	for i := range n {
		var gathered int64
		for _, c := range in {
			n, _ := c.at(i)
			gathered += n
		}
		l.check(held + gathered + out.vector(i))
		held += out.vector(i)
		_, size := out.at(i)
		sum += size
	}
	l.held = mark + sum
	l.note(l.held)
}

// Aggregate is any other aggregation.
func (l *Ledger) Aggregate(mark int64, out *Cells) {
	l.held = mark + out.weight(l.steps.grid.N)
	l.note(l.held)
}

// Call is a function over the range vector that m has metered. A subquery's samples were read when it was evaluated.
func (l *Ledger) Call(m *WindowMeter, subquery bool) {
	for id, widest := range m.widest {
		l.check(l.held + int64(widest))
		if n := int64(m.results[id]); n > 0 {
			l.check(l.held + int64(m.last[id]) + n)
			l.held += n
		}
	}
	if m.sum.totals == nil || l.steps.totals == nil {
		l.steps.total += m.sum.total
		if !subquery {
			l.steps.read += m.sum.read
		}
		return
	}
	for i, n := range m.sum.totals {
		read := m.sum.reads[i]
		if subquery {
			read = 0
		}
		l.count(i, n, read)
	}
}

// Ranges is a range vector as the value of the query. extra is how many samples the modifiers anchored and smoothed
// add to, or, negative, take away from what is in the windows.
func (l *Ledger) Ranges(m *WindowMeter, extra int64) {
	l.held += m.sum.total
	l.check(l.held)
	l.count(0, m.sum.total+extra, m.sum.total+extra)
}

// Subquery evaluates the inside of a subquery, with inner, at the times of g. offset is the one written in the query and
// length that of the windows of the function over it.
func (l *Ledger) Subquery(g vector.Grid, offset, length int64, inner func()) {
	in := l.inside(g, true, inner)
	l.merge(&in, offset, length)
}

// Points is a subquery that is the value of the query. Its inside is evaluated with inner at the times of g.
func (l *Ledger) Points(g vector.Grid, inner func()) {
	in := l.inside(g, true, inner)
	l.count(l.steps.grid.N-1, in.total, 0)
	l.merge(&in, 0, 0)
}

// merge adds the samples that a subquery read to the steps whose windows they are in: times are later by offset there.
// Without a length, all are in one.
func (l *Ledger) merge(in *ledgerSteps, offset, length int64) {
	g := l.steps.grid
	if g.N <= 1 {
		l.count(0, 0, in.read)
		return
	}
	for k, n := range in.reads {
		t := in.grid.At(k) + offset
		step := 0
		if t > g.Start {
			step = int(min((t-g.Start+g.Step-1)/g.Step, int64(g.N-1)))
		}
		if n != 0 && (length == 0 || t > g.At(step)-length) {
			l.count(step, 0, n)
		}
	}
}

// Release lets go of the values of a subquery, c at n steps.
func (l *Ledger) Release(c *Cells, n int) { l.held -= c.weight(n) }

// Broadcast evaluates a step invariant expression, with inner, at the first step alone. one is its value, which every
// step has then.
func (l *Ledger) Broadcast(one *Cells, inner func()) {
	n := l.steps.grid.N
	first := l.steps.grid
	first.N = 1
	in := l.inside(first, false, inner)
	for i := range n {
		l.count(i, in.total, 0)
	}
	l.count(0, 0, in.read)
	l.held += int64(n-1) * one.weight(1)
	l.check(l.held)
}

// inside does an evaluation within the one at hand and returns what it counted.
func (l *Ledger) inside(g vector.Grid, perStep bool, inner func()) ledgerSteps {
	outer := l.steps
	l.enter(g, perStep)
	inner()
	in := l.steps
	l.steps = outer
	return in
}

func (l *Ledger) enter(g vector.Grid, perStep bool) {
	l.steps = ledgerSteps{grid: g}
	if perStep {
		l.steps.totals, l.steps.reads = make([]int64, g.N), make([]int64, g.N)
	}
}
