// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
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
	h := header{src: src}
	if err := decodePlain(x, form, &h, m, from); err != nil {
		return err
	}
	return h.end()
}

// decodePlain is decodeResidual for forms that have no others within. It leaves the header behind the last of the m rows, or
// at the end where that cannot be told from the rows that are decoded.
func decodePlain(x []int64, form uint8, h *header, m, from int) error {
	switch form {
	case formConst:
		base := h.varint()
		if h.bad {
			return h.corrupt("constant")
		}
		for i := range x {
			x[i] = base
		}
		return nil
	case formPack:
		return decodePack(x, h, m, from)
	case formRice:
		return decodeRice(x, h, m, from)
	case formHuffman:
		return decodeHuffman(x, h, m, from)
	case formSegments:
		return decodeSegments(x, h, m, from)
	}
	return h.corrupt("unknown form of a residual")
}

// part decodes a part of another form, behind which more follows.
func (h *header) part(x []int64, form uint8) error {
	if form <= formRice {
		return decodePlain(x, form, h, len(x), 0)
	}
	n := h.size(len(h.src))
	if h.bad || n > len(h.src)-h.off {
		return h.corrupt("size of a part")
	}
	h.off += n
	inner := header{src: h.src[h.off-n : h.off]}
	if err := decodePlain(x, form, &inner, len(x), 0); err != nil {
		return err
	}
	return inner.end()
}

// appendPart appends what part decodes.
func (e *Encoder) appendPart(dst []byte, r []int64, p *plan) []byte {
	if p.form <= formRice {
		return e.appendResidual(dst, r, p)
	}
	e.sub = e.appendResidual(e.sub[:0], r, p)
	return append(binary.AppendUvarint(dst, uint64(len(e.sub))), e.sub...)
}

func decodePack(x []int64, h *header, m, from int) error {
	base, width := h.varint(), uint(h.u8())
	b := h.rest()
	if h.bad || width > 64 || uint(m) > 8*uint(len(b))/max(width, 1) {
		return h.corrupt("packed integers")
	}
	h.used(uint(m)*width, true)
	unpack(x, b, uint(from)*width, width, base)
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

// Flags beside the parameter of the Rice form.
const (
	riceSigned = 64
	riceBase   = 128 // a base follows; else it is 0
)

func decodeRice(x []int64, h *header, m, from int) error {
	par := h.u8()
	var base int64
	if par&riceBase != 0 {
		base = h.varint()
	}
	k, sign := uint(par&63), par/riceSigned&1
	b := h.rest()
	if h.bad || uint(m) > 8*uint(len(b))/(k+1) {
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
		if i >= 0 {
			u := uint64(q)<<k | w>>(q+1)&mask
			x[i] = base + int64(u>>sign^-(u&uint64(sign)))
		}
	}
	if pos > 8*uint(len(b)) {
		return h.corrupt("Rice codes are cut short")
	}
	h.used(pos, from+len(x) == m)
	return nil
}

func appendRice(dst []byte, r []int64, base int64, k uint, signed bool) []byte {
	par := byte(k)
	if signed {
		par |= riceSigned
	}
	if base != 0 {
		dst = binary.AppendVarint(append(dst, par|riceBase), base)
	} else {
		dst = append(dst, par)
	}
	w := bitWriter{buf: dst}
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

	segments int // formSegments: which plan they are of
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

// choose finds the form that takes the fewest bits for the residual of a column.
func (e *Encoder) choose(r []int64) plan {
	if len(r) == 0 {
		return plan{form: formConst, bits: 8}
	}
	s := e.look(r)
	best := e.plain(r, &s)
	if best.form == formConst {
		return best
	}
	cut, few := e.outliers(len(r)) // as plain has counted
	if s.modeCount > len(r)/3 {
		if p := e.planSparse(r, &s); p.bits < best.bits {
			best = p
		}
	}
	if few && best.bits > 8*32 {
		if p := e.planPatch(r, s.mid, cut); p.bits < best.bits {
			best = p
		}
	}
	return best
}

// choosePart finds the form that takes the fewest bits for a part of another form.
func (e *Encoder) choosePart(r []int64) plan {
	if len(r) == 0 {
		return plan{form: formConst, bits: 8}
	}
	s := e.look(r)
	return e.plain(r, &s)
}

// plain finds the best form that has no others within.
func (e *Encoder) plain(r []int64, s *stats) plan {
	if s.min == s.max {
		return plan{form: formConst, base: s.min, bits: 8 * varintLen(s.min)}
	}
	width := uint(bits.Len64(uint64(s.max - s.min)))
	best := plan{form: formPack, base: s.min, width: width, bits: 8*varintLen(s.min) + 8 + len(r)*int(width)}
	if s.max-s.min > 0 && width < 62 && len(r) >= 2*segmentUnit {
		if p := e.planSegments(r); p.bits < best.bits {
			best = p
		}
	}
	if len(r) < riceRows {
		for _, p := range [3]plan{planRice(r, 0, s.min < 0), planRice(r, s.min, false), planRice(r, s.mid, true)} {
			if p.bits < best.bits {
				best = p
			}
		}
	}
	e.signed = [octaves]int{}
	if best.bits > 8*8 {
		p := e.planHuffman(r, s)
		if limit := best.bits; e.Cold && p.bits < limit || p.bits < limit-limit*hotGain/100 {
			best = p
		}
	}
	return best
}

// riceRows is the number of rows from which on the Rice form is not tried: a Huffman code then costs little.
const riceRows = 100

// hotGain is how many percent smaller the Huffman form must be where columns are not cold.
const hotGain = 8

func planRice(r []int64, base int64, signed bool) plan {
	p := plan{form: formRice, base: base, zig: signed, bits: math.MaxInt}
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
		n := 8 + len(r)*int(k+1)
		if base != 0 {
			n += 8 * varintLen(base)
		}
		for _, v := range r {
			n += int(number(v) >> k)
		}
		if n < p.bits {
			p.bits, p.width = n, k
		}
	}
	return p
}

// appendResidual appends r as p says.
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
		if p.segments != e.planned { // other residuals were looked at since
			e.planSegments(r)
		}
		return e.appendSegments(dst, r)
	}
	return e.appendPatches(dst, r, p)
}
