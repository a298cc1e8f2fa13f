// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Forms of residuals: how the integers that remain of a column become bytes. Numbers are on disk.
const (
	formConst    = iota // all equal
	formPack            // all in one width
	formRice            // Golomb-Rice
	formHuffman         // octaves by a Huffman code, the rest as bits
	formSegments        // stretches of their own base and range
	formSparse          // all equal but some
	formPatch           // another form, and some rows that do not fit it
	forms
)

// decodeResidual decodes the rows [from, from+len(x)) of a residual of m rows.
func decodeResidual(x []int64, form uint8, src []byte, m, from int) error {
	if form == formSparse || form == formPatch {
		return decodePatches(x, &header{src: src}, form, m, from)
	}
	return decodePlain(x, form, src, m, from)
}

// decodePlain is decodeResidual for forms that have no others within.
func decodePlain(x []int64, form uint8, src []byte, m, from int) error {
	h := header{src: src}
	switch form {
	case formConst:
		base := h.varint()
		if h.bad || h.off != len(src) {
			return h.corrupt("constant")
		}
		for i := range x {
			x[i] = base
		}
		return nil
	case formPack:
		return decodePack(x, &h, m, from)
	case formRice:
		return decodeRice(x, &h, m, from)
	case formHuffman:
		return decodeHuffman(x, &h, m, from)
	case formSegments:
		return decodeSegments(x, &h, m, from)
	}
	return h.corrupt("unknown form of a residual")
}

func decodePack(x []int64, h *header, m, from int) error {
	base, width := h.varint(), uint(h.u8())
	b := h.rest()
	if h.bad || width > 64 || uint(m) > 8*uint(len(b))/max(width, 1) {
		return h.corrupt("packed integers")
	}
	for i := range x {
		x[i] = base
	}
	unpackAdd(x, b, uint(from)*width, width)
	return nil
}

func appendPack(dst []byte, r []int64, base int64, width uint) []byte {
	w := bitWriter{buf: append(binary.AppendVarint(dst, base), byte(width))}
	for _, v := range r {
		w.put(uint64(v-base), width)
	}
	return w.end()
}

// riceMax is the longest code of a number in the Rice form: what one word holds at any bit.
const riceMax = 57

const riceSigned = 64 // flag beside the parameter

func decodeRice(x []int64, h *header, m, from int) error {
	base, par := h.varint(), h.u8()
	k := uint(par & 63)
	b := h.rest()
	if h.bad || par >= 2*riceSigned || uint(m) > 8*uint(len(b))/(k+1) {
		return h.corrupt("Rice code")
	}
	mask, pos := uint64(1)<<k-1, uint(0)
	for i := -from; i < len(x); i++ {
		w := word(b, pos>>3) >> (pos & 7)
		q := uint(bits.TrailingZeros64(w))
		n := q + 1 + k
		if n > riceMax {
			return h.corrupt("Rice code of too many bits")
		}
		pos += n
		if i < 0 {
			continue
		}
		u := uint64(q)<<k | w>>(q+1)&mask
		if par&riceSigned != 0 {
			x[i] = base + unzigzag(u)
		} else {
			x[i] = base + int64(u)
		}
	}
	if pos > 8*uint(len(b)) {
		return h.corrupt("Rice codes are cut short")
	}
	return nil
}

func appendRice(dst []byte, r []int64, base int64, k uint, signed bool) []byte {
	par := byte(k)
	if signed {
		par |= riceSigned
	}
	w := bitWriter{buf: append(binary.AppendVarint(dst, base), par)}
	for _, v := range r {
		u := uint64(v - base)
		if signed {
			u = zigzag(v - base)
		}
		q := uint(u >> k)
		w.put((u&(1<<k-1)<<1|1)<<q, q+1+k)
	}
	return w.end()
}

// plan says how a residual is to be written.
type plan struct {
	form  uint8
	bits  int // what it will take, about
	base  int64
	width uint // formPack: bits; formRice: parameter
	zig   bool // formRice, formHuffman: signed
	code  huffman
}

// stats are what one look at a residual tells.
type stats struct {
	min, max  int64
	mode      int64 // the value of more than half of the rows, if there is one
	modeCount int
	mid       int64 // about the median
}

