// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"math"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// Mark is a place behind some sample of a float stream, from which the rest can be decoded. It holds for as long as the
// stream is only appended to. The zero value is no mark. 24 bytes.
type Mark struct {
	v     uint64 // as in FloatState
	after uint32 // time of the last sample less the base, ms
	delta uint32
	size  uint16 // bytes of the stream, of which the last may have free bits
	n     uint8  // samples before the mark; 0: no mark
	lead  uint8
	trail uint8
	free  bitEnd
}

// MakeMark returns the mark behind the samples of a stream of which st is the state: n, two or more, of size bytes. base
// is a time before them, the same for all marks of a stream. Where the numbers are too large it returns no mark.
func MakeMark(st *FloatState, base int64, n, size int) Mark {
	after := uint64(st.t - base)
	if n < 2 || n > math.MaxUint8 || size > math.MaxUint16 || st.t < base || after > math.MaxUint32 || st.delta > math.MaxUint32 {
		return Mark{}
	}
	return Mark{
		v: st.v, after: uint32(after), delta: uint32(st.delta), size: uint16(size), n: uint8(n),
		lead: st.lead, trail: st.trail, free: st.free,
	}
}

// Len returns how many samples are before the mark; 0: it is none.
func (m *Mark) Len() int { return int(m.n) }

// LastT returns the time of the last sample before the mark.
func (m *Mark) LastT(base int64) int64 { return base + int64(m.after) }

// From returns how many of a stream's bytes DecodeFloatsFrom does not need: the rest is behind them.
func (m *Mark) From() int { return int(m.size) - 1 }

// DecodeFloatsFrom is DecodeFloats for the n samples behind a mark; rest is the stream from From on.
func DecodeFloatsFrom(m Mark, base int64, rest []byte, n int, mint, maxt int64, dst *column.Block) error {
	d := floatDecoder{s: rest, n: n, mint: mint, maxt: maxt, from: &m, base: base}
	_, err := d.decode(dst)
	return err
}

// place returns where a decoder of the rest begins.
func (m *Mark) place(base int64, rest []byte) place {
	at := place{
		t: m.LastT(base), v: m.v, delta: uint64(m.delta), word: uint64(rest[0]) << (64 - uint(m.free)), have: uint(m.free),
		pos: 1, width: 64, trail: noTrail,
	}
	if m.lead != noWindow {
		at.width, at.trail = uint(64-m.lead-m.trail), uint(m.trail)
	}
	return at
}
