// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/tidemarkdb/tidemark/tsdb/column"
)

// MaxFloatBytes is the most bytes that one AppendFloat adds to a stream: the second sample with a ten byte
// time delta (80 bits) and a new window of 64 bits (2+5+6+64 bits).
const MaxFloatBytes = 20

// minFloatBits is the least that a sample takes: one bit for the time, one for the value.
const minFloatBits = 2

// FloatState is the writer's side of a float stream. The zero value is that of an empty stream; the fields
// hold no pointers, so that it can live off the heap. 32 bytes.
type FloatState struct {
	t     int64  // of the last sample, ms
	delta uint64 // t less the time before it
	v     uint64 // bits of the last value
	lead  uint8  // zero bits before the window of the last changed value; noWindow before there is one
	trail uint8  // zero bits behind it
	free  bitEnd
}

// noWindow marks that no value has changed yet, so that there is no window to reuse.
const noWindow = 0xff

// LastT returns the time of the last sample. It means nothing for an empty stream.
func (s *FloatState) LastT() int64 { return s.t }

// LastV returns the last value, with its bits. It means nothing for an empty stream.
func (s *FloatState) LastV() float64 { return math.Float64frombits(s.v) }

// AppendFloat adds one sample to the stream buf of n samples and returns the longer stream, which grew by at
// most MaxFloatBytes. It changes free bits of the last byte in place, appends within the capacity of buf while
// there is any, and may use bytes between length and capacity as scratch. t must be greater than st.LastT().
// With n 0 the state is started anew.
func AppendFloat(buf []byte, n int, st *FloatState, t int64, v float64) []byte {
	vb := math.Float64bits(v)
	switch n {
	case 0:
		*st = FloatState{t: t, v: vb, lead: noWindow}
		return binary.BigEndian.AppendUint64(binary.AppendVarint(buf, t), vb)
	case 1:
		st.delta = uint64(t - st.t)
		buf = binary.AppendUvarint(buf, st.delta)
	default:
		delta := uint64(t - st.t)
		dod := int64(delta - st.delta)
		if dod == 0 && vb == st.v { // the commonest sample: two zero bits
			st.t = t
			return st.free.put(buf, 0, 2)
		}
		buf = st.putDod(buf, dod)
		st.delta = delta
	}
	st.t = t
	return st.putValue(buf, vb)
}

// putDod writes the change of the time delta. The classes are those of Prometheus' XOR chunk: 1, 2+14, 3+17,
// 4+20 and 4+64 bits, the positive end of each range one wider than the negative.
func (s *FloatState) putDod(buf []byte, dod int64) []byte {
	fits := func(n uint) bool { return -(1<<(n-1)-1) <= dod && dod <= 1<<(n-1) }
	switch {
	case dod == 0:
		return s.free.put(buf, 0, 1)
	case fits(14):
		return s.free.put(buf, 0b10<<14|uint64(dod)&(1<<14-1), 2+14)
	case fits(17):
		return s.free.put(buf, 0b110<<17|uint64(dod)&(1<<17-1), 3+17)
	case fits(20):
		return s.free.put(buf, 0b1110<<20|uint64(dod)&(1<<20-1), 4+20)
	}
	return s.free.put(s.free.put(buf, 0b1111, 4), uint64(dod), 64)
}

// putValue writes the XOR of a value with the last one: 0 when equal, 10 and the bits of the window in use
// when they suffice, else 11, five bits of leading zeros, six bits of width (64 as 0) and the new window.
func (s *FloatState) putValue(buf []byte, vb uint64) []byte {
	x := vb ^ s.v
	s.v = vb
	if x == 0 {
		return s.free.put(buf, 0, 1)
	}
	lead := uint8(min(bits.LeadingZeros64(x), 31)) // five bits hold no more
	trail := uint8(bits.TrailingZeros64(x))
	if s.lead != noWindow && lead >= s.lead && trail >= s.trail {
		width := uint(64 - s.lead - s.trail)
		if width <= 62 {
			return s.free.put(buf, 0b10<<width|x>>s.trail, width+2)
		}
		return s.free.put(s.free.put(buf, 0b10, 2), x>>s.trail, width)
	}
	s.lead, s.trail = lead, trail
	width := uint(64 - lead - trail)
	buf = s.free.put(buf, 0b11<<11|uint64(lead)<<6|uint64(width&63), 2+5+6)
	return s.free.put(buf, x>>trail, width)
}

// RestoreFloatState reads a stream of n samples and returns the state to go on appending with.
func RestoreFloatState(stream []byte, n int) (FloatState, error) {
	st, _, err := RestoreFloatPrefix(stream, n)
	return st, err
}

// RestoreFloatPrefix reads the first n samples of a stream, which may have more, and returns the state behind them and how
// many bytes they take. The bits of the last one that the state has free are those of what follows.
func RestoreFloatPrefix(stream []byte, n int) (st FloatState, size int, err error) {
	d := floatDecoder{s: stream, n: n, mint: math.MaxInt64, maxt: math.MaxInt64}
	if n == 0 {
		return FloatState{}, 0, nil
	}
	if err := d.check(); err != nil {
		return FloatState{}, 0, err
	}
	var t [1]int64
	var v [1]float64
	if _, err := d.run(t[:], v[:]); err != nil {
		return FloatState{}, 0, err
	}
	return d.end, d.size, nil
}

// DecodeFloats appends those of the first n samples of a stream that lie within [mint, maxt] to dst.T and
// dst.V, and pads the block's other columns. It stops at the first sample beyond maxt. On an error, a
// *CorruptError or a *budget.ExceededError, dst is as it was.
func DecodeFloats(stream []byte, n int, mint, maxt int64, dst *column.Block) error {
	_, err := decodeFloats(stream, n, mint, maxt, dst)
	return err
}

// decodeFloats is DecodeFloats; it returns as well how many samples lie before mint.
func decodeFloats(stream []byte, n int, mint, maxt int64, dst *column.Block) (skipped int, err error) {
	d := floatDecoder{s: stream, n: n, mint: mint, maxt: maxt}
	k, err := d.decode(dst)
	return d.read - k, err
}

// decode appends to dst and returns how many samples that were.
func (d *floatDecoder) decode(dst *column.Block) (int, error) {
	if d.n == 0 {
		return 0, nil
	}
	if err := d.check(); err != nil {
		return 0, err
	}
	if err := dst.Reserve(d.n); err != nil {
		return 0, err
	}
	have := len(dst.T)
	k, err := d.run(dst.T[have:have+d.n], dst.V[have:have+d.n])
	if err != nil {
		d.read = 0
		return 0, err
	}
	dst.T, dst.V = dst.T[:have+k], dst.V[:have+k]
	dst.PadFloats()
	return k, nil
}
