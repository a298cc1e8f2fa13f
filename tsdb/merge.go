// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/index"
)

// part is the series that one source has of an answer.
type part struct {
	source uint32
	ids    []uint32
	rows   []uint32 // of each of ids; nil: 0, 1, 2, …
	cut    bool     // there are more ids
}

func (p *part) row(i int) uint32 {
	if p.rows == nil {
		return uint32(i)
	}
	return p.rows[i]
}

// seriesMerge builds one set. A row is one series of the union, numbered as found. The task pays for what it makes; in
// the steps a call that finds it ended leaves the rest undone.
type seriesMerge struct {
	task    *budget.Task
	sources []source
	parts   []part // in the order of their sources
	n       int    // rows
	hashes  []index.Hash128
	found   []index.Hash128 // of some series at a time, memory to be used again
	table   hashTable
	labels  labelTable
}

const (
	numberBytes   = 4 // of an id, a row or a symbol
	hashBytes     = 16
	locationBytes = 8
	stringBytes   = 16
	columnBytes   = 24 + stringBytes // beside its symbols: the slice and the name
)

// find returns the set, but for its Gen and Handle, and where its samples are.
func (m *seriesMerge) find(ms []*labels.Matcher, limit int) (column.SeriesSet, *places, error) {
	fail := func(err error) (column.SeriesSet, *places, error) {
		return column.SeriesSet{}, nil, fmt.Errorf("select series: %w", err)
	}
	for i, s := range m.sources {
		ids, err := s.selectIDs(m.task, ms)
		if err != nil {
			return fail(err)
		}
		if len(ids) > 0 {
			m.parts = append(m.parts, part{source: uint32(i), ids: ids})
		}
	}
	some := m.cut(ms, limit)
	m.union()
	m.collect()
	if err := m.task.Err(); err != nil {
		return fail(err)
	}
	perm := m.labels.order()
	if err := m.task.Err(); err != nil {
		return fail(err)
	}
	if limit > 0 && len(perm) > limit {
		perm = perm[:limit]
	}
	if some {
		if err := m.complete(perm); err != nil {
			return fail(err)
		}
	}
	at := m.places(perm)
	set := m.labels.set(perm)
	m.measure(&set, at)
	if err := m.task.Err(); err != nil {
		return fail(err)
	}
	return set, at, nil
}

// measure fills in what a set takes.
func (m *seriesMerge) measure(set *column.SeriesSet, at *places) {
	n := stringBytes*int64(len(set.Text)) + columnBytes*int64(len(set.Names)) + numberBytes*int64(set.N)*int64(len(set.Syms))
	n += numberBytes*int64(len(at.off)) + locationBytes*int64(len(at.locs))
	for from, to := 0, m.task.Run(0, len(set.Text)); from < to; from, to = to, m.task.Run(to, len(set.Text)) {
		for _, text := range set.Text[from:to] {
			n += int64(len(text))
		}
	}
	set.Bytes = n
	m.task.Reserve(max(n-m.task.Taken(), 0))
}

// union gives every distinct label set a row. Blocks list their series in label order, so that most series of one
// are found right behind the one before in the rows that the first has made; only the others are looked up.
func (m *seriesMerge) union() {
	if len(m.parts) == 0 {
		return
	}
	m.n = len(m.parts[0].ids)
	if len(m.parts) == 1 {
		return
	}
	before := m.task.Taken()
	if !m.room(m.n + m.n/8) {
		return
	}
	first := m.parts[0]
	for from, to := 0, m.task.Run(0, m.n); from < to; from, to = to, m.task.Run(to, m.n) {
		m.hashes = m.sources[first.source].hashes(m.task, first.ids[from:to], m.hashes)
	}
	rows := int64(0)
	for i := range m.parts[1:] {
		p := &m.parts[1+i]
		rows += numberBytes * int64(len(p.ids))
		if !m.task.Reserve(numberBytes * int64(len(p.ids))) {
			return
		}
		p.rows = make([]uint32, len(p.ids))
		m.join(p)
	}
	m.n = len(m.hashes)
	m.hashes, m.table = nil, hashTable{}
	m.task.Settle(before + rows)
}

// room makes room for n more hashes.
func (m *seriesMerge) room(n int) bool {
	if cap(m.hashes)-len(m.hashes) >= n {
		return true
	}
	n = max(n, len(m.hashes)/4)
	if !m.task.Reserve(hashBytes * int64(n)) {
		return false
	}
	m.hashes = append(make([]index.Hash128, 0, len(m.hashes)+n), m.hashes...)
	return true
}

// join finds or makes the rows of a part.
func (m *seriesMerge) join(p *part) {
	next := uint32(0)
	for from, to := 0, m.task.Run(0, len(p.ids)); from < to; from, to = to, m.task.Run(to, len(p.ids)) {
		if !m.room(to - from) {
			return
		}
		m.found = m.sources[p.source].hashes(m.task, p.ids[from:to], slices.Grow(m.found[:0], to-from))
		rows := p.rows[from:to]
		for i, h := range m.found {
			if int(next) < len(m.hashes) && m.hashes[next] == h {
				rows[i] = next
				next++
				continue
			}
			row, ok := m.table.findOrAdd(m.task, &m.hashes, h)
			if !ok {
				return
			}
			rows[i] = row
			next = row + 1
		}
	}
}

