// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// maxCode is the longest Huffman code, which bounds the table of a decoder.
const maxCode = 10

// octaves is how many classes there are: class 0 is the number 0, class c > 0 the numbers of c bits.
const octaves = 65

// huffman is a code for the octaves of the numbers of a column.
type huffman struct {
	low, high int // the classes that have a length of their own: all that occur, and those between
	length    [octaves]uint8
}

// planHuffman counts the bits of formHuffman.
func (e *Encoder) planHuffman(r []int64, s *stats) plan {
	var plain [octaves]int
	for _, v := range r {
		plain[bits.Len64(uint64(v-s.min))]++
		e.signed[bits.Len64(zigzag(v-s.mid))]++
	}
	a, b := plan{form: formHuffman, base: s.min}, plan{form: formHuffman, base: s.mid, zig: true}
	a.bits, b.bits = a.code.build(&plain), b.code.build(&e.signed)
	if a.bits += 8 * varintLen(a.base); a.bits <= b.bits+8*varintLen(b.base) {
		return a
	}
	b.bits += 8 * varintLen(b.base)
	return b
}

// build makes the code for numbers that occur as often as count says and returns how many bits it takes.
func (c *huffman) build(count *[octaves]int) int {
	type node struct {
		n  int
		up int8 // the made node above it
	}
	var nodes [2 * octaves]node
	var order [octaves]int8
	used := 0
	c.low = octaves
	for k, n := range count {
		if n == 0 {
			continue
		}
		c.low, c.high = min(c.low, k), k
		j := used
		for ; j > 0 && count[order[j-1]] > n; j-- {
			order[j] = order[j-1]
		}
		order[j] = int8(k)
		used++
	}
	for i := range used {
		nodes[i].n = count[order[i]]
	}
	// The two queues of ascending counts: leaves, and the nodes made so far.
	leaf, made, end := 0, used, used
	next := func() int {
		if leaf < used && (made == end || nodes[leaf].n <= nodes[made].n) {
			leaf++
			return leaf - 1
		}
		made++
		return made - 1
	}
	for range used - 1 {
		a := next()
		b := next()
		nodes[end].n = nodes[a].n + nodes[b].n
		nodes[a].up, nodes[b].up = int8(end-used), int8(end-used)
		end++
	}
	var depth [octaves]uint8 // of made nodes; the last one is the root
	for i := used - 2; i >= 0; i-- {
		if i < used-2 {
			depth[i] = depth[nodes[used+i].up] + 1
		}
	}
	total := 0
	for i := range used {
		d := uint8(0) // for the only class
		if used > 1 {
			d = depth[nodes[i].up] + 1
		}
		c.length[order[i]] = d
	}
	c.limit(order[:used])
	for k := c.low; k <= c.high; k++ {
		total += count[k] * (int(c.length[k]) + max(k-1, 0))
	}
	return total + 8*2 + 4*(c.high-c.low+1) + 8
}

// limit shortens codes of more than maxCode bits and lengthens others for them. order lists the classes that
// occur, rarest first.
func (c *huffman) limit(order []int8) {
	space := 0 // what the codes take of 1<<maxCode
	for _, k := range order {
		c.length[k] = min(c.length[k], maxCode)
		space += 1 << (maxCode - c.length[k])
	}
	for space > 1<<maxCode {
		for _, k := range order {
			if c.length[k] < maxCode {
				c.length[k]++
				space -= 1 << (maxCode - c.length[k])
				break
			}
		}
	}
}

// codes assigns canonical codes, lowest bit first, and returns false if the lengths are not those of a code.
func (c *huffman) codes(code *[octaves]uint16) (longest uint, ok bool) {
	var first [maxCode + 2]uint16
	if c.low == c.high && c.length[c.low] == 0 {
		return 0, true
	}
	used := 0
	for k := c.low; k <= c.high; k++ {
		n := c.length[k]
		if n > maxCode {
			return 0, false
		}
		if n > 0 {
			first[n+1]++
			used++
			longest = max(longest, uint(n))
		}
	}
	next := uint16(0)
	space := 0
	for n := 1; n <= maxCode; n++ {
		next = (next + first[n]) << 1
		space += int(first[n+1]) << (maxCode - n)
		first[n] = next
	}
	if used == 0 || space > 1<<maxCode {
		return 0, false
	}
	for k := c.low; k <= c.high; k++ {
		if n := c.length[k]; n > 0 {
			code[k] = bits.Reverse16(first[n]) >> (16 - n)
			first[n]++
		}
	}
	return longest, true
}

const huffmanSigned = 128 // flag beside the lowest class

// appendHuffman appends the form: base, lowest class, number of classes, their code lengths, and two streams of
// bits, one of the first half of the rows from the front on, one of the others from the end backwards.
func (e *Encoder) appendHuffman(dst []byte, r []int64, p *plan) []byte {
	var code [octaves]uint16
	p.code.codes(&code)
	low := byte(p.code.low)
	if p.zig {
		low |= huffmanSigned
	}
	dst = append(binary.AppendVarint(dst, p.base), low, byte(p.code.high-p.code.low+1))
	w := bitWriter{buf: dst}
	for k := p.code.low; k <= p.code.high; k++ {
		w.put(uint64(p.code.length[k]), 4)
	}
	w.buf = w.end()
	put := func(rows []int64) {
		for _, v := range rows {
			u := uint64(v - p.base)
			if p.zig {
				u = zigzag(v - p.base)
			}
			k := uint(bits.Len64(u))
			n := uint(p.code.length[k])
			extra := max(k, 1) - 1
			w.put(uint64(code[k]), n)
			w.put(u&(1<<extra-1), extra)
		}
	}
	half := (len(r) + 1) / 2
	put(r[:half])
	dst = w.end()
	w = bitWriter{buf: e.back[:0]}
	put(r[half:])
	e.back = w.end()
	for _, c := range slices.Backward(e.back) {
		dst = append(dst, c)
	}
	return dst
}

