// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"context"
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/index"
)

// part is the series that one source has of an answer.
type part struct {
	source uint32
	ids    []uint32
	rows   []uint32 // of each of ids; nil: 0, 1, 2, …
}

// seriesMerge builds one set. A row is one series of the union, numbered as found.
type seriesMerge struct {
	sources []source
	parts   []part // in the order of their sources
	n       int    // rows
	hashes  []index.Hash128
	table   hashTable
	labels  labelTable
}

// union gives every distinct label set a row. Blocks list their series in label order, so that most series of one
// are found right behind the one before in the rows that the first has made; only the others are looked up.
func (m *seriesMerge) union(ctx context.Context) error {
	if len(m.parts) == 0 {
		return nil
	}
	m.n = len(m.parts[0].ids)
	if len(m.parts) == 1 {
		return nil
	}
	m.hashes = m.sources[m.parts[0].source].hashes(m.parts[0].ids, make([]index.Hash128, 0, m.n+m.n/8))
	var hashes []index.Hash128
	for i := range m.parts[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := &m.parts[1+i]
		hashes = m.sources[p.source].hashes(p.ids, hashes[:0])
		m.join(p, hashes)
	}
	m.n = len(m.hashes)
	return nil
}

// join finds or makes the rows of a part.
func (m *seriesMerge) join(p *part, hashes []index.Hash128) {
	p.rows = make([]uint32, len(p.ids))
	next := uint32(0)
	for i, h := range hashes {
		if int(next) < len(m.hashes) && m.hashes[next] == h {
			p.rows[i] = next
			next++
			continue
		}
		row := m.table.findOrAdd(&m.hashes, h)
		p.rows[i] = row
		next = row + 1
	}
}

// collect reads the labels of every row, from the last source that has it: the head, where it does.
func (m *seriesMerge) collect(ctx context.Context) error {
	m.labels.init(m.n, len(m.parts) > 1)
	done := newRowSet(m.n)
	left := m.n
	for _, p := range slices.Backward(m.parts) {
		if err := ctx.Err(); err != nil || left == 0 {
			return err
		}
		src := m.sources[p.source]
		if len(m.parts) == 1 {
			m.labels.add(src, p.ids, nil)
			return nil
		}
		var ids, rows []uint32
		for i, id := range p.ids {
			row := uint32(i)
			if p.rows != nil {
				row = p.rows[i]
			}
			if done.add(row) {
				ids, rows = append(ids, id), append(rows, row)
			}
		}
		left -= len(ids)
		m.labels.add(src, ids, rows)
	}
	return nil
}

// places lists the locations of the rows that perm names, in its order.
func (m *seriesMerge) places(perm []uint32) *places {
	at := make([]uint32, m.n) // of a row as found: its place in label order + 1
	for r, row := range perm {
		at[row] = uint32(r) + 1
	}
	h := &places{off: make([]uint32, len(perm)+1)}
	if len(m.parts) == 1 {
		p := m.parts[0]
		h.locs = make([]location, len(perm))
		for r, row := range perm {
			h.locs[r] = location{p.source, p.ids[row]}
			h.off[r+1] = uint32(r) + 1
		}
		return h
	}
	m.each(at, func(r, _, _ uint32) { h.off[r+1]++ })
	for r := range perm {
		h.off[r+1] += h.off[r]
	}
	h.locs = make([]location, h.off[len(perm)])
	next := slices.Clone(h.off)
	m.each(at, func(r, source, id uint32) {
		h.locs[next[r]] = location{source, id}
		next[r]++
	})
	return h
}

// each calls f with every location: its place in label order, its source and its id.
func (m *seriesMerge) each(at []uint32, f func(r, source, id uint32)) {
	for _, p := range m.parts {
		for i, id := range p.ids {
			row := uint32(i)
			if p.rows != nil {
				row = p.rows[i]
			}
			if r := at[row]; r > 0 {
				f(r-1, p.source, id)
			}
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

// findOrAdd returns the row with hash h, the next one, which it appends to hashes, where there is none.
func (t *hashTable) findOrAdd(hashes *[]index.Hash128, h index.Hash128) uint32 {
	t.grow(*hashes)
	mask := uint64(len(t.slots) - 1)
	i := h.Lo & mask
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		if row := t.slots[i] - 1; (*hashes)[row] == h {
			return row
		}
	}
	row := uint32(len(*hashes))
	*hashes = append(*hashes, h)
	t.slots[i] = row + 1
	t.n++
	return row
}

// grow makes room for one more than hashes, all of which it puts in.
func (t *hashTable) grow(hashes []index.Hash128) {
	if t.n == len(hashes) && 2*(t.n+1) <= len(t.slots) {
		return
	}
	size := 64
	for size < 3*(len(hashes)+1) {
		size *= 2
	}
	t.slots, t.n = make([]uint32, size), len(hashes)
	for row, h := range hashes {
		i := h.Lo & uint64(size-1)
		for t.slots[i] != 0 {
			i = (i + 1) & uint64(size-1)
		}
		t.slots[i] = uint32(row) + 1
	}
}
