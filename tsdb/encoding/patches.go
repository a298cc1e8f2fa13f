// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import "sync"

// patches are the rows of a residual that stand apart.
type patches struct {
	base         int64 // of formSparse: what the other rows are, and what the values are more than
	inner        uint8 // the form of the other rows
	gaps, values []int64
}

// patchRoom is room for the patches of a column.
type patchRoom struct{ buf []int64 }

// patchRooms lends them: most columns have few patches, some half as many as rows.
var patchRooms = sync.Pool{New: func() any { return &patchRoom{buf: make([]int64, 256)} }}

// Fields of the byte that says how patches are written.
const (
	partForm    = 7  // the form of the gaps; of the values, shifted
	partShift   = 3  // for the values
	sparseBase  = 64 // formSparse: a base follows; else it is 0
	partUnknown = 128
)

// patches reads what stands apart in a residual of m rows.
func (h *header) patches(form uint8, m int, room *patchRoom) (p patches, err error) {
	kinds := h.u8()
	p.inner = formConst
	if form == formPatch {
		p.inner = h.u8()
	}
	if kinds&sparseBase != 0 {
		p.base = h.varint()
	}
	count := h.size(m)
	if h.bad || p.inner >= formSparse || kinds&partUnknown != 0 || form == formPatch && kinds&sparseBase != 0 {
		return p, h.corrupt("patches")
	}
	if 2*count > len(room.buf) {
		room.buf = make([]int64, 2*count)
	}
	p.gaps, p.values = room.buf[:count], room.buf[count:2*count]
	if err := h.part(p.gaps, kinds&partForm); err != nil {
		return p, err
	}
	if err := h.part(p.values, kinds>>partShift&partForm); err != nil {
		return p, err
	}
	at := -1
	for k, gap := range p.gaps {
		if uint64(gap) >= uint64(m-at-1) {
			return p, h.corrupt("patch beyond the last row")
		}
		at += int(gap) + 1
		p.gaps[k] = int64(at)
	}
	if form == formSparse {
		return p, h.end()
	}
	return p, nil
}

// decodePatches decodes the forms in which some rows stand apart.
func decodePatches(x []int64, h *header, form uint8, m, from int) error {
	room := patchRooms.Get().(*patchRoom)
	defer patchRooms.Put(room)
	p, err := h.patches(form, m, room)
	if err != nil {
		return err
	}
	if form == formPatch {
		if err := decodePlain(x, p.inner, h, m, from); err != nil {
			return err
		}
		if err := h.end(); err != nil {
			return err
		}
	} else {
		for i := range x {
			x[i] = p.base
		}
	}
	for k, at := range p.gaps {
		if i := int(at) - from; uint(i) < uint(len(x)) {
			x[i] = p.base + p.values[k]
		}
	}
	return nil
}

// steps decodes a column that changes only at its patches into f, run by run.
func (c *integers) steps(f []float64, p *patches, codec uint8, unit int) {
	sum, row := c.first, c.from
	for k, at := range p.gaps {
		end := int(at) + 1 // the row that is different
		if end >= c.to {
			break
		}
		if end > row {
			fill(f[row-c.from:end-c.from], one(sum, codec, unit))
			row = end
		}
		sum += p.values[k] * c.divisor
	}
	fill(f[row-c.from:], one(sum, codec, unit))
}

func fill(f []float64, v float64) {
	for ; len(f) >= 8; f = f[8:] {
		p := (*[8]float64)(f)
		p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7] = v, v, v, v, v, v, v, v
	}
	for i := range f {
		f[i] = v
	}
}

// one turns one integer into a value.
func one(x int64, codec uint8, unit int) float64 {
	if codec == valuesDecimal {
		return float64(x)
	}
	i := [1]int64{x}
	var f [1]float64
	turn(f[:], i[:], codec, unit)
	return f[0]
}
