// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"slices"
	"strings"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// labelTable is the labels of rows, a column for each name, while a set is built. Texts are numbered as found; 0 is
// the empty one, which stands for a label that a row lacks. The task pays for columns and texts.
type labelTable struct {
	task  *budget.Task
	n     int
	names []string
	cols  [][]uint32
	texts []string
	paid  int // texts that are paid for and not there yet
	// columns finds the column of a name that another source has brought; nil with one source: its symbols tell.
	columns map[string]int
}

const (
	// textBytes is what a text takes while a set is built, itself aside: its entry of texts, the same in order, its
	// places in both orders, and its part of a symbolMap and of the list of what is new, which grow by being copied.
	textBytes = 2*stringBytes + 2*numberBytes + 4*numberBytes + 2*numberBytes
	// textsAhead is how many texts are paid for at a time.
	textsAhead = 256
)

func (t *labelTable) init(task *budget.Task, n int, several bool) {
	t.task, t.n, t.texts = task, n, []string{""}
	if several {
		t.columns = map[string]int{}
	}
}

// pay pays for one more text, and reports whether there may be one.
func (t *labelTable) pay() bool {
	if t.paid == 0 {
		if !t.task.Reserve(textsAhead * textBytes) {
			return false
		}
		t.paid = textsAhead
	}
	t.paid--
	return true
}

// labelPosition is what the series before had at one position. Neighbours share their names and many values.
type labelPosition struct {
	name, value uint32 // symbols
	text        uint32
	col         []uint32
}

// add reads the labels of ids of one source into rows; nil: 0, 1, 2, ….
func (t *labelTable) add(src source, ids, rows []uint32) {
	values, ok := newSymbolMap(t.task, src.symbols(), len(ids))
	if !ok {
		return
	}
	defer values.free(t.task)
	var cols symbolMap
	var fresh []uint32 // symbols of the texts from first on
	first := uint32(len(t.texts))
	var at []labelPosition
	next := 0
	read := func(pairs []uint32) {
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
					if !t.pay() {
						return
					}
					text = first + uint32(len(fresh))
					fresh = append(fresh, value)
					values.put(value, text)
				}
				p.value, p.text = value, text
			}
			if p.col == nil {
				return // it is too much
			}
			p.col[row] = p.text
		}
	}
	for from, to := 0, t.task.Run(0, len(ids)); from < to; from, to = to, t.task.Run(to, len(ids)) {
		src.eachPairs(ids[from:to], read)
	}
	t.name(src, fresh)
}

// column returns the column of a name, which it makes where there is none; nil where the task ends.
func (t *labelTable) column(src source, known *symbolMap, sym uint32) []uint32 {
	if c, ok := known.get(sym); ok {
		return t.cols[c]
	}
	name := src.texts([]uint32{sym}, nil)[0]
	c, ok := t.columns[name]
	if !ok {
		if !t.task.Reserve(columnBytes + numberBytes*int64(t.n)) {
			return nil
		}
		c = len(t.names)
		t.names, t.cols = append(t.names, name), append(t.cols, make([]uint32, t.n))
		if t.columns != nil {
			t.columns[name] = c
		}
	}
	known.put(sym, uint32(c))
	return t.cols[c]
}

// name reads the texts of the symbols that stand for the next numbers. A text that another source, or another name of
// this one, has brought gets two numbers, which order makes one.
func (t *labelTable) name(src source, syms []uint32) {
	t.texts = slices.Grow(t.texts, len(syms))
	for from, to := 0, t.task.Run(0, len(syms)); from < to; from, to = to, t.task.Run(to, len(syms)) {
		n, bytes := len(t.texts), 0
		t.texts = src.texts(syms[from:to], t.texts)
		for _, text := range t.texts[n:] {
			bytes += len(text)
		}
		t.task.Reserve(int64(bytes))
	}
}

// order returns the rows in label order, and numbers the texts in theirs. Where the task ends, it leaves neither in any
// order.
func (t *labelTable) order() []uint32 {
	t.sortTexts()
	if t.task.Err() != nil {
		return nil
	}
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
	return sortRows(t.task, t.cols, t.n, len(t.texts))
}

// sortTexts numbers the texts in their order, equal ones alike.
func (t *labelTable) sortTexts() {
	byText := make([]uint32, len(t.texts))
	for i := range byText {
		byText[i] = uint32(i)
	}
	slices.SortFunc(byText, budget.Until(t.task, func(a, b uint32) int { return strings.Compare(t.texts[a], t.texts[b]) }))
	rank := make([]uint32, len(t.texts))
	sorted := make([]string, 0, len(t.texts))
	for from, to := 0, t.task.Run(0, len(byText)); from < to; from, to = to, t.task.Run(to, len(byText)) {
		for _, i := range byText[from:to] {
			if n := len(sorted); n == 0 || sorted[n-1] != t.texts[i] {
				sorted = append(sorted, t.texts[i])
			}
			rank[i] = uint32(len(sorted) - 1)
		}
	}
	t.texts = sorted
	for _, col := range t.cols {
		for from, to := 0, t.task.Run(0, len(col)); from < to; from, to = to, t.task.Run(to, len(col)) {
			for i, x := range col[from:to] {
				col[from+i] = rank[x]
			}
		}
	}
}

// set returns the rows that perm names as columns, without Gen, Bytes and Handle. The table is used up.
func (t *labelTable) set(perm []uint32) column.SeriesSet {
	n := len(perm)
	if n < t.n {
		t.keepUsed(perm)
	}
	s := column.SeriesSet{N: n, Names: t.names, Text: t.texts, Syms: make([][]uint32, len(t.names))}
	var out []uint32
	for c, col := range t.cols {
		if len(out) != n || c == 0 {
			if !t.task.Reserve(numberBytes * int64(n)) {
				return s
			}
			out = make([]uint32, n)
		}
		for from, to := 0, t.task.Run(0, n); from < to; from, to = to, t.task.Run(to, n) {
			for r := from; r < to; r++ {
				out[r] = col[perm[r]]
			}
		}
		s.Syms[c], out = out, col // which the next one goes into
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
