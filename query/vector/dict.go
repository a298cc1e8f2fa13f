// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import (
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Dict is the symbol table of one query: it numbers label values so that grouping and joins compare integers. It is
// for one goroutine: series are resolved one operator after the other, and rows need no symbols.
//
// The texts of the first set of series are taken over as they are; only a second set needs the map.
type Dict struct {
	text []string
	ids  map[string]uint32 // nil until a second source of texts comes
	// adopted keeps, per text table seen, the translation into this one.
	adopted map[*string]translation
}

// translation is of the first n texts of a table. to is nil where they have the same symbols here.
type translation struct {
	n  int
	to []uint32
}

// NewDict returns a table that holds the empty text, symbol 0.
func NewDict() *Dict { return &Dict{text: []string{""}} }

// Text returns the text of a symbol.
func (d *Dict) Text(sym uint32) string { return d.text[sym] }

// Len returns how many symbols there are.
func (d *Dict) Len() int { return len(d.text) }

// Symbol returns the number of a text, a new one if need be.
func (d *Dict) Symbol(s string) uint32 {
	if s == "" {
		return 0
	}
	d.index()
	if id, ok := d.ids[s]; ok {
		return id
	}
	id := uint32(len(d.text))
	d.text = append(d.text, s)
	d.ids[s] = id
	return id
}

func (d *Dict) index() {
	if d.ids != nil {
		return
	}
	d.ids = make(map[string]uint32, len(d.text))
	for i, s := range d.text {
		d.ids[s] = uint32(i)
	}
}

// adopt returns the translation of the symbols of texts into those of d; nil where they are the same.
func (d *Dict) adopt(texts []string) []uint32 {
	if len(texts) == 0 {
		return nil
	}
	if t, ok := d.adopted[&texts[0]]; ok && t.n >= len(texts) {
		return t.to
	}
	if d.adopted == nil {
		d.adopted = map[*string]translation{}
	}
	if len(d.text) == 1 && d.ids == nil && texts[0] == "" {
		d.text = slices.Clip(texts)
		d.adopted[&texts[0]] = translation{n: len(texts)}
		return nil
	}
	t := make([]uint32, len(texts))
	for i, s := range texts {
		t[i] = d.Symbol(s)
	}
	d.adopted[&texts[0]] = translation{len(texts), t}
	return t
}

// Table turns the series of the storage, no two of which are the same, into a table of this query's symbols.
func (d *Dict) Table(s *column.SeriesSet) *Table {
	t := &Table{N: s.N, Names: s.Names, Cols: s.Syms, Distinct: true, Dict: d}
	tr := d.adopt(s.Text)
	if tr == nil {
		return t
	}
	t.Cols = make([][]uint32, len(s.Syms))
	for c, col := range s.Syms {
		to := make([]uint32, len(col))
		for i, sym := range col {
			to[i] = tr[sym]
		}
		t.Cols[c] = to
	}
	return t
}
