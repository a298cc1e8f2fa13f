// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math/bits"
)

// planSparse counts the bits of formSparse.
func (e *Encoder) planSparse(r []int64, s *stats) plan {
	e.split(r, s.mode)
	gaps, values := e.choosePart(e.gaps), e.choosePart(e.apart)
	p := plan{form: formSparse, base: s.mode, bits: 8*2 + (gaps.bits+7)&^7 + values.bits}
	if s.mode != 0 {
		p.bits += 8 * varintLen(s.mode)
	}
	return p
}

// split sets apart what differs from base.
func (e *Encoder) split(r []int64, base int64) {
	e.gaps, e.apart = e.gaps[:0], e.apart[:0]
	last := -1
	for i, v := range r {
		if v != base {
			e.gaps = append(e.gaps, int64(i-last-1))
			e.apart = append(e.apart, v-base)
			last = i
		}
	}
}

// outliers tells beyond which octave, counted from about the median, there are so few of n rows, and so much greater
// ones, that they had better stand apart.
func (e *Encoder) outliers(n int) (cut int, ok bool) {
	top := octaves - 1
	for top > 0 && e.signed[top] == 0 {
		top--
	}
	cut = top
	for few := n / 32; cut > 0; cut-- {
		if few -= e.signed[cut]; few < 0 {
			break
		}
	}
	return cut, top-cut >= 4
}

// isolate sets apart what is more than cut octaves from mid, and leaves to e.clean the rows with the ones before in its
// place.
func (e *Encoder) isolate(r []int64, mid int64, cut int) {
	e.gaps, e.apart, e.clean = e.gaps[:0], e.apart[:0], room(e.clean, len(r))
	last, before := -1, mid
	for i, v := range r {
		if bits.Len64(zigzag(v-mid)) > cut {
			e.gaps = append(e.gaps, int64(i-last-1))
			e.apart = append(e.apart, v)
			last, v = i, before
		}
		e.clean[i], before = v, v
	}
}

// planPatch counts the bits of formPatch.
func (e *Encoder) planPatch(r []int64, mid int64, cut int) plan {
	e.isolate(r, mid, cut)
	gaps, values := e.choosePart(e.gaps), e.choosePart(e.apart)
	inner := e.choosePart(e.clean)
	return plan{form: formPatch, base: mid, width: uint(cut), bits: inner.bits + (gaps.bits+7)&^7 + (values.bits+7)&^7 + 8*5}
}

// appendPatches appends the forms in which some rows stand apart.
func (e *Encoder) appendPatches(dst []byte, r []int64, p *plan) []byte {
	kinds := len(dst)
	dst = append(dst, 0)
	switch {
	case p.form == formPatch:
		e.isolate(r, p.base, int(p.width))
		dst = append(dst, 0)
	case p.base != 0:
		e.split(r, p.base)
		dst[kinds] = sparseBase
		dst = binary.AppendVarint(dst, p.base)
	default:
		e.split(r, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.gaps)))
	g := e.choosePart(e.gaps)
	dst = e.appendPart(dst, e.gaps, &g)
	v := e.choosePart(e.apart)
	dst = e.appendPart(dst, e.apart, &v)
	dst[kinds] |= g.form | v.form<<partShift
	if p.form == formPatch {
		c := e.choosePart(e.clean)
		dst[kinds+1] = c.form
		dst = e.appendResidual(dst, e.clean, &c)
	}
	return dst
}
