// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// radix is how many keys one counting pass tells apart: its counters, 256 KiB, stay in the second level cache.
const radix = 1 << 16

// fewRows is up to how many rows are compared with one another: counters would cost more.
const fewRows = 512

// sortRows returns the rows 0 to n-1 in label order. Columns are in the order of their names; their numbers, below
// texts, are in the order of what they stand for; 0 says that the row lacks the label.
//
// Rows are sorted by counting, from the last column to the first. Columns of few values share a pass, so that a
// fleet of machines needs three or four, of about 4 ns a row each. Where the task ends, they are in no order.
func sortRows(task *budget.Task, cols [][]uint32, n, texts int) []uint32 {
	if !task.Reserve(numberBytes * int64(n)) {
		return nil
	}
	perm := make([]uint32, n)
	for i := range perm {
		perm[i] = uint32(i)
	}
	compare := budget.Until(task, func(a, b uint32) int { return compareRows(cols, a, b) })
	if slices.IsSortedFunc(perm, compare) {
		return perm
	}
	if n <= fewRows {
		slices.SortFunc(perm, compare)
		return perm
	}
	work := numberBytes*int64(2*n+texts+radix) + int64(n) // all that a rowSorter has, but for perm
	if !task.Reserve(work) {
		return nil
	}
	defer task.Release(work)
	s := rowSorter{task: task, perm: perm, out: make([]uint32, n), keys: make([]uint32, n), width: 1, dense: make([]uint32, texts)}
	for c := range slices.Backward(cols) {
		s.column(cols, c)
	}
	s.pass()
	return s.perm
}

// compareRows compares label sets as lists of names and values: where one lacks a name that the other has, it is
// the lower one if it ends there, else the higher one, for its next name comes later.
func compareRows(cols [][]uint32, a, b uint32) int {
	for c, col := range cols {
		x, y := col[a], col[b]
		switch {
		case x == y:
		case x == 0:
			return lacking(cols[c+1:], a)
		case y == 0:
			return -lacking(cols[c+1:], b)
		default:
			return cmp.Compare(x, y)
		}
	}
	return 0
}

// lacking returns how a row compares with one that has a label before those of cols, which it lacks.
func lacking(cols [][]uint32, row uint32) int {
	for _, col := range cols {
		if col[row] != 0 {
			return 1
		}
	}
	return -1
}

// rowSorter sorts by one run of columns after the other, the last first.
type rowSorter struct {
	task      *budget.Task
	perm, out []uint32
	keys      []uint32 // of each row, by the columns since the last pass
	width     int      // keys are below it
	counts    []uint32
	dense     []uint32 // of each text: its number among those of a column
	ends      []bool   // of each row: it has no label behind the column at hand; nil before the first column
}

// column takes the column before those that were taken into the keys.
func (s *rowSorter) column(cols [][]uint32, c int) {
	if s.task.Err() != nil {
		return
	}
	col := cols[c]
	values, lacks := s.number(col)
	if lacks {
		values += 2 // one below all, one above
	}
	if values > 1 {
		if s.width*values > radix {
			s.pass()
		}
		if lacks && s.ends == nil {
			s.ends = make([]bool, len(col))
			for from, to := 0, s.task.Run(0, len(col)); from < to; from, to = to, s.task.Run(to, len(col)) {
				for r := from; r < to; r++ {
					s.ends[r] = lacking(cols[c+1:], uint32(r)) < 0
				}
			}
		}
		s.take(col, uint32(values), lacks)
	}
	if s.ends != nil {
		for r, x := range col {
			s.ends[r] = s.ends[r] && x == 0
		}
	}
}

// number gives the texts of a column numbers from 0, in order, and returns how many there are.
func (s *rowSorter) number(col []uint32) (values int, lacks bool) {
	clear(s.dense)
	for from, to := 0, s.task.Run(0, len(col)); from < to; from, to = to, s.task.Run(to, len(col)) {
		for _, x := range col[from:to] {
			s.dense[x] = 1
		}
	}
	lacks = s.dense[0] != 0
	s.dense[0] = 0
	for x, there := range s.dense {
		s.dense[x] = uint32(values)
		values += int(there)
	}
	return values, lacks
}

func (s *rowSorter) take(col []uint32, values uint32, lacks bool) {
	width := uint32(s.width)
	for from, to := 0, s.task.Run(0, len(col)); from < to; from, to = to, s.task.Run(to, len(col)) {
		for r := from; r < to; r++ {
			x := col[r]
			key := s.dense[x]
			if lacks {
				key++
				if x == 0 {
					key = values - 1
					if s.ends[r] {
						key = 0
					}
				}
			}
			s.keys[r] += key * width
		}
	}
	s.width *= int(values)
}

// pass sorts by the keys, and starts new ones.
func (s *rowSorter) pass() {
	for shift := 0; (s.width-1)>>shift > 0; shift += 16 {
		s.counts = append(s.counts[:0], make([]uint32, min(radix, s.width))...)
		for from, to := 0, s.task.Run(0, len(s.keys)); from < to; from, to = to, s.task.Run(to, len(s.keys)) {
			for _, key := range s.keys[from:to] {
				s.counts[key>>shift&(radix-1)]++
			}
		}
		sum := uint32(0)
		for k, n := range s.counts {
			s.counts[k] = sum
			sum += n
		}
		for from, to := 0, s.task.Run(0, len(s.perm)); from < to; from, to = to, s.task.Run(to, len(s.perm)) {
			for _, row := range s.perm[from:to] {
				at := &s.counts[s.keys[row]>>shift&(radix-1)]
				s.out[*at] = row
				*at++
			}
		}
		if s.task.Err() != nil {
			return // out is no permutation
		}
		s.perm, s.out = s.out, s.perm
	}
	clear(s.keys)
	s.width = 1
}
