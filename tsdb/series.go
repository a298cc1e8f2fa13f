// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package tsdb

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/column"
	"github.com/tidemarkdb/tidemark/tsdb/index"
)

// location is one place that holds samples of a series.
type location struct {
	source uint32 // index into view.sources
	id     uint32 // of that source
}

// handle is what a SeriesSet of a view keeps to find the samples: those of row r are at the locations
// locs[off[r]:off[r+1]], in the order of the sources, oldest first.
type handle struct {
	view *view
	off  []uint32
	locs []location
}

// places returns the locations of a row.
func (h *handle) places(row uint32) []location { return h.locs[h.off[row]:h.off[row+1]] }

// Series lists the series that match, merged over head and blocks.
//
// Cost: one index selection per source; then, where there is more than one source, a map access per series and
// source to find the union by label hash; then a sort of the union by the ranks of its label texts, which
// compares integers, not strings.
func (v *view) Series(ctx context.Context, ms []*labels.Matcher, h column.Hint) (*column.SeriesSet, error) {
	mint, maxt := v.span(h.MinT, h.MaxT)
	m := seriesMerge{view: v}
	for i, s := range v.sources {
		if b, ok := s.(blockSource); ok {
			if meta := b.b.Meta(); meta.MinT > maxt || meta.MaxT < mint {
				continue
			}
		}
		ids, err := s.selectIDs(ctx, ms)
		if err != nil {
			return nil, fmt.Errorf("select series: %w", err)
		}
		if len(ids) > 0 {
			m.parts = append(m.parts, part{source: uint32(i), ids: ids})
		}
	}
	if err := m.union(ctx); err != nil {
		return nil, err
	}
	m.collect()
	m.order(h.Limit)
	return m.set(), nil
}

type part struct {
	source uint32
	ids    []uint32
}

// seriesMerge builds one SeriesSet. A row is one series of the union, numbered as found; order turns the rows
// into label order.
type seriesMerge struct {
	view  *view
	parts []part

	first []location // of each row: where its labels are read
	more  []extra    // locations beyond the first

	text  []string
	pairs []uint32 // of all rows: name, value, … as indexes into text
	off   []uint32 // row r's pairs are pairs[off[r]:off[r+1]]
	perm  []uint32 // rows in label order
}

type extra struct {
	row uint32
	loc location
}

// union gives every distinct label set a row.
func (m *seriesMerge) union(ctx context.Context) error {
	if len(m.parts) == 0 {
		return nil
	}
	total := 0
	for _, p := range m.parts {
		total += len(p.ids)
	}
	m.first = make([]location, 0, len(m.parts[0].ids))
	if len(m.parts) == 1 {
		for _, id := range m.parts[0].ids {
			m.first = append(m.first, location{m.parts[0].source, id})
		}
		return nil
	}
	m.more = make([]extra, 0, total-len(m.parts[0].ids))
	rows := make(map[index.Hash128]uint32, len(m.parts[0].ids))
	for _, p := range m.parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		src := m.view.sources[p.source]
		for _, id := range p.ids {
			h := src.hash(id)
			if row, ok := rows[h]; ok {
				m.more = append(m.more, extra{row, location{p.source, id}})
				continue
			}
			rows[h] = uint32(len(m.first))
			m.first = append(m.first, location{p.source, id})
		}
	}
	return nil
}

// collect reads the labels of every row as indexes into one table of texts.
func (m *seriesMerge) collect() {
	m.text = []string{""}
	m.off = make([]uint32, 1, len(m.first)+1)
	m.pairs = make([]uint32, 0, len(m.first)*20)
	known := map[string]uint32{"": 0}
	symbols := make([]symbolMap, len(m.view.sources))
	for _, loc := range m.first {
		src, sm := m.view.sources[loc.source], &symbols[loc.source]
		n := len(m.pairs)
		m.pairs = src.pairs(loc.id, m.pairs)
		for i := n; i < len(m.pairs); i++ {
			sym := m.pairs[i]
			t, ok := sm.get(sym)
			if !ok {
				s := src.symbol(sym)
				if t, ok = known[s]; !ok {
					t = uint32(len(m.text))
					m.text = append(m.text, s)
					known[s] = t
				}
				sm.put(sym, t)
			}
			m.pairs[i] = t
		}
		m.off = append(m.off, uint32(len(m.pairs)))
	}
}

