// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math/bits"
)

// bitWriter appends fields of bits to buf, each from its lowest bit on, filling bytes from their lowest bit.
type bitWriter struct {
	buf  []byte
	acc  uint64 // bits not yet in buf
	have uint   // how many, less than 64
}

// put appends the n lowest bits of v, which has no others; n <= 64.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << w.have
	if w.have += n; w.have >= 64 {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, w.acc)
		w.have -= 64
		w.acc = v >> (n - w.have)
	}
}

// end appends the last bits, padded with zeros to a full byte, and returns the bytes.
func (w *bitWriter) end() []byte {
	for ; w.have > 0; w.have -= min(w.have, 8) {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
	}
	w.acc = 0
	return w.buf
}

// word returns eight bytes from off on, lowest first; zeros stand for those beyond the end.
func word(b []byte, off uint) uint64 {
	if off+8 <= uint(len(b)) {
		return binary.LittleEndian.Uint64(b[off:])
	}
	return lastWord(b, off)
}

func lastWord(b []byte, off uint) uint64 {
	var t [8]byte
	if off < uint(len(b)) {
		copy(t[:], b[off:])
	}
	return binary.LittleEndian.Uint64(t[:])
}

// wordBack returns what word would of b in reverse.
func wordBack(b []byte, off uint) uint64 {
	if off+8 <= uint(len(b)) {
		return bits.ReverseBytes64(binary.LittleEndian.Uint64(b[uint(len(b))-off-8:]))
	}
	return firstWord(b, off)
}

func firstWord(b []byte, off uint) uint64 {
	var t [8]byte
	if off < uint(len(b)) {
		copy(t[off+8-uint(len(b)):], b)
	}
	return bits.ReverseBytes64(binary.LittleEndian.Uint64(t[:]))
}

// field returns the n bits at bit pos; n <= 64.
func field(b []byte, pos, n uint) uint64 {
	w := word(b, pos>>3) >> (pos & 7)
	if n > 57 {
		w |= word(b, pos>>3+8) << (64 - pos&7)
	}
	return w & (1<<n - 1)
}

func zigzag(x int64) uint64   { return uint64(x<<1) ^ uint64(x>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// varintLen returns how many bytes binary.AppendVarint takes.
func varintLen(x int64) int { return uvarintLen(zigzag(x)) }

func uvarintLen(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

// header reads the numbers that stand before the bits of a column. Reading beyond the end answers zeros and is
// found by err.
type header struct {
	src []byte
	off int
	bad bool
}

func (h *header) u8() uint8 {
	if h.off >= len(h.src) {
		h.bad = true
		return 0
	}
	h.off++
	return h.src[h.off-1]
}

func (h *header) uvarint() uint64 {
	u, n := binary.Uvarint(h.src[h.off:])
	if n <= 0 {
		h.bad = true
		return 0
	}
	h.off += n
	return u
}

func (h *header) varint() int64 { return unzigzag(h.uvarint()) }

// size reads a number that may be at most limit.
func (h *header) size(limit int) int {
	u := h.uvarint()
	if limit < 0 || u > uint64(limit) {
		h.bad = true
		return 0
	}
	return int(u)
}

// rest returns the bytes behind the header.
func (h *header) rest() []byte { return h.src[h.off:] }

// end says whether all bytes were used: what stands behind the last row was not written by an encoder.
func (h *header) end() error {
	if h.off != len(h.src) {
		return h.corrupt("bytes behind the last row")
	}
	return nil
}

// used moves the header behind that many bits, or to the end where rows that were not asked for hide how many there are.
func (h *header) used(bits uint, all bool) {
	if !all {
		h.off = len(h.src)
		return
	}
	h.off += int((bits + 7) / 8)
}

func (h *header) corrupt(msg string) error { return &CorruptError{Msg: msg, Off: h.off} }
