// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import (
	"slices"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Dict is the symbol table of one query: it numbers label values so that grouping and joins compare integers. It is
// for one goroutine: series are resolved one operator after the other, and rows need no symbols.
//
// The texts of the first set of series are taken over as they are. Those of the next ones come sorted too, so they are
// found by walking both lists side by side; nothing is hashed until an operator makes texts of its own.
type Dict struct {
	// Budget is charged before the table grows, until Free; nil: unlimited.
	Budget *budget.Account
	// Check tells whether to stop, for loops over texts and rows; nil: never.
	Check func() error

	text []string
	// order is all symbols in the order of their texts; nil while that is the order of their numbers. It counts only
	// while there is no index.
	order []uint32
	// owned: the array of text is the table's own, else it is that of the first set.
	owned bool
	index index
	// adopted keeps, per text table seen, the translation into this one.
	adopted map[*string]translation
	charged int64
}

// translation is of the first n texts of a table. to is nil where they have the same symbols here.
type translation struct {
	n  int
	to []uint32
}

// What a text takes beside its bytes, and a symbol.
const (
	headerBytes = 16
	symbolBytes = 4
)

// pollRows is after how many rows or texts a loop looks whether to stop.
const pollRows = 1 << 14

// NewDict returns a table that holds the empty text, symbol 0.
func NewDict() *Dict { return &Dict{text: []string{""}} }

// Text returns the text of a symbol.
func (d *Dict) Text(sym uint32) string { return d.text[sym] }

// Len returns how many symbols there are.
func (d *Dict) Len() int { return len(d.text) }

// Free gives back what was charged. The texts stay.
func (d *Dict) Free() {
	d.Budget.Release(d.charged)
	d.charged = 0
}

// Symbol returns the number of a text, a new one if need be, which is charged for then.
func (d *Dict) Symbol(s string) (uint32, error) {
	if s == "" {
		return 0, nil
	}
	if err := d.useIndex(); err != nil {
		return 0, err
	}
	slot := d.index.slot(s, d.text)
	if *slot != 0 {
		return *slot, nil
	}
	if err := d.charge(int64(len(s))); err != nil {
		return 0, err
	}
	return d.append(s, slot)
}

// append makes a text the next symbol, for which slot of the index is free.
func (d *Dict) append(s string, slot *uint32) (uint32, error) {
	if err := d.room(1); err != nil {
		return 0, err
	}
	sym := uint32(len(d.text))
	d.text = append(d.text, s)
	*slot = sym
	return sym, nil
}

// charge takes n bytes from the budget before they are allocated.
func (d *Dict) charge(n int64) error {
	if err := d.Budget.Reserve(n); err != nil {
		return err
	}
	d.charged += n
	return nil
}

func (d *Dict) refund(n int64) {
	d.Budget.Release(n)
	d.charged -= n
}

func (d *Dict) check() error {
	if d.Check == nil {
		return nil
	}
	return d.Check()
}

// room makes room for n more texts.
func (d *Dict) room(n int) error {
	n += len(d.text)
	if d.owned && n <= cap(d.text) {
		return nil
	}
	n = max(n, len(d.text)*3/2, 64)
	if err := d.charge(headerBytes * int64(n)); err != nil {
		return err
	}
	text := make([]string, len(d.text), n)
	copy(text, d.text)
	if d.owned {
		d.refund(headerBytes * int64(cap(d.text)))
	}
	d.text, d.owned = text, true
	return nil
}

// adopt returns the translation of the symbols of texts into those of d; nil where they are the same.
func (d *Dict) adopt(texts []string) ([]uint32, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	if t, ok := d.adopted[&texts[0]]; ok && t.n >= len(texts) {
		return t.to, nil
	}
	var to []uint32
	if len(d.text) == 1 && texts[0] == "" && d.index.slots == nil {
		d.text = slices.Clip(texts)
	} else {
		var err error
		if to, err = d.translation(texts); err != nil {
			return nil, err
		}
	}
	if d.adopted == nil {
		d.adopted = map[*string]translation{}
	}
	d.adopted[&texts[0]] = translation{len(texts), to}
	return to, nil
}

// translation returns the symbols of texts; nil where the n-th text is symbol n.
func (d *Dict) translation(texts []string) ([]uint32, error) {
	bytes := symbolBytes * int64(len(texts))
	if err := d.charge(bytes); err != nil {
		return nil, err
	}
	to := make([]uint32, len(texts))
	if err := d.translate(to, texts); err != nil {
		return nil, err
	}
	for i, sym := range to {
		if sym != uint32(i) {
			return to, nil
		}
	}
	d.refund(bytes)
	return nil, nil
}

// Table turns the series of the storage, no two of which are the same, into a table of this query's symbols. The
// columns are the caller's to charge.
func (d *Dict) Table(s *column.SeriesSet) (*Table, error) {
	t := &Table{N: s.N, Names: s.Names, Cols: s.Syms, Distinct: true, Dict: d}
	tr, err := d.adopt(s.Text)
	if tr == nil || err != nil {
		return t, err
	}
	t.Cols = make([][]uint32, len(s.Syms))
	for c, col := range s.Syms {
		t.Cols[c] = make([]uint32, len(col))
		for from := 0; from < len(col); from += pollRows {
			if err := d.check(); err != nil {
				return nil, err
			}
			end := min(from+pollRows, len(col))
			to := t.Cols[c][from:end]
			for i, sym := range col[from:end] {
				to[i] = tr[sym]
			}
		}
	}
	return t, nil
}