func (e *Encoder) look(r []int64) stats {
	s := stats{min: r[0], max: r[0], mode: r[0]}
	lead := 0
	for _, v := range r {
		s.min, s.max = min(s.min, v), max(s.max, v)
		if v == s.mode {
			lead++
		} else if lead--; lead < 0 {
			s.mode, lead = v, 1
		}
	}
	if lead > 0 {
		for _, v := range r {
			if v == s.mode {
				s.modeCount++
			}
		}
	}
	s.mid = middle(r)
	return s
}

// middle returns the median of some of the values.
func middle(r []int64) int64 {
	var t [31]int64
	n := min(len(r), len(t))
	for i := range n {
		t[i] = r[i*len(r)/n]
	}
	slices.Sort(t[:n])
	return t[n/2]
}

// choose finds the form that takes the fewest bits. With whole, r is the residual of a column and not a part of
// another form.
func (e *Encoder) choose(r []int64, whole bool) plan {
	if len(r) == 0 {
		return plan{form: formConst, bits: 8}
	}
	s := e.look(r)
	if s.min == s.max {
		return plan{form: formConst, base: s.min, bits: 8 * varintLen(s.min)}
	}
	width := uint(bits.Len64(uint64(s.max - s.min)))
	best := plan{form: formPack, base: s.min, width: width, bits: 8*varintLen(s.min) + 8 + len(r)*int(width)}
	take := func(p plan) {
		if p.bits < best.bits {
			best = p
		}
	}
	if whole && s.modeCount > len(r)/3 {
		take(e.planSparse(r, &s))
	}
	if s.max-s.min > 0 && width < 62 && len(r) >= 2*segmentUnit {
		if p := e.planSegments(r); p.bits < best.bits {
			best = p
		}
	}
	if best.bits > 8*8 {
		take(e.planHuffman(r, &s))
	}
	if len(r) < 100 || !whole {
		take(planRice(r, s.min, false))
		take(planRice(r, s.mid, true))
	}
	return best
}

func planRice(r []int64, base int64, signed bool) plan {
	p := plan{form: formRice, base: base, zig: signed, bits: 1 << 60}
	number := func(v int64) uint64 {
		if signed {
			return zigzag(v - base)
		}
		return uint64(v - base)
	}
	var sum, top uint64
	for _, v := range r {
		u := number(v)
		if u >= 1<<48 {
			return p
		}
		sum, top = sum+u, max(top, u)
	}
	mean := sum / uint64(len(r))
	k0 := uint(max(bits.Len64(mean), 1) - 1)
	for k := max(k0, 1) - 1; k <= k0+1; k++ {
		if uint(top>>k)+1+k > riceMax {
			continue
		}
		n := 8*varintLen(base) + 8 + len(r)*int(k+1)
		for _, v := range r {
			n += int(number(v) >> k)
		}
		if n < p.bits {
			p.bits, p.width = n, k
		}
	}
	return p
}

// planSparse counts the bits of formSparse.
func (e *Encoder) planSparse(r []int64, s *stats) plan {
	e.split(r, s.mode)
	gaps, values := e.choose(e.gaps, false), e.choose(e.apart, false)
	return plan{form: formSparse, base: s.mode, bits: 8*(varintLen(s.mode)+1+1+1) + (gaps.bits+7)&^7 + values.bits}
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

// appendResidual appends r as p says. For formSegments, choose must have looked at r last.
func (e *Encoder) appendResidual(dst []byte, r []int64, p *plan) []byte {
	switch p.form {
	case formConst:
		return binary.AppendVarint(dst, p.base)
	case formPack:
		return appendPack(dst, r, p.base, p.width)
	case formRice:
		return appendRice(dst, r, p.base, p.width, p.zig)
	case formHuffman:
		return e.appendHuffman(dst, r, p)
	case formSegments:
		return e.appendSegments(dst, r)
	}
	e.split(r, p.base)
	dst = binary.AppendVarint(dst, p.base)
	dst = binary.AppendUvarint(dst, uint64(len(e.gaps)))
	kinds := len(dst)
	dst = append(dst, 0)
	g := e.choose(e.gaps, false)
	e.sub = e.appendResidual(e.sub[:0], e.gaps, &g)
	dst = binary.AppendUvarint(dst, uint64(len(e.sub)))
	dst = append(dst, e.sub...)
	v := e.choose(e.apart, false)
	dst[kinds] = g.form | v.form<<4
	return e.appendResidual(dst, e.apart, &v)
}