// huffmanTable answers the next code of a stream: its length in bits 0-3, the further bits of its numbers in
// bits 4-9, and whether they have a highest bit above those in bit 11.
type huffmanTable struct {
	entry [1 << maxCode]uint16
	mask  uint64
	base  int64
	sign  uint8 // 1 if the numbers are zigzag
}

func (h *header) huffman(t *huffmanTable) error {
	var c huffman
	var code [octaves]uint16
	t.base = h.varint()
	low := h.u8()
	t.sign = low >> 7
	c.low = int(low &^ huffmanSigned)
	c.high = c.low + int(h.u8()) - 1
	if h.bad || c.high < c.low || c.high >= octaves || len(h.src)-h.off < (c.high-c.low+2)/2 {
		return h.corrupt("Huffman code")
	}
	for k := c.low; k <= c.high; k++ {
		c.length[k] = h.src[h.off+(k-c.low)/2] >> (4 * uint((k-c.low)&1)) & 15
	}
	h.off += (c.high - c.low + 2) / 2
	longest, ok := c.codes(&code)
	if !ok {
		return h.corrupt("code lengths that are no code")
	}
	t.mask = 1<<longest - 1
	for k := c.low; k <= c.high; k++ {
		n := c.length[k]
		if n == 0 && longest > 0 {
			continue
		}
		entry := uint16(n)
		if k > 0 {
			entry |= uint16(k-1)<<4 | 1<<11
		}
		for i := int(code[k]); i < 1<<longest; i += 1 << n {
			t.entry[i] = entry
		}
	}
	return nil
}

func decodeHuffman(x []int64, h *header, m, from int) error {
	var t huffmanTable
	if err := h.huffman(&t); err != nil {
		return err
	}
	b := h.rest()
	if m > 8*len(b)+1 && t.mask > 0 {
		return h.corrupt("fewer codes than rows")
	}
	half, to := (m+1)/2, from+len(x)
	front, back := stream{i: -from}, stream{i: half - from, back: true}
	if to > half && from < half {
		t.both(x, b, &front, &back, min(half, to-half))
	}
	if from < half {
		t.run(x[:min(to, half)-from], b, &front)
	}
	if to > half {
		t.run(x, b, &back)
	}
	if front.pos+back.pos > 8*uint(len(b)) {
		return h.corrupt("codes are cut short")
	}
	h.used((front.pos+7)&^7+back.pos, to == m && from < max(half, 1))
	return nil
}

// stream is one of the two streams of a column: the row that comes next, less the first that is wanted, and its bit.
type stream struct {
	i    int
	pos  uint
	back bool // it stands in reverse
}

// word returns the word at a byte of the stream.
func (s *stream) word(b []byte, off uint) uint64 {
	if s.back {
		return wordBack(b, off)
	}
	return word(b, off)
}

// both decodes rows of both streams side by side, which is faster than one after the other.
func (t *huffmanTable) both(x []int64, b []byte, front, back *stream, rows int) {
	i, j, p, q := front.i, back.i, front.pos, back.pos
	base, sign := uint64(t.base), t.sign
	for range rows {
		v, w := word(b, p>>3)>>(p&7), wordBack(b, q>>3)>>(q&7)
		c, d := uint(t.entry[v&t.mask&(1<<maxCode-1)]), uint(t.entry[w&t.mask&(1<<maxCode-1)])
		n, k, extra, more := c&15, d&15, c>>4&63, d>>4&63
		if n+extra > 57 || k+more > 57 {
			break
		}
		v, w = v>>n&(1<<extra-1)|uint64(c>>11)<<extra, w>>k&(1<<more-1)|uint64(d>>11)<<more
		if p += n + extra; uint(i) < uint(len(x)) {
			x[i] = int64(base + (v>>sign ^ -(v & uint64(sign))))
		}
		if q += k + more; uint(j) < uint(len(x)) {
			x[j] = int64(base + (w>>sign ^ -(w & uint64(sign))))
		}
		i++
		j++
	}
	front.i, front.pos, back.i, back.pos = i, p, j, q
}

// run decodes the rows of one stream that are left.
func (t *huffmanTable) run(x []int64, b []byte, s *stream) {
	pos := s.pos
	for i := s.i; i < len(x); i++ {
		w := s.word(b, pos>>3) >> (pos & 7)
		entry := uint(t.entry[w&t.mask&(1<<maxCode-1)])
		n, extra := entry&15, entry>>4&63
		w >>= n
		if n+extra > 57 {
			w = s.word(b, (pos+n)>>3) >> ((pos + n) & 7)
			if extra > 57 {
				w |= s.word(b, (pos+n)>>3+8) << (64 - (pos+n)&7)
			}
		}
		pos += n + extra
		if i >= 0 {
			u := w&(1<<extra-1) | uint64(entry>>11)<<extra
			x[i] = t.base + int64(u>>t.sign^-(u&uint64(t.sign)))
		}
	}
	s.pos = pos
}