// order sorts the rows by labels and keeps the first limit of them; 0: all.
func (m *seriesMerge) order(limit int) {
	byText := make([]uint32, len(m.text))
	for i := range byText {
		byText[i] = uint32(i)
	}
	slices.SortFunc(byText, func(a, b uint32) int { return cmp.Compare(m.text[a], m.text[b]) })
	rank := make([]uint32, len(m.text))
	for r, t := range byText {
		rank[t] = uint32(r)
	}
	m.perm = make([]uint32, len(m.first))
	for i := range m.perm {
		m.perm[i] = uint32(i)
	}
	compare := func(a, b uint32) int {
		x, y := m.pairs[m.off[a]:m.off[a+1]], m.pairs[m.off[b]:m.off[b+1]]
		for i := range min(len(x), len(y)) {
			if x[i] != y[i] {
				return cmp.Compare(rank[x[i]], rank[y[i]])
			}
		}
		return cmp.Compare(len(x), len(y))
	}
	if !slices.IsSortedFunc(m.perm, compare) {
		slices.SortFunc(m.perm, compare)
	}
	if limit > 0 && len(m.perm) > limit {
		m.perm = m.perm[:limit]
	}
}

// set turns the rows into the columns of a SeriesSet.
func (m *seriesMerge) set() *column.SeriesSet {
	n := len(m.perm)
	s := &column.SeriesSet{Gen: m.view.db.setGen.Add(1), N: n, Text: m.text}
	columnOf := make([]int32, len(m.text)) // of a label name: its column + 1
	for _, row := range m.perm {
		for i := m.off[row]; i < m.off[row+1]; i += 2 {
			if name := m.pairs[i]; columnOf[name] == 0 {
				s.Names = append(s.Names, m.text[name])
				columnOf[name] = 1
			}
		}
	}
	slices.Sort(s.Names)
	at := make(map[string]int32, len(s.Names))
	s.Syms = make([][]uint32, len(s.Names))
	flat := make([]uint32, n*len(s.Names))
	for i, name := range s.Names {
		at[name] = int32(i)
		s.Syms[i] = flat[i*n : (i+1)*n : (i+1)*n]
	}
	for t, text := range m.text {
		if columnOf[t] != 0 {
			columnOf[t] = at[text]
		}
	}
	for r, row := range m.perm {
		for i := m.off[row]; i < m.off[row+1]; i += 2 {
			s.Syms[columnOf[m.pairs[i]]][r] = m.pairs[i+1]
		}
	}
	s.Handle = m.handle()
	return s
}

// handle lists the locations of the ordered rows.
func (m *seriesMerge) handle() *handle {
	h := &handle{view: m.view, off: make([]uint32, len(m.perm)+1)}
	at := make([]uint32, len(m.first)) // of a row as found: its place in label order + 1
	for r, row := range m.perm {
		at[row] = uint32(r) + 1
		h.off[r+1] = 1
	}
	for _, e := range m.more {
		if r := at[e.row]; r > 0 {
			h.off[r]++
		}
	}
	for r := range m.perm {
		h.off[r+1] += h.off[r]
	}
	h.locs = make([]location, h.off[len(m.perm)])
	next := slices.Clone(h.off)
	for r, row := range m.perm {
		h.locs[next[r]] = m.first[row]
		next[r]++
	}
	for _, e := range m.more {
		if r := at[e.row]; r > 0 {
			h.locs[next[r-1]] = e.loc
			next[r-1]++
		}
	}
	return h
}
