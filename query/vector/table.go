// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// Table names the series of an operator: N rows, each with its labels as symbols of Dict. It is immutable; methods
// that change something return another table, which shares the columns that stay.
type Table struct {
	N int
	// Names are the label names in use, sorted. Cols[i][row] is the symbol of the value of Names[i]; 0, the empty
	// text, where the row lacks the label.
	Names []string
	Cols  [][]uint32
	// Drop marks rows whose metric name (with type and unit) goes away when the query ends: delayed name removal.
	// nil: none.
	Drop []bool
	// Distinct says that no two rows have the same labels; false: not known. Who makes a table of series that differ
	// sets it, and saves Unique the search.
	Distinct bool
	Dict     *Dict
}

// Dropped tells whether the name of a row goes away at the end.
func (t *Table) Dropped(row uint32) bool { return t.Drop != nil && t.Drop[row] }

// WithDrop returns t with all rows marked, or unmarked.
func (t *Table) WithDrop(drop bool) *Table {
	c := *t
	c.Drop = nil
	if drop {
		c.Drop = make([]bool, t.N)
		for i := range c.Drop {
			c.Drop[i] = true
		}
	}
	return &c
}

// Column returns the symbols of a label, nil if no row has it.
func (t *Table) Column(name string) []uint32 {
	if i, ok := slices.BinarySearch(t.Names, name); ok {
		return t.Cols[i]
	}
	return nil
}

// Value returns the value of a label of a row.
func (t *Table) Value(row uint32, name string) string {
	if c := t.Column(name); c != nil {
		return t.Dict.Text(c[row])
	}
	return ""
}

// Labels returns the labels of a row.
func (t *Table) Labels(row uint32, b *labels.ScratchBuilder) labels.Labels {
	b.Reset()
	for i, name := range t.Names {
		if sym := t.Cols[i][row]; sym != 0 {
			b.Add(name, t.Dict.Text(sym))
		}
	}
	return b.Labels()
}

// Keep returns t with the labels named only.
func (t *Table) Keep(names ...string) *Table {
	return t.filter(func(n string) bool { return slices.Contains(names, n) })
}

// Without returns t without the labels named.
func (t *Table) Without(names ...string) *Table {
	return t.filter(func(n string) bool { return !slices.Contains(names, n) })
}

// WithoutWhere returns t without the labels named in the rows that are marked.
func (t *Table) WithoutWhere(marked []bool, names ...string) *Table {
	if !slices.Contains(marked, false) {
		return t.Without(names...)
	}
	for _, name := range names {
		col := t.Column(name)
		if col == nil {
			continue
		}
		col = slices.Clone(col)
		for row, is := range marked {
			if is {
				col[row] = 0
			}
		}
		t = t.With(name, col)
	}
	return t
}

func (t *Table) filter(keep func(string) bool) *Table {
	c := *t
	c.Names, c.Cols = nil, nil
	for i, n := range t.Names {
		if keep(n) {
			c.Names, c.Cols = append(c.Names, n), append(c.Cols, t.Cols[i])
		} else if c.Distinct {
			c.Distinct = constant(t.Cols[i][:t.N])
		}
	}
	return &c
}

// With returns t with the column of a label replaced or added. It keeps col.
func (t *Table) With(name string, col []uint32) *Table {
	c := *t
	c.Distinct = false
	i, ok := slices.BinarySearch(t.Names, name)
	if ok {
		c.Cols = slices.Clone(t.Cols)
		c.Cols[i] = col
		return &c
	}
	c.Names = slices.Insert(slices.Clone(t.Names), i, name)
	c.Cols = slices.Insert(slices.Clone(t.Cols), i, col)
	return &c
}

// Take returns the table of some rows of t, in the order given.
func (t *Table) Take(rows []uint32) *Table {
	c := &Table{N: len(rows), Names: t.Names, Dict: t.Dict, Cols: make([][]uint32, len(t.Cols))}
	flat := make([]uint32, len(rows)*len(t.Cols))
	for i, col := range t.Cols {
		to := flat[i*len(rows) : (i+1)*len(rows) : (i+1)*len(rows)]
		for j, r := range rows {
			to[j] = col[r]
		}
		c.Cols[i] = to
	}
	if t.Drop != nil {
		c.Drop = make([]bool, len(rows))
		for j, r := range rows {
			c.Drop[j] = t.Drop[r]
		}
	}
	return c
}

// Order returns the rows in the order of their labels, as labels.Compare has it.
func (t *Table) Order() []uint32 { return t.OrderBy(t.Compare) }

// OrderBy returns the rows in an order, rows that are equal in that of t.
func (t *Table) OrderBy(compare func(a, b uint32) int) []uint32 {
	order := make([]uint32, t.N)
	for i := range order {
		order[i] = uint32(i)
	}
	if !slices.IsSortedFunc(order, compare) {
		// Much faster than a stable sort, and the same with the numbers of rows deciding between equals.
		slices.SortFunc(order, func(a, b uint32) int {
			if c := compare(a, b); c != 0 {
				return c
			}
			return cmp.Compare(a, b)
		})
	}
	return order
}

// Compare orders two rows by their labels.
func (t *Table) Compare(a, b uint32) int {
	// The first label in which they differ decides: a row that lacks it has another, later name there or none.
	for i, col := range t.Cols {
		x, y := col[a], col[b]
		switch {
		case x == y:
		case x != 0 && y != 0:
			if c := cmp.Compare(t.Dict.Text(x), t.Dict.Text(y)); c != 0 {
				return c
			}
		case x == 0:
			return t.lacks(a, i)
		default:
			return -t.lacks(b, i)
		}
	}
	return 0
}

// lacks orders a row that lacks label i against one that has it: behind, because its next name is later, but before
// when it has no further label.
func (t *Table) lacks(row uint32, i int) int {
	for _, col := range t.Cols[i+1:] {
		if col[row] != 0 {
			return 1
		}
	}
	return -1
}
