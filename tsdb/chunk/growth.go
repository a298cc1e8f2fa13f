// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"math"
	"math/bits"
)

// wordCoder writes and reads the counts and buckets of a histogram, each given the word of the sample before:
// as a class, so many ones and a zero, and then bits. Few words change from sample to sample, most by little,
// and in a counter they grow. The widths suit a growth of 1, 20 and 150 an interval about equally well.
// Whole numbers in float histograms are coded by their difference as well.
type wordCoder struct {
	float bool
	gauge bool // falls as often as it grows
}

func coderOf(flags byte) wordCoder {
	return wordCoder{float: flags&histFloat != 0, gauge: flags&histHint == gaugeHint}
}

// gaugeHint is the counter reset hint of gauge histograms.
const gaugeHint = 3

// A step is the growth less one, in a gauge the zigzag number of the change less one.
const (
	step1 = 1 << 3         // class 1 holds steps below, in 3 bits
	step2 = step1 + 1<<5   // class 2, in 5 bits
	step3 = step2 + 1<<8   // class 3, in 8 bits
	step4 = 1 << 16        // class 4 holds zigzag numbers of changes below, in 16 bits
	any64 = 5              // the last class: 64 bits, or the XOR of floats; no zero follows its ones
	none  = math.MaxUint64 // not a step of the classes 1 to 3
)

// put appends x, which follows prev.
func (w wordCoder) put(end *bitEnd, buf []byte, x, prev uint64) []byte {
	if x == prev {
		return end.put(buf, 0, 1)
	}
	d, small := int64(x-prev), true
	if w.float {
		d, small = wholeDifference(x, prev)
	}
	z := zigzag(d)
	step := uint64(none)
	switch {
	case w.gauge:
		step = z - 1
	case d > 0:
		step = uint64(d - 1)
	}
	switch {
	case !small:
	case step < step1:
		return end.put(buf, 0b10<<3|step, 2+3)
	case step < step2:
		return end.put(buf, 0b110<<5|(step-step1), 3+5)
	case step < step3:
		return end.put(buf, 0b1110<<8|(step-step2), 4+8)
	case z < step4:
		return end.put(buf, 0b11110<<16|z, 5+16)
	}
	if w.float {
		return putXOR(end, buf, x^prev)
	}
	return end.put(end.put(buf, 0b11111, 5), z, 64)
}

// read returns the word that follows prev; ok is false if the bits have no meaning.
func (w wordCoder) read(r *bitReader, prev uint64) (x uint64, ok bool) {
	var step uint64
	switch r.ones(any64) {
	case 0:
		return prev, true
	case 1:
		step = r.read(3)
	case 2:
		step = r.read(5) + step1
	case 3:
		step = r.read(8) + step2
	case 4:
		return w.move(prev, unzigzag(r.read(16))), true
	default:
		if w.float {
			x, ok := readXOR(r)
			return prev ^ x, ok
		}
		return w.move(prev, unzigzag(r.read64())), true
	}
	if w.gauge {
		return w.move(prev, unzigzag(step+1)), true
	}
	return w.move(prev, int64(step+1)), true
}

// readAll reads the words that follow those of all, in their place; ok is false if the bits have no meaning. It does
// what read does for each, with the state of the reader in registers: words that did not change are passed over as
// many as the reader's word shows, and the classes of small steps cost no call.
func (w wordCoder) readAll(r *bitReader, all []uint64) (ok bool) {
	word, have, pos := r.w, r.have, r.pos
	for i := 0; i < len(all); {
		if have < 32 {
			word, have, pos = refill(r.s, word, have, pos)
		}
		if word>>62 == 0b10 { // a small step, by far the commonest change
			d := int64(word<<2>>61 + 1)
			word, have = word<<5, have-5
			if w.gauge {
				d = unzigzag(uint64(d))
			}
			all[i] = w.move(all[i], d)
			i++
			continue
		}
		same := min(uint(bits.LeadingZeros64(word)), have, uint(len(all)-i))
		word, have, i = word<<(same&63), have-same, i+int(same)
		if i == len(all) || have < 12 || word>>63 == 0 {
			continue // at the end, or the word has to be refilled
		}
		var step uint64
		switch bits.LeadingZeros64(^word) {
		case 1:
			step, word, have = word<<2>>61, word<<5, have-5
		case 2:
			step, word, have = word<<3>>59+step1, word<<8, have-8
		case 3:
			step, word, have = word<<4>>56+step2, word<<12, have-12
		default:
			r.w, r.have, r.pos = word, have, pos
			if all[i], ok = w.read(r, all[i]); !ok {
				return false
			}
			word, have, pos = r.w, r.have, r.pos
			i++
			continue
		}
		d := int64(step + 1)
		if w.gauge {
			d = unzigzag(step + 1)
		}
		all[i] = w.move(all[i], d)
		i++
	}
	r.w, r.have, r.pos = word, have, pos
	return true
}

func (w wordCoder) move(prev uint64, d int64) uint64 {
	if w.float {
		return math.Float64bits(float64(int64(math.Float64frombits(prev)) + d))
	}
	return prev + uint64(d)
}

// wholeDifference returns the difference of two floats that are whole numbers; ok is false if one is not, or
// is too large to be sure of, or is a negative zero.
func wholeDifference(x, prev uint64) (d int64, ok bool) {
	const limit = 1 << 53
	a, b := math.Float64frombits(x), math.Float64frombits(prev)
	if !(a > -limit && a < limit && b > -limit && b < limit) {
		return 0, false
	}
	i, j := int64(a), int64(b)
	return i - j, math.Float64bits(float64(i)) == x && math.Float64bits(float64(j)) == prev
}

// putXOR writes the XOR of two floats in the last class: three bits how many bytes follow, less one, three bits
// how many zero bytes were cut off the end, and those bytes.
func putXOR(end *bitEnd, buf []byte, x uint64) []byte {
	trail := bits.TrailingZeros64(x) / 8
	size := (bits.Len64(x)+7)/8 - trail
	buf = end.put(buf, 0b11111<<6|uint64(size-1)<<3|uint64(trail), 5+3+3)
	return end.put(buf, x>>(8*trail), uint(8*size))
}

// readXOR reads what putXOR wrote behind its class; ok is false for more than eight bytes.
func readXOR(r *bitReader) (x uint64, ok bool) {
	size, trail := uint(r.read(3))+1, uint(r.read(3))
	if size == 8 {
		x = r.read64()
	} else {
		x = r.read(8 * size)
	}
	return x << (8 * trail), size+trail <= 8
}
