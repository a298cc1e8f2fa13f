// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator"
	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// outside is the group of rows that take no part.
const outside = ^uint32(0)

// grouping numbers the groups of the rows of a table.
type grouping struct {
	env   *operator.Env
	in    *vector.Table
	of    []uint32 // group of a row, or outside
	first []uint32 // first row of a group
	names *vector.Table
	rows  int // that take part
}

// keys returns the table whose rows are equal where those of in belong to one group.
func (c *Config) keys(in *vector.Table) *vector.Table {
	if c.Op == parser.COUNT_VALUES {
		in = in.Without(c.Label) // the value takes its place
	}
	if c.Without {
		return in.Without(append(slices.Clone(c.Grouping), labels.MetricName)...)
	}
	return in.Keep(c.Grouping...)
}

// groups numbers the groups of in, charging h.
func (c *Config) groups(env *operator.Env, h *retain.Memory, in *vector.Table) (*grouping, error) {
	if err := h.Charge(int64(in.N) * 8); err != nil {
		return nil, err
	}
	g := &grouping{env: env, in: in, names: c.keys(in), rows: in.N}
	var err error
	if g.of, g.first, err = g.names.Groups(); err != nil || len(c.Where) == 0 {
		return g, err
	}
	keep, err := matching(env, h, in, c.Where)
	if err != nil {
		return nil, err
	}
	defer retain.Drop(h, keep)
	return g, g.restrict(h, keep)
}

// restrict leaves out rows, and numbers what is left anew.
func (g *grouping) restrict(h *retain.Memory, keep []bool) error {
	renumbered, err := retain.Make[uint32](h, len(g.first))
	if err != nil {
		return err
	}
	defer retain.Drop(h, renumbered)
	for i := range renumbered {
		renumbered[i] = outside
	}
	first := g.first[:0] // a group stands no further behind than it did
	g.rows = 0
	for from, to := range g.env.Runs(len(g.of)) {
		for row := from; row < to; row++ {
			old := g.of[row]
			if !keep[row] {
				g.of[row] = outside
				continue
			}
			g.rows++
			if renumbered[old] == outside {
				renumbered[old] = uint32(len(first))
				first = append(first, uint32(row))
			}
			g.of[row] = renumbered[old]
		}
	}
	g.first = first
	return g.env.Check()
}

// What a matcher says of a value.
const (
	unasked uint8 = iota
	matches
	differs
)

// matching tells which rows of a table have labels that match. A value is matched once.
func matching(env *operator.Env, h *retain.Memory, t *vector.Table, ms []*labels.Matcher) ([]bool, error) {
	keep, err := retain.Make[bool](h, t.N)
	if err != nil {
		return nil, err
	}
	for i := range keep {
		keep[i] = true
	}
	verdicts, err := retain.Make[uint8](h, t.Dict.Len())
	if err != nil {
		return nil, err
	}
	defer retain.Drop(h, verdicts)
	for _, m := range ms {
		col := t.Column(m.Name)
		if col == nil {
			if !m.Matches("") {
				clear(keep)
			}
			continue
		}
		clear(verdicts)
		asked := 0
		for row, sym := range col[:t.N] {
			if verdicts[sym] == unasked {
				if asked++; asked&255 == 0 {
					if err := env.Check(); err != nil {
						return nil, err
					}
				}
				verdicts[sym] = differs
				if m.Matches(t.Dict.Text(sym)) {
					verdicts[sym] = matches
				}
			}
			keep[row] = keep[row] && verdicts[sym] == matches
		}
	}
	return keep, nil
}

// len returns how many groups there are.
func (g *grouping) len() int { return len(g.first) }

// sizes returns how many rows each group has.
func (g *grouping) sizes(h *retain.Memory) ([]uint32, error) {
	n, err := retain.Make[uint32](h, g.len())
	if err != nil {
		return nil, err
	}
	for from, to := range g.env.Runs(len(g.of)) {
		for _, of := range g.of[from:to] {
			if of != outside {
				n[of]++
			}
		}
	}
	return n, g.env.Check()
}

// sorted returns the rows group by group, in the order of rows within a group, and where each group begins.
func (g *grouping) sorted(h *retain.Memory) (rows, begin []uint32, err error) {
	sizes, err := g.sizes(h)
	if err != nil {
		return nil, nil, err
	}
	if begin, err = retain.Make[uint32](h, g.len()+1); err != nil {
		return nil, nil, err
	}
	if rows, err = retain.Make[uint32](h, g.rows); err != nil {
		return nil, nil, err
	}
	next := sizes // where the next row of a group goes
	for i, n := range sizes {
		begin[i+1] = begin[i] + n
		next[i] = begin[i]
	}
	for from, to := range g.env.Runs(len(g.of)) {
		for row := from; row < to; row++ {
			if of := g.of[row]; of != outside {
				rows[next[of]] = uint32(row)
				next[of]++
			}
		}
	}
	retain.Drop(h, sizes)
	return rows, begin, g.env.Check()
}

// table names groups, each by one of its rows.
func (g *grouping) table(h *retain.Memory, first []uint32, drop []bool) (*vector.Table, error) {
	keys := *g.names
	keys.Drop = nil
	t, err := take(h, &keys, first)
	if err != nil {
		return nil, err
	}
	t.Drop, t.Distinct = drop, true
	return t, nil
}

// take returns the table of some rows of t.
func take(h *retain.Memory, t *vector.Table, rows []uint32) (*vector.Table, error) {
	bytes := 4 * len(t.Cols)
	if t.Drop != nil {
		bytes++
	}
	if err := h.Charge(int64(len(rows)) * int64(bytes)); err != nil {
		return nil, err
	}
	return t.Take(rows), nil
}

// dropping says what is known of the metric names of the input before it is read.
type dropping uint8

const (
	keepAll dropping = iota
	dropAll
	dropSome // it depends on the step which series of a group there are
)

// drops tells whether the rows that take part lose their names.
func (g *grouping) drops() dropping {
	if g.in.Drop == nil {
		return keepAll
	}
	var yes, no bool
	for row, d := range g.in.Drop {
		if g.of[row] != outside {
			yes, no = yes || d, no || !d
		}
	}
	switch {
	case yes && no:
		return dropSome
	case yes:
		return dropAll
	}
	return keepAll
}

// all returns a column that is the same for n groups; nil for false.
func (d dropping) all(h *retain.Memory, n int) ([]bool, error) {
	if d != dropAll {
		return nil, nil
	}
	all, err := retain.Make[bool](h, n)
	for i := range all {
		all[i] = true
	}
	return all, err
}
