// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package vector

import "math/bits"

// Groups numbers the rows by equality of all labels of t, in order of first appearance: of[row] is the number of
// its group, first[group] its first row. To group by some labels, Keep them before.
//
// Cost: per column that is not constant one lookup of an integer pair per row, the first column an array access.
func (t *Table) Groups() (of, first []uint32) {
	of = make([]uint32, t.N)
	if t.N == 0 {
		return of, nil
	}
	first = []uint32{0}
	for _, col := range t.Cols {
		switch {
		case constant(col[:t.N]):
			continue
		case len(first) == 1 && t.Dict.Len() <= 4*t.N+1<<10:
			first = split(of, col, t.Dict.Len())
		default:
			first = refine(of, col)
		}
		if len(first) == t.N {
			break
		}
	}
	return of, first
}

// Unique tells whether no two rows have the same labels.
func (t *Table) Unique() bool {
	if t.Distinct || t.N <= 1 {
		return true
	}
	_, first := t.Groups()
	return len(first) == t.N
}

func constant(col []uint32) bool {
	for _, s := range col {
		if s != col[0] {
			return false
		}
	}
	return true
}

// split numbers rows by the symbols of one column, in order of first appearance.
func split(of, col []uint32, symbols int) (first []uint32) {
	number := make([]uint32, symbols) // plus 1
	for row, sym := range col[:len(of)] {
		n := number[sym]
		if n == 0 {
			first = append(first, uint32(row))
			n = uint32(len(first))
			number[sym] = n
		}
		of[row] = n - 1
	}
	return first
}

// refine splits groups by a column and numbers them anew in order of first appearance.
func refine(of, col []uint32) (first []uint32) {
	seen := newPairs(len(of))
	var lastKey uint64
	var last uint32
	for row, g := range of {
		key := uint64(g)<<32 | uint64(col[row])
		if row == 0 || key != lastKey {
			lastKey, last = key, seen.number(key)
			if int(last) == len(first) {
				first = append(first, uint32(row))
			}
		}
		of[row] = last
	}
	return first
}

// pairs numbers pairs of integers in order of first appearance. It is a table of open addressing, at most half full: a
// lookup is a multiplication and about one cache line, where a Go map takes several times as long.
type pairs struct {
	slots []pair
	shift uint
	n     uint32
}

type pair struct {
	key    uint64
	number uint32 // plus 1; 0: free
}

// newPairs returns a table for a number of rows, of which there may be many with the same pair.
func newPairs(rows int) *pairs {
	p := &pairs{}
	p.resize(min(1<<10, 2*rows))
	return p
}

func (p *pairs) resize(slots int) {
	width := uint(max(bits.Len(uint(slots-1)), 4))
	p.slots, p.shift = make([]pair, 1<<width), 64-width
}

// number returns the number of a pair, the next one if it is new.
func (p *pairs) number(key uint64) uint32 {
	s := p.find(key)
	if s.number != 0 {
		return s.number - 1
	}
	p.n++
	*s = pair{key: key, number: p.n}
	if int(p.n) > len(p.slots)/2 {
		old := p.slots
		p.resize(2 * len(old))
		for _, o := range old {
			if o.number != 0 {
				*p.find(o.key) = o
			}
		}
	}
	return p.n - 1
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
