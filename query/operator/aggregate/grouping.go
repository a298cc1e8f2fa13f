// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package aggregate

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/operator/retain"
	"github.com/tidemarkdb/tidemark/query/vector"
)

// outside is the group of rows that take no part.
const outside = ^uint32(0)

// grouping numbers the groups of the rows of a table.
type grouping struct {
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
func (c *Config) groups(h *retain.Memory, in *vector.Table) (*grouping, error) {
	if err := h.Charge(int64(in.N) * 8); err != nil {
		return nil, err
	}
	keys := c.keys(in)
	g := &grouping{in: in, names: keys, rows: in.N}
	var err error
	if g.of, g.first, err = keys.Groups(); err != nil {
		return nil, err
	}
	if len(c.Where) > 0 {
		g.restrict(matching(in, c.Where))
	}
	return g, nil
}

// restrict leaves out rows, and numbers what is left anew.
func (g *grouping) restrict(keep []bool) {
	renumbered := make([]uint32, len(g.first))
	for i := range renumbered {
		renumbered[i] = outside
	}
	g.first, g.rows = g.first[:0:0], 0
	for row, old := range g.of {
		if !keep[row] {
			g.of[row] = outside
			continue
		}
		g.rows++
		if renumbered[old] == outside {
			renumbered[old] = uint32(len(g.first))
			g.first = append(g.first, uint32(row))
		}
		g.of[row] = renumbered[old]
	}
}

// matching tells which rows of a table have labels that match. A value is matched once.
func matching(t *vector.Table, ms []*labels.Matcher) []bool {
	keep := make([]bool, t.N)
	for i := range keep {
		keep[i] = true
	}
	for _, m := range ms {
		col := t.Column(m.Name)
		if col == nil {
			if !m.Matches("") {
				clear(keep)
			}
			continue
		}
		verdicts := map[uint32]bool{}
		for row, sym := range col[:t.N] {
			v, ok := verdicts[sym]
			if !ok {
				v = m.Matches(t.Dict.Text(sym))
				verdicts[sym] = v
			}
			keep[row] = keep[row] && v
		}
	}
	return keep
}

// len returns how many groups there are.
func (g *grouping) len() int { return len(g.first) }

// sizes returns how many rows each group has.
func (g *grouping) sizes() []uint32 {
	n := make([]uint32, g.len())
	for _, of := range g.of {
		if of != outside {
			n[of]++
		}
	}
	return n
}

// sorted returns the rows group by group, in the order of rows within a group, and where each group begins.
func (g *grouping) sorted(h *retain.Memory) (rows, begin []uint32, err error) {
	if err := h.Charge(int64(g.rows)*4 + int64(g.len()+1)*8); err != nil {
		return nil, nil, err
	}
	begin = make([]uint32, g.len()+1)
	for i, n := range g.sizes() {
		begin[i+1] = begin[i] + n
	}
	next := slices.Clone(begin)
	rows = make([]uint32, g.rows)
	for row, of := range g.of {
		if of != outside {
			rows[next[of]] = uint32(row)
			next[of]++
		}
	}
	return rows, begin, nil
}

// table names groups, each by one of its rows.
func (g *grouping) table(first []uint32, drop []bool) *vector.Table {
	keys := *g.names
	keys.Drop = nil
	t := keys.Take(first)
	t.Drop, t.Distinct = drop, true
	return t
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
func (d dropping) all(n int) []bool {
	if d != dropAll {
		return nil
	}
	return slices.Repeat([]bool{true}, n)
}
