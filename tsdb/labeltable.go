// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"slices"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// labelTable is the labels of rows, a column for each name, while a set is built. Texts are numbered as found; 0 is
// the empty one, which stands for a label that a row lacks.
type labelTable struct {
	n     int
	names []string
	cols  [][]uint32
	texts []string
	// columns finds the column of a name that another source has brought; nil with one source: its symbols tell.
	columns map[string]int
}

func (t *labelTable) init(n int, several bool) {
	t.n, t.texts = n, []string{""}
	if several {
		t.columns = map[string]int{}
	}
}

// labelPosition is what the series before had at one position. Neighbours share their names and many values.
type labelPosition struct {
	name, value uint32 // symbols
	text        uint32
	col         []uint32
}

// add reads the labels of ids of one source into rows; nil: 0, 1, 2, ….
func (t *labelTable) add(src source, ids, rows []uint32) {
	values := newSymbolMap(src.symbols(), len(ids))
	var cols symbolMap
	var fresh []uint32 // symbols of the texts from first on
	first := uint32(len(t.texts))
	var at []labelPosition
	next := 0
	src.eachPairs(ids, func(pairs []uint32) {
		row := uint32(next)
		if rows != nil {
			row = rows[next]
		}
		next++
		for len(at) < len(pairs)/2 {
			at = append(at, labelPosition{name: noSymbol, value: noSymbol})
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			p := &at[i/2]
			if p.name != pairs[i] {
				p.name, p.col = pairs[i], t.column(src, &cols, pairs[i])
			}
			if value := pairs[i+1]; p.value != value {
				text, ok := values.get(value)
				if !ok {
					text = first + uint32(len(fresh))
					fresh = append(fresh, value)
					values.put(value, text)
				}
				p.value, p.text = value, text
			}
			p.col[row] = p.text
		}
	})
	t.name(src, fresh, first)
}

// column returns the column of a name, which it makes where there is none.
func (t *labelTable) column(src source, known *symbolMap, sym uint32) []uint32 {
	if c, ok := known.get(sym); ok {
		return t.cols[c]
	}
	name := src.texts([]uint32{sym}, nil)[0]
	c, ok := t.columns[name]
	if !ok {
		c = len(t.names)
		t.names, t.cols = append(t.names, name), append(t.cols, make([]uint32, t.n))
		if t.columns != nil {
			t.columns[name] = c
		}
	}
	known.put(sym, uint32(c))
	return t.cols[c]
}

// name reads the texts of the symbols that stand for the numbers from first on. A text that another source, or
// another name of this one, has brought gets two numbers, which order makes one.
func (t *labelTable) name(src source, syms []uint32, first uint32) {
	t.texts = src.texts(syms, slices.Grow(t.texts, len(syms)))
}

// order returns the rows in label order, and numbers the texts in theirs.
func (t *labelTable) order() []uint32 {
	t.sortTexts()
	byName := make([]int, len(t.names))
	for i := range byName {
		byName[i] = i
	}
	slices.SortFunc(byName, func(a, b int) int { return strings.Compare(t.names[a], t.names[b]) })
	names, cols := make([]string, len(byName)), make([][]uint32, len(byName))
	for i, c := range byName {
		names[i], cols[i] = t.names[c], t.cols[c]
	}
	t.names, t.cols = names, cols
	return sortRows(t.cols, t.n, len(t.texts))
}

// sortTexts numbers the texts in their order, equal ones alike.
func (t *labelTable) sortTexts() {
	byText := make([]uint32, len(t.texts))
	for i := range byText {
		byText[i] = uint32(i)
	}
	slices.SortFunc(byText, func(a, b uint32) int { return strings.Compare(t.texts[a], t.texts[b]) })
	rank := make([]uint32, len(t.texts))
	sorted := make([]string, 0, len(t.texts))
	for _, i := range byText {
		if n := len(sorted); n == 0 || sorted[n-1] != t.texts[i] {
			sorted = append(sorted, t.texts[i])
		}
		rank[i] = uint32(len(sorted) - 1)
	}
	t.texts = sorted
	for _, col := range t.cols {
		for i, x := range col {
			col[i] = rank[x]
		}
	}
}

// set returns the rows that perm names as columns, without Gen and Handle.
func (t *labelTable) set(perm []uint32) column.SeriesSet {
	n := len(perm)
	if n < t.n {
		t.keepUsed(perm)
	}
	s := column.SeriesSet{N: n, Names: t.names, Text: t.texts, Syms: make([][]uint32, len(t.names))}
	flat := make([]uint32, n*len(t.names))
	for c, col := range t.cols {
		out := flat[c*n : (c+1)*n : (c+1)*n]
		for r, row := range perm {
			out[r] = col[row]
		}
		s.Syms[c] = out
	}
	return s
}

// keepUsed drops the columns of labels that all of the rows lack.
func (t *labelTable) keepUsed(rows []uint32) {
	k := 0
	for c, col := range t.cols {
		if slices.ContainsFunc(rows, func(row uint32) bool { return col[row] != 0 }) {
			t.names[k], t.cols[k] = t.names[c], col
			k++
		}
	}
	t.names, t.cols = t.names[:k], t.cols[:k]
}
