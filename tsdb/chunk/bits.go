// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import "encoding/binary"

// bitEnd is the writing end of a bit stream whose bytes are kept elsewhere: how many low bits of its last byte
// are not used yet.
type bitEnd uint8

// put appends the low n bits of u, highest first; 1 <= n <= 64 and the bits above are zero.
func (e *bitEnd) put(buf []byte, u uint64, n uint) []byte {
	free := uint(*e)
	if n <= free {
		buf[len(buf)-1] |= byte(u << (free - n))
		*e = bitEnd(free - n)
		return buf
	}
	if free > 0 {
		n -= free
		buf[len(buf)-1] |= byte(u >> n)
	}
	u <<= 64 - n
	size := (n + 7) / 8
	*e = bitEnd(size*8 - n)
	if l := len(buf); cap(buf)-l >= 8 {
		buf = buf[:l+8]
		binary.BigEndian.PutUint64(buf[l:], u)
		return buf[:l+int(size)]
	}
	for ; size > 0; size-- {
		buf = append(buf, byte(u>>56))
		u <<= 8
	}
	return buf
}

// bitReader reads a bit stream. Beyond its end it reads zeros, which used tells.
type bitReader struct {
	s    []byte
	w    uint64 // the next bits, at the top
	have uint   // how many of them are valid
	pos  uint   // the next byte of s
}

// read returns the next n bits, at most 56.
func (r *bitReader) read(n uint) uint64 {
	if r.have < n {
		r.w, r.have, r.pos = refill(r.s, r.w, r.have, r.pos)
	}
	x := r.w >> ((64 - n) & 63)
	r.w, r.have = r.w<<(n&63), r.have-n
	return x
}

// read64 returns the next 64 bits.
func (r *bitReader) read64() uint64 { return r.read(32)<<32 | r.read(32) }

// ones reads bits up to the first zero, at most limit of them, and returns how many were ones.
func (r *bitReader) ones(limit uint) uint {
	n := uint(0)
	for n < limit && r.read(1) == 1 {
		n++
	}
	return n
}

// used returns how many bytes the bits read so far touch; more than there are if the stream was too short.
func (r *bitReader) used() int { return int(r.pos*8-r.have+7) / 8 }

// refill brings the word w, whose top have bits are valid, to 56 to 63 valid bits; pos is the next byte. The
// eight byte load leaves bits of a not yet counted byte below the valid ones: they are the same bits that the
// next load will OR in again.
func refill(s []byte, w uint64, have, pos uint) (uint64, uint, uint) {
	if pos+8 <= uint(len(s)) {
		return w | binary.BigEndian.Uint64(s[pos:])>>(have&63), have | 56, pos + (63-have)>>3
	}
	return refillTail(s, w, have, pos)
}

// refillTail is refill near the end of the stream; behind the end are zeros.
//
//go:noinline
func refillTail(s []byte, w uint64, have, pos uint) (uint64, uint, uint) {
	for ; have < 56; have += 8 {
		if pos < uint(len(s)) {
			w |= uint64(s[pos]) << (56 - have)
		}
		pos++
	}
	return w, have, pos
}
