// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"github.com/tidemarkdb/tidemark/query/operator/operand"
	"github.com/tidemarkdb/tidemark/query/vector"
	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

// masks tell at which steps a match group has a cell: one byte per step, all bits set where it has. Most groups have
// one at all steps or at none, and these need no look at the bytes.
type masks struct {
	steps   int
	of      []uint32 // by group: the number of its mask, plus 1; 0: it has none
	fill    []fill   // by mask
	bits    []vector.Kind
	account *budget.Account
	charged int64
}

// fill is what is known of a mask.
type fill uint8

const (
	empty fill = iota
	partial
	full
)

// newMasks makes empty masks for the groups that are wanted.
func newMasks(a *budget.Account, steps int, wanted []bool) (*masks, error) {
	m := &masks{steps: steps, of: make([]uint32, len(wanted)), account: a}
	n := 0
	for g, w := range wanted {
		if w {
			n++
			m.of[g] = uint32(n)
		}
	}
	bytes := int64(n)*int64(steps+1) + int64(5*len(wanted))
	if err := a.Reserve(bytes); err != nil {
		return nil, err
	}
	m.charged = bytes
	m.bits, m.fill = make([]vector.Kind, n*steps), make([]fill, n)
	return m, nil
}

// has tells whether a group has a mask.
func (m *masks) has(g uint32) bool { return m.of[g] != 0 }

// state returns what is known of the mask of a group; empty if it has none.
func (m *masks) state(g uint32) fill {
	if m.of[g] == 0 {
		return empty
	}
	return m.fill[m.of[g]-1]
}

// group returns the mask of a group that has one.
func (m *masks) group(g uint32) []vector.Kind {
	at := int(m.of[g]-1) * m.steps
	return m.bits[at : at+m.steps]
}

// mark sets the mask of a group, if it has one, where a row has a cell.
func (m *masks) mark(g uint32, row operand.Row) {
	if m.of[g] == 0 || m.fill[m.of[g]-1] == full {
		return
	}
	mask, state := m.group(g), &m.fill[m.of[g]-1]
	if row.Shape[row.At]&vector.HasGaps == 0 {
		for i := range mask {
			mask[i] = 0xFF
		}
		*state = full
		return
	}
	k := row.Kinds()[:len(mask)]
	for i, x := range k {
		mask[i] |= -((x | x>>1) & 1)
	}
	*state = partial
}

// keep takes away the cells of a row where the mask of its group is not set.
func (m *masks) keep(g uint32, row operand.Row) {
	switch m.state(g) {
	case full:
	case empty:
		wipe(row)
	case partial:
		k, mask := row.Kinds(), m.group(g)
		mask = mask[:len(k)]
		for i := range k {
			k[i] &= mask[i]
		}
		measure(row)
	}
}

// hide takes away the cells of a row where the mask of its group is set.
func (m *masks) hide(g uint32, row operand.Row) {
	switch m.state(g) {
	case empty:
	case full:
		wipe(row)
	case partial:
		k, mask := row.Kinds(), m.group(g)
		mask = mask[:len(k)]
		for i := range k {
			k[i] &^= mask[i]
		}
		measure(row)
	}
}

// wipe takes away all cells of a row.
func wipe(row operand.Row) {
	clear(row.Kinds())
	row.Shape[row.At] = vector.HasGaps
}

// measure finds out the shape of a row that has lost cells.
func measure(row operand.Row) {
	if row.HasHistograms() {
		row.Measure(row.At)
	} else {
		row.Shape[row.At] = shapeOf(row.Kinds())
	}
}

func (m *masks) free() {
	if m == nil {
		return
	}
	m.account.Release(m.charged)
	m.bits, m.charged = nil, 0
}
