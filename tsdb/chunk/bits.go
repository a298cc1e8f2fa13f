// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math/bits"
)

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

// ones reads bits up to the first zero, at most limit (no more than 8) of them, and returns how many were ones.
func (r *bitReader) ones(limit uint) uint {
	if r.have < 8 {
		r.w, r.have, r.pos = refill(r.s, r.w, r.have, r.pos)
	}
	n := min(uint(bits.LeadingZeros64(^r.w)), limit)
	used := min(n+1, limit)
	r.w, r.have = r.w<<(used&63), r.have-used
	return n
}

// used returns how many bytes the bits read so far touch; more than there are if the stream was too short.
func (r *bitReader) used() int { return int(r.pos*8-r.have+7) / 8 }

// readDod reads what putDod wrote.
func readDod(r *bitReader) uint64 {
	switch r.ones(4) {
	case 0:
		return 0
	case 1:
		return signed(r.read(14), 14)
	case 2:
		return signed(r.read(17), 17)
	case 3:
		return signed(r.read(20), 20)
	default:
		return r.read64()
	}
}

// readValue reads what putValue wrote and moves the state to it; false if the window is impossible.
func (s *FloatState) readValue(r *bitReader) bool {
	switch r.ones(2) {
	case 0:
		return true
	case 2:
		lead := r.read(5)
		width := (r.read(6)-1)&63 + 1
		if lead+width > 64 {
			return false
		}
		s.lead, s.trail = uint8(lead), uint8(64-lead-width)
	}
	if s.lead == noWindow {
		return false
	}
	width := uint(64 - s.lead - s.trail)
	var x uint64
	if width > 32 {
		x = r.read(width - 32)
		width = 32
	}
	s.v ^= (x<<32 | r.read(width)) << s.trail
	return true
}

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
