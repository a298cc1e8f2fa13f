// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// FloatEnd is the writer's end of a float stream: its last bytes, and what the next sample is coded by but for the last
// sample, which its owner has anyway. The bytes before are the body of the stream, which is elsewhere: an append touches
// it only when the end is full, once in two to sixty samples. The body and the end in a row are the bytes that AppendFloat
// makes of the same samples. The zero value is the end of an empty stream. 24 bytes without pointers.
//
// Two samples of a stream must be less than 1<<32 ms apart.
type FloatEnd struct {
	tail  [EndBytes]byte // from the first bit on; zeros behind the last
	delta uint32         // as in FloatState, as are lead and trail
	lead  uint8
	trail uint8
	used  uint8 // bits of tail
}

// EndBytes is the most bytes of a stream that its end holds.
const EndBytes = 16

const endBits = 8 * EndBytes

// Append adds a sample to a stream of at least two, of which the last one is last at lastT. It reports false, and has done
// nothing, where the end has no room for the sample or where it is one of the few that only Put can write. The bits are
// those of putDod and putValue, in one function because a call costs as much as they do.
func (e *FloatEnd) Append(lastT, t int64, last, v uint64) bool {
	delta := uint64(t - lastT)
	dod, x := int64(delta-uint64(e.delta)), v^last
	room := endBits - uint(e.used)
	if dod|int64(x) == 0 { // two zero bits
		if room < 2 {
			return false
		}
		e.used += 2
		return true
	}
	ctl, n := uint64(0), uint(1) // the bits before those of the value, and how many they are
	if dod != 0 {
		if dod < -(1<<13-1) || dod > 1<<13 {
			return false
		}
		ctl, n = 0b10<<14|uint64(dod)&(1<<14-1), 2+14
	}
	width, lead, trail := uint(0), uint(e.lead), uint(e.trail)
	switch before, behind := uint(bits.LeadingZeros64(x)), uint(bits.TrailingZeros64(x)); {
	case x == 0:
		ctl, n = ctl<<1, n+1
	case before >= lead && behind >= trail: // never without a window: noWindow is more than 64
		ctl, n, width = ctl<<2|0b10, n+2, 64-lead-trail
		x >>= trail & 63
	default:
		lead, trail = min(before, 31), behind
		width = 64 - lead - trail
		ctl, n = ctl<<13|0b11<<11|uint64(lead)<<6|uint64(width&63), n+13
		x >>= trail & 63
	}
	if n+width > room {
		return false
	}
	// The control bits and those of the value are one number of 128 bits, hi and lo, that is moved up to where the free
	// bits begin. Shifts by 64 or more give 0.
	hi, lo := ctl>>(64-width), ctl<<width|x
	by := room - n - width
	hi, lo = hi<<by|lo>>(64-by)|lo<<(by-64), lo<<by
	upper, lower := e.tail[:8], e.tail[8:]
	binary.BigEndian.PutUint64(upper, binary.BigEndian.Uint64(upper)|hi)
	binary.BigEndian.PutUint64(lower, binary.BigEndian.Uint64(lower)|lo)
	e.delta, e.lead, e.trail, e.used = uint32(delta), uint8(lead), uint8(trail), e.used+uint8(n+width)
	return true
}

// Repeat is Append for a sample with the value of the last one, delta ms after it. It may report false where Append would
// not. It is small enough to be compiled into its caller: most samples are such.
func (e *FloatEnd) Repeat(delta int64) bool {
	if delta != int64(e.delta) || e.used > endBits-2 {
		return false
	}
	e.used += 2
	return true
}

// MaxMove is the most bytes that one Put moves to the body.
const MaxMove = EndBytes + MaxFloatBytes

// Put is Append for every sample. It appends to dst, which has room for MaxMove and eight more, the bytes that move to the
// end of the body: all whole bytes, or none where the sample fits as it is.
func (e *FloatEnd) Put(dst []byte, n int, lastT, t int64, last, v uint64) []byte {
	if n >= 2 {
		if e.Append(lastT, t, last, v) {
			return dst
		}
		whole := e.Shed(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+whole]
		if e.Append(lastT, t, last, v) {
			return dst
		}
	}
	at, used := len(dst), (e.used+7)/8
	st := e.state(lastT, last)
	dst = AppendFloat(append(dst, e.tail[:used]...), n, &st, t, math.Float64frombits(v))
	whole := len(dst)
	switch {
	case whole-at <= EndBytes:
		whole = at
	case st.free > 0:
		whole--
	}
	clear(e.tail[:])
	keep := copy(e.tail[:], dst[whole:])
	e.delta, e.lead, e.trail, e.used = uint32(st.delta), st.lead, st.trail, uint8(8*keep)-uint8(st.free)
	return dst[:whole]
}

// Shed copies the whole bytes of the end to the start of dst, which has room for EndBytes and may be written to that
// length, and keeps the bits behind them. It returns how many bytes have moved to the body.
func (e *FloatEnd) Shed(dst []byte) int {
	whole := uint(e.used / 8)
	copy(dst[:EndBytes], e.tail[:])
	upper, lower := e.tail[:8], e.tail[8:]
	// The byte behind the whole ones is moved up to be the first. It is written as part of a word because Append reads words:
	// a core waits long for a load that takes from two stores.
	rest := binary.BigEndian.Uint64(upper)<<(8*whole) | binary.BigEndian.Uint64(lower)<<(8*whole-64)
	binary.BigEndian.PutUint64(upper, rest&(0xff<<56))
	binary.BigEndian.PutUint64(lower, 0)
	e.used %= 8
	return int(whole)
}

// Len returns how many bytes the end holds, the last of which may have free bits.
func (e *FloatEnd) Len() int { return int(e.used+7) / 8 }

// Bytes returns them. They are good until the next sample.
func (e *FloatEnd) Bytes() []byte { return e.tail[:e.Len()] }

// Mark returns the mark behind the n samples of the stream, of which body bytes are elsewhere; see MakeMark.
func (e *FloatEnd) Mark(lastT int64, last uint64, base int64, n, body int) Mark {
	st := e.state(lastT, last)
	return MakeMark(&st, base, n, body+e.Len())
}

func (e *FloatEnd) state(lastT int64, last uint64) FloatState {
	return FloatState{
		t: lastT, delta: uint64(e.delta), v: last, lead: e.lead, trail: e.trail, free: bitEnd(-e.used & 7),
	}
}

// End returns the end of a stream with the state s, and how many bytes of it are the body; false where two samples are too
// far apart.
func (s *FloatState) End(stream []byte) (e FloatEnd, body int, ok bool) {
	body = len(stream)
	e = FloatEnd{delta: uint32(s.delta), lead: s.lead, trail: s.trail}
	if s.free > 0 {
		body--
		e.tail[0], e.used = stream[body]&^(1<<s.free-1), uint8(8-s.free)
	}
	return e, body, s.delta <= math.MaxUint32
}
