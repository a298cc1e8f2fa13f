// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import "math/bits"

// Groups numbers the rows by equality of all labels of t, in order of first appearance: of[row] is the number of
// its group, first[group] its first row. To group by some labels, Keep them before.
//
// The 8 B per row of the result are the caller's to charge. What finding it takes is charged to the Dict, whose Check
// may end it.
//
// Cost: per column that is not constant one lookup of an integer pair per row, the first column an array access.
func (t *Table) Groups() (of, first []uint32, err error) {
	of = make([]uint32, t.N)
	if t.N == 0 {
		return of, nil, nil
	}
	first = []uint32{0}
	for _, col := range t.Cols {
		if constant(col[:t.N]) {
			continue
		}
		g := grouper{dict: t.Dict, of: of, col: col}
		if len(first) == 1 && t.Dict.Len() <= 4*t.N+1<<10 {
			first, err = g.split()
		} else {
			first, err = g.refine()
		}
		t.Dict.Budget.Release(g.charged)
		if err != nil {
			return nil, nil, err
		}
		if len(first) == t.N {
			break
		}
	}
	return of, first, nil
}

// Unique tells whether no two rows have the same labels.
func (t *Table) Unique() (bool, error) {
	if t.Distinct || t.N <= 1 {
		return true, nil
	}
	bytes := 2 * symbolBytes * int64(t.N)
	if err := t.Dict.Budget.Reserve(bytes); err != nil {
		return false, err
	}
	defer t.Dict.Budget.Release(bytes)
	_, first, err := t.Groups()
	return len(first) == t.N, err
}

func constant(col []uint32) bool {
	for _, s := range col {
		if s != col[0] {
			return false
		}
	}
	return true
}

// grouper splits groups by one column.
type grouper struct {
	dict    *Dict
	of, col []uint32
	charged int64
}

// charge takes n bytes for as long as the grouper works.
func (g *grouper) charge(n int64) error {
	if err := g.dict.Budget.Reserve(n); err != nil {
		return err
	}
	g.charged += n
	return nil
}

// runs calls f for stretches of rows, [from, to), until it fails or the query stops.
func (g *grouper) runs(f func(from, to int) error) error {
	for from := 0; from < len(g.of); from += pollRows {
		if err := g.dict.check(); err != nil {
			return err
		}
		if err := f(from, min(from+pollRows, len(g.of))); err != nil {
			return err
		}
	}
	return nil
}

// split numbers rows, which are one group, by the symbols of the column, in order of first appearance.
func (g *grouper) split() (first []uint32, err error) {
	if err := g.charge(symbolBytes * int64(g.dict.Len())); err != nil {
		return nil, err
	}
	number := make([]uint32, g.dict.Len()) // plus 1
	err = g.runs(func(from, to int) error {
		of := g.of[from:to]
		for i, sym := range g.col[from:to] {
			n := number[sym]
			if n == 0 {
				first = append(first, uint32(from+i))
				n = uint32(len(first))
				number[sym] = n
			}
			of[i] = n - 1
		}
		return nil
	})
	return first, err
}

// refine splits groups and numbers them anew in order of first appearance.
func (g *grouper) refine() (first []uint32, err error) {
	seen := pairs{charge: g.charge}
	if err := seen.resize(min(1<<10, 2*len(g.of))); err != nil {
		return nil, err
	}
	var lastKey uint64
	var last uint32
	err = g.runs(func(from, to int) error {
		col := g.col[from:to]
		for i, group := range g.of[from:to] {
			key := uint64(group)<<32 | uint64(col[i])
			if from+i == 0 || key != lastKey {
				var err error
				if last, err = seen.number(key); err != nil {
					return err
				}
				lastKey = key
				if int(last) == len(first) {
					first = append(first, uint32(from+i))
				}
			}
			g.of[from+i] = last
		}
		return nil
	})
	return first, err
}

// pairs numbers pairs of integers in order of first appearance. It is a table of open addressing, at most half full: a
// lookup is a multiplication and about one cache line, where a Go map takes several times as long.
type pairs struct {
	slots  []pair
	shift  uint
	n      uint32
	charge func(bytes int64) error // of slots, the smaller ones before them included
}

type pair struct {
	key    uint64
	number uint32 // plus 1; 0: free
}

const pairBytes = 16

func (p *pairs) resize(slots int) error {
	width := uint(max(bits.Len(uint(slots-1)), 4))
	if err := p.charge(pairBytes << width); err != nil {
		return err
	}
	old := p.slots
	p.slots, p.shift = make([]pair, 1<<width), 64-width
	for _, o := range old {
		if o.number != 0 {
			*p.find(o.key) = o
		}
	}
	return nil
}

// number returns the number of a pair, the next one if it is new.
func (p *pairs) number(key uint64) (uint32, error) {
	s := p.find(key)
	if s.number != 0 {
		return s.number - 1, nil
	}
	p.n++
	*s = pair{key: key, number: p.n}
	n := p.n - 1
	if int(p.n) > len(p.slots)/2 {
		return n, p.resize(2 * len(p.slots))
	}
	return n, nil
}

// find returns the slot of a pair, or the free one where it belongs.
func (p *pairs) find(key uint64) *pair {
	const golden = 0x9e3779b97f4a7c15
	at := key ^ key>>32
	for i := int(at * golden >> p.shift); ; i = (i + 1) & (len(p.slots) - 1) {
		if s := &p.slots[i]; s.number == 0 || s.key == key {
			return s
		}
	}
}
