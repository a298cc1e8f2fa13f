// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// appendXOR appends values by the XOR code of Gorilla: the first as it is, lowest byte first, then bits: 0 for
// the same value again; 1 0 and the bits of the XOR with the value before within the window in use; 1 1, five
// bits of leading zeros, six of width less one, and the bits of a new window. It gives up beyond limit bytes.
func appendXOR(dst []byte, v []float64, limit int) []byte {
	last := math.Float64bits(v[0])
	w := bitWriter{buf: binary.LittleEndian.AppendUint64(append(dst, valuesXOR), last)}
	lead, trail := uint(0), uint(0)
	width := uint(0) // no window yet
	for _, f := range v[1:] {
		b := math.Float64bits(f)
		x := b ^ last
		last = b
		if x == 0 {
			w.put(0, 1)
			continue
		}
		l, t := uint(min(bits.LeadingZeros64(x), 31)), uint(bits.TrailingZeros64(x))
		// A window that wastes more than a new one would take is given up.
		if width > 0 && l >= lead && t >= trail && width <= 64-l-t+11 {
			w.put(0b01, 2)
			w.put(x>>trail, width)
			continue
		}
		lead, trail, width = l, t, 64-l-t
		w.put(0b11|uint64(lead)<<2|uint64(width-1)<<7, 2+5+6)
		w.put(x>>trail, width)
		if len(w.buf) > limit+len(dst) {
			break
		}
	}
	return w.end()
}

func decodeXOR(dst []float64, h *header, n, from, to int) ([]float64, error) {
	b := h.rest()
	if n < 1 || len(b) < 8 || n-1 > 8*(len(b)-8) {
		return dst, h.corrupt("more values than the bytes can hold")
	}
	v := binary.LittleEndian.Uint64(b)
	b = b[8:]
	var pos, width, trail, wrapped uint
	at := len(dst)
	dst = asFloats(grow(asInts(dst), to-from))
	f := dst[at:]
	for i := -from; i < len(f); i++ {
		if i > -from {
			w := word(b, pos>>3) >> (pos & 7)
			if w&1 == 0 {
				pos++
			} else {
				pos += 2
				if w&2 != 0 {
					width = uint(w>>7&63) + 1
					trail = 64 - uint(w>>2&31) - width
					wrapped |= trail
					pos += 11
				}
				v ^= field(b, pos, width) << (trail & 63)
				pos += width
			}
		}
		if i >= 0 {
			f[i] = math.Float64frombits(v)
		}
	}
	if pos > 8*uint(len(b)) || wrapped > 64 {
		return dst[:at], h.corrupt("XOR code")
	}
	if h.off += 8; to == n {
		h.used(pos, true)
		if err := h.end(); err != nil {
			return dst[:at], err
		}
	}
	return dst, nil
}
