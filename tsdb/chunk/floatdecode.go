// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// floatDecoder decodes one float stream. The bits not yet consumed stand at the top of a 64 bit word, refilled
// eight bytes at a time; beyond the end of the stream zeros are read, and that it happened is found once, at
// the end, by comparing positions. The loop is bounded by n, which check has held against the stream's size.
type floatDecoder struct {
	s          []byte
	n          int
	mint, maxt int64
	from       *Mark // of which s is the rest; nil: s is a whole stream
	base       int64 // of from

	read int        // out: samples looked at that are not beyond maxt
	end  FloatState // out: the writer's state behind the last sample read
	size int        // out: bytes up to there
}

// check refuses counts that the stream cannot hold, before anything is allocated for them.
func (d *floatDecoder) check() error {
	if d.n < 0 || d.n-2 > 8*len(d.s)/minFloatBits {
		return &CorruptError{Msg: "more samples than the bytes can hold", Off: len(d.s)}
	}
	return nil
}

// first reads the first sample and, with n > 1, the first time delta, which stand on byte boundaries.
func (d *floatDecoder) first() (t int64, v, delta uint64, pos uint, err error) {
	t, n := binary.Varint(d.s)
	if n <= 0 || n+8 > len(d.s) {
		return 0, 0, 0, 0, &CorruptError{Msg: "first sample is cut short", Off: len(d.s)}
	}
	v = binary.BigEndian.Uint64(d.s[n:])
	n += 8
	if d.n > 1 {
		var m int
		if delta, m = binary.Uvarint(d.s[n:]); m <= 0 {
			return 0, 0, 0, 0, &CorruptError{Msg: "first time delta is cut short", Off: n}
		}
		n += m
	}
	return t, v, delta, uint(n), nil
}

// noTrail stands for the trailing zeros of a window while there is none. It is 0 modulo 64, for a stream may
// use a window of all 64 bits that it never announced: Prometheus writes that after it has reopened a chunk of
// equal values.
const noTrail = 64

// place is where a decoder stands: behind a sample.
type place struct {
	t            int64
	v, delta     uint64
	word         uint64 // the next bits, at the top
	have, pos    uint
	width, trail uint
}

// run decodes into ts and vs, which have room for all samples in range, and returns how many there were.
func (d *floatDecoder) run(ts []int64, vs []float64) (int, error) {
	if d.from != nil {
		return d.loop(d.from.place(d.base, d.s), 0, 0, ts, vs)
	}
	t, v, delta, pos, err := d.first()
	if err != nil || t > d.maxt {
		return 0, err
	}
	k := 0
	if ts[0], vs[0] = t, math.Float64frombits(v); t >= d.mint {
		k = 1
	}
	// The time delta of the second sample is read already: one made-up bit says that it did not change.
	return d.loop(place{t: t, v: v, delta: delta, have: 1, pos: pos, width: 64, trail: noTrail}, 1, k, ts, vs)
}

// loop decodes from sample i on, of which k of those before are in range. It is one loop on purpose: the state stays in
// registers and no sample costs a call.
func (d *floatDecoder) loop(at place, i, k int, ts []int64, vs []float64) (int, error) {
	s, n, mint, maxt := d.s, d.n, d.mint, d.maxt
	t, v, delta, pos := at.t, at.v, at.delta, at.pos
	w, have, width, trail, wrapped := at.word, at.have, at.width, at.trail, uint(0)
	for i < n {
		if have < 32 {
			w, have, pos = refill(s, w, have, pos)
		}
		same := 1
		if w>>62 == 0 { // same delta, same value: take all such samples that the word shows
			same = min(int(min(uint(bits.LeadingZeros64(w)), have)>>1), n-i)
			w, have = w<<(uint(2*same)&63), have-uint(2*same)
		} else {
			switch {
			case w>>63 == 0:
				w, have = w<<1, have-1
			case w>>62 == 0b10:
				delta += signed(w<<2>>50, 14)
				w, have = w<<16, have-16
			default:
				delta, w, have, pos = wideDod(s, w, have, pos, delta)
			}
			if w>>63 == 0 {
				w, have = w<<1, have-1
			} else {
				if w>>62 == 0b10 {
					w, have = w<<2, have-2
				} else {
					width, trail = window(w)
					w, have, wrapped = w<<13, have-13, wrapped|trail
				}
				if have < width {
					w, have, pos = refill(s, w, have, pos)
				}
				x := w >> ((64 - width) & 63)
				if have >= width {
					w, have = w<<(width&63), have-width
				} else {
					x, w, have, pos = wideValue(s, w, have, pos, width)
				}
				v ^= x << (trail & 63)
			}
		}
		for ; same > 0; same-- {
			next := t + int64(delta)
			if next <= t {
				return 0, &CorruptError{Msg: "time does not ascend", Off: int(pos)}
			}
			if next > maxt {
				n = i // that is all
				break
			}
			t = next
			if ts[k], vs[k] = t, math.Float64frombits(v); t >= mint {
				k++
			}
			i++
		}
	}
	d.read, d.end = i, FloatState{t: t, delta: delta, v: v, lead: uint8(64 - width - trail), trail: uint8(trail)}
	return k, d.finish(pos, have, wrapped)
}

// finish checks that the samples came from bytes that are there, and completes the writer's state. wrapped is
// all trailing zero counts ORed.
func (d *floatDecoder) finish(pos, have, wrapped uint) error {
	if wrapped > 2*noTrail {
		return &CorruptError{Msg: "window of more than 64 bits", Off: int(pos)}
	}
	if d.n == 1 && d.from == nil {
		have = 0 // the made-up bit was not used
	}
	used := pos*8 - have
	if used > 8*uint(len(d.s)) {
		return &CorruptError{Msg: "fewer samples than promised", Off: len(d.s)}
	}
	d.size = int(used+7) / 8
	if d.end.trail == noTrail {
		d.end.lead, d.end.trail = noWindow, 0
	}
	d.end.free = bitEnd(have & 7)
	return nil
}

// window reads the width and the trailing zeros of a new window, behind its two control bits. Of more than 64
// bits in all, trail wraps round.
func window(w uint64) (width, trail uint) {
	width = (uint(w<<7>>58)-1)&63 + 1
	return width, 64 - uint(w<<2>>59) - width
}

// signed returns the n bit number u with its sign: what is above 1<<(n-1) stands for a negative.
func signed(u uint64, n uint) uint64 {
	if u > 1<<(n-1) {
		u -= 1 << n
	}
	return u
}

// wideDod reads a change of the time delta of more than 14 bits and returns the new delta. The word is refilled
// behind it.
func wideDod(s []byte, w uint64, have, pos uint, delta uint64) (delta2, w2 uint64, have2, pos2 uint) {
	switch {
	case w>>61 == 0b110:
		delta, w, have = delta+signed(w<<3>>47, 17), w<<20, have-20
	case w>>60 == 0b1110:
		delta, w, have = delta+signed(w<<4>>44, 20), w<<24, have-24
	default:
		var dod uint64
		w, have, pos = refill(s, w<<4, have-4, pos)
		dod, w, have, pos = wideValue(s, w, have, pos, 64)
		delta += dod
	}
	w, have, pos = refill(s, w, have, pos)
	return delta, w, have, pos
}

// wideValue reads width bits, 33 to 64, in two steps. The word holds at least 32.
func wideValue(s []byte, w uint64, have, pos, width uint) (x, w2 uint64, have2, pos2 uint) {
	x = w >> 32
	w, have, pos = refill(s, w<<32, have-32, pos)
	rest := width - 32
	return x<<rest | w>>(64-rest), w << rest, have - rest, pos
}
