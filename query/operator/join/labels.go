// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/tidemarkdb/tidemark/query/vector"
)

// none stands for the row of a side that has none: its value is filled in.
const none = ^uint32(0)

// pairs are the rows that results are made of: result i of rows many[i] and one[i].
type pairs struct{ many, one []uint32 }

func (p *pairs) add(m, o uint32) {
	p.many, p.one = append(p.many, m), append(p.one, o)
}

// labeling says which labels the result of a pair has.
type labeling struct {
	dict *vector.Dict
	cols []labelColumn
}

// labelColumn is one label of results and where it comes from.
type labelColumn struct {
	name      string
	many, one []uint32
	include   bool // group_left or group_right takes it from the one side
	matching  bool // it is one of those by which rows match, which is what a filled side has
}

func newLabeling(c *Call, removes func(name string) bool, many, one *vector.Table) *labeling {
	l := &labeling{dict: many.Dict}
	fill := c.Matching.FillValues.LHS != nil || c.Matching.FillValues.RHS != nil
	names := union(many.Names, c.Matching.Include)
	if fill {
		names = union(names, one.Names)
	}
	for _, name := range names {
		col := labelColumn{
			name: name, many: many.Column(name), one: one.Column(name),
			include:  slices.Contains(c.Matching.Include, name),
			matching: matches(c.Matching, name),
		}
		if col.include || !removes(name) {
			l.cols = append(l.cols, col)
		}
	}
	return l
}

// matches tells whether rows match by a label.
func matches(m *parser.VectorMatching, name string) bool {
	if m.On {
		return slices.Contains(m.MatchingLabels, name)
	}
	return name != labels.MetricName && !slices.Contains(m.MatchingLabels, name)
}

// symbol returns the value of a label for a pair.
func (c *labelColumn) symbol(m, o uint32) uint32 {
	switch {
	case c.include && o != none:
		return symbol(c.one, o)
	case c.include && !c.matching:
		return 0
	case m != none:
		return symbol(c.many, m)
	case c.matching:
		return symbol(c.one, o)
	default:
		return 0
	}
}

// table returns the labels of pairs.
func (l *labeling) table(p pairs) *vector.Table {
	t := &vector.Table{N: len(p.many), Dict: l.dict}
	for i := range l.cols {
		c := &l.cols[i]
		t.Names = append(t.Names, c.name)
		t.Cols = append(t.Cols, c.column(p))
	}
	return t
}

// column shares the column of the many side where results are its rows as they are.
func (c *labelColumn) column(p pairs) []uint32 {
	if !c.include && identity(p.many, len(c.many)) {
		return c.many
	}
	col := make([]uint32, len(p.many))
	for i, m := range p.many {
		col[i] = c.symbol(m, p.one[i])
	}
	return col
}

// identity tells whether rows are 0, 1, ... n-1.
func identity(rows []uint32, n int) bool {
	if len(rows) != n {
		return false
	}
	for i, r := range rows {
		if r != uint32(i) {
			return false
		}
	}
	return true
}

// unique returns the labels that each result has from the many side as they are: many rows that differ in them have
// different results.
func (l *labeling) unique() []string {
	var names []string
	for i := range l.cols {
		if !l.cols[i].include {
			names = append(names, l.cols[i].name)
		}
	}
	return names
}
