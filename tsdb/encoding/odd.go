// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
)

// appendOdd appends the values that stand apart: how many there are, whether all are the same, the form and size
// of the gaps between them, the gaps, and the values.
func (e *Encoder) appendOdd(dst []byte, v []float64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(e.odd)))
	e.gaps = e.gaps[:0]
	last := -1
	same := true
	first := math.Float64bits(v[e.odd[0]])
	for _, i := range e.odd {
		e.gaps = append(e.gaps, int64(i-last-1))
		same = same && math.Float64bits(v[i]) == first
		last = i
	}
	p := e.choosePart(e.gaps)
	kind := p.form
	if same {
		kind |= oddSame
	}
	dst = e.appendPart(append(dst, kind), e.gaps, &p)
	for k, i := range e.odd {
		if k > 0 && same {
			break
		}
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v[i]))
	}
	return dst
}

const oddSame = 16 // flag beside the form of the gaps: all values are the same

// decodePatched decodes a column of which some values stand apart.
func decodePatched(dst []float64, src []byte, n, from, to int) ([]float64, error) {
	h := header{src: src, off: 1}
	count, kind := h.size(n), h.u8()
	if h.bad || kind&^oddSame >= formSparse {
		return dst, h.corrupt("values apart")
	}
	var room [128]int64
	gaps := room[:]
	if count > len(gaps) {
		gaps = make([]int64, count)
	}
	gaps = gaps[:count]
	if err := h.part(gaps, kind&^oddSame); err != nil {
		return dst, err
	}
	width := 8
	if kind&oddSame != 0 {
		width = 0
	}
	if len(src)-h.off < 8+width*(count-1) {
		return dst, h.corrupt("values apart")
	}
	odd := h.rest()
	h.off += 8 + width*(count-1)
	at := len(dst)
	dst, err := decodeIntegers(dst, src[0]&^patchedFlag, &h, n, from, to)
	if err != nil {
		return dst, err
	}
	f := dst[at:]
	row := -1
	for k, gap := range gaps {
		if uint64(gap) >= uint64(n-row-1) {
			return dst[:at], h.corrupt("value apart beyond the last row")
		}
		row += int(gap) + 1
		if i := row - from; uint(i) < uint(len(f)) {
			f[i] = math.Float64frombits(binary.LittleEndian.Uint64(odd[k*width:]))
		}
	}
	return dst, nil
}