// collect reads the labels of every row, from the last source that has it: the head, where it does.
func (m *seriesMerge) collect() {
	m.labels.init(m.task, m.n, len(m.parts) > 1)
	if len(m.parts) == 1 {
		m.labels.add(m.sources[m.parts[0].source], m.parts[0].ids, nil)
		return
	}
	if !m.task.Reserve(int64(m.n)/8 + 8) {
		return
	}
	done := newRowSet(m.n)
	left := m.n
	for _, p := range slices.Backward(m.parts) {
		most := min(left, len(p.ids))
		if left == 0 || !m.task.Reserve(2*numberBytes*int64(most)) {
			return
		}
		ids, rows := make([]uint32, 0, most), make([]uint32, 0, most)
		for from, to := 0, m.task.Run(0, len(p.ids)); from < to; from, to = to, m.task.Run(to, len(p.ids)) {
			for i := from; i < to; i++ {
				if row := p.row(i); done.add(row) {
					ids, rows = append(ids, p.ids[i]), append(rows, row)
				}
			}
		}
		left -= len(ids)
		m.labels.add(m.sources[p.source], ids, rows)
		m.task.Release(2 * numberBytes * int64(most))
	}
}

// places lists the locations of the rows that perm names, in its order.
func (m *seriesMerge) places(perm []uint32) *places {
	h := &places{}
	if !m.task.Reserve(numberBytes*int64(m.n) + 2*numberBytes*int64(len(perm)+1)) {
		return h
	}
	h.off = make([]uint32, len(perm)+1)
	if len(m.parts) == 1 {
		m.placesOfOne(h, perm)
		return h
	}
	at := make([]uint32, m.n) // of a row as found: its place in label order + 1
	for from, to := 0, m.task.Run(0, len(perm)); from < to; from, to = to, m.task.Run(to, len(perm)) {
		for r := from; r < to; r++ {
			at[perm[r]] = uint32(r) + 1
		}
	}
	for _, p := range m.parts {
		for from, to := 0, m.task.Run(0, len(p.ids)); from < to; from, to = to, m.task.Run(to, len(p.ids)) {
			for i := from; i < to; i++ {
				if r := at[p.row(i)]; r > 0 {
					h.off[r]++
				}
			}
		}
	}
	for r := range perm {
		h.off[r+1] += h.off[r]
	}
	if !m.task.Reserve(locationBytes * int64(h.off[len(perm)])) {
		return h
	}
	h.locs = make([]location, h.off[len(perm)])
	next := slices.Clone(h.off)
	for _, p := range m.parts {
		for from, to := 0, m.task.Run(0, len(p.ids)); from < to; from, to = to, m.task.Run(to, len(p.ids)) {
			for i := from; i < to; i++ {
				if r := at[p.row(i)]; r > 0 {
					h.locs[next[r-1]] = location{p.source, p.ids[i]}
					next[r-1]++
				}
			}
		}
	}
	return h
}

// placesOfOne is places where one source has everything.
func (m *seriesMerge) placesOfOne(h *places, perm []uint32) {
	p := m.parts[0]
	if !m.task.Reserve(locationBytes * int64(len(perm))) {
		return
	}
	h.locs = make([]location, len(perm))
	for from, to := 0, m.task.Run(0, len(perm)); from < to; from, to = to, m.task.Run(to, len(perm)) {
		for r := from; r < to; r++ {
			h.locs[r] = location{p.source, p.ids[perm[r]]}
			h.off[r+1] = uint32(r) + 1
		}
	}
}

// rowSet is a set of rows.
type rowSet []uint64

func newRowSet(n int) rowSet { return make(rowSet, (n+63)/64) }

// add puts a row in and reports whether it was not there.
func (s rowSet) add(row uint32) bool {
	word, bit := &s[row/64], uint64(1)<<(row%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// hashTable finds rows by their hash: open addressing over row numbers, a quarter of the memory of a Go map.
type hashTable struct {
	slots []uint32 // row + 1; 0: free
	n     int
}

// findOrAdd returns the row with hash h, the next one, which it appends to hashes, where there is none; not ok where the
// task ends.
func (t *hashTable) findOrAdd(task *budget.Task, hashes *[]index.Hash128, h index.Hash128) (row uint32, ok bool) {
	if !t.grow(task, *hashes) {
		return 0, false
	}
	mask := uint64(len(t.slots) - 1)
	i := h.Lo & mask
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		if row := t.slots[i] - 1; (*hashes)[row] == h {
			return row, true
		}
	}
	row = uint32(len(*hashes))
	*hashes = append(*hashes, h)
	t.slots[i] = row + 1
	t.n++
	return row, true
}

// grow makes room for one more than hashes, all of which it puts in.
func (t *hashTable) grow(task *budget.Task, hashes []index.Hash128) bool {
	if t.n == len(hashes) && 2*(t.n+1) <= len(t.slots) {
		return true
	}
	size := 64
	for size < 3*(len(hashes)+1) {
		size *= 2
	}
	if !task.Reserve(numberBytes * int64(size-len(t.slots))) {
		return false
	}
	t.slots, t.n = make([]uint32, size), len(hashes)
	for from, to := 0, task.Run(0, len(hashes)); from < to; from, to = to, task.Run(to, len(hashes)) {
		for row := from; row < to; row++ {
			i := hashes[row].Lo & uint64(size-1)
			for t.slots[i] != 0 {
				i = (i + 1) & uint64(size-1)
			}
			t.slots[i] = uint32(row) + 1
		}
	}
	return task.Err() == nil
}
