// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

const (
	segmentUnit = 8  // rows that planSegments looks at together
	maxRange    = 64 // of the digits of a segment
)

// segment is a stretch of rows. A row is (base + digit) << shift plus a number of shift bits; the digit is less
// than limit.
type segment struct {
	rows  int
	base  int64
	shift uint
	limit uint64
}

// fit returns the segment for numbers of [lo, hi].
func fit(rows int, lo, hi int64) segment {
	shift := uint(max(bits.Len64(uint64(hi-lo)), 6) - 6)
	for uint64(hi>>shift-lo>>shift) >= maxRange {
		shift++
	}
	return segment{rows, lo >> shift, shift, uint64(hi>>shift-lo>>shift) + 1}
}

// groupDigits is how many digits are written as one number. More would save little: of less than a bit per group.
const groupDigits = 8

// radix tells how many bits so many digits of each range take.
type radix [maxRange + 1][groupDigits + 1]uint8

// radixes is never written to.
var radixes = makeRadixes()

func makeRadixes() (t radix) {
	for limit := 2; limit <= maxRange; limit++ {
		numbers := uint64(1)
		for k := range groupDigits {
			numbers *= uint64(limit) // 2^48 at most
			t[limit][k+1] = uint8(bits.Len64(numbers - 1))
		}
	}
	return t
}

// layout returns how many bits of a row stand as they are, and how many the digits of all rows take before those. Where the
// limit is a power of two there are none, and the bits of a row hold its digit.
func (s *segment) layout() (width, digits uint) {
	if s.limit&(s.limit-1) == 0 {
		return s.shift + uint(bits.TrailingZeros64(s.limit)), 0
	}
	sizes := &radixes[s.limit&(2*maxRange-1)]
	return s.shift, uint(s.rows)/groupDigits*uint(sizes[groupDigits]) + uint(sizes[uint(s.rows)%groupDigits])
}

// bits returns how many bits the rows of a segment take.
func (s *segment) bits() int {
	width, digits := s.layout()
	return int(digits) + s.rows*int(width)
}

// candidate is the start of a segment that may turn out best.
type candidate struct {
	at     int // unit
	before int // cost of what is before it, 1/64 bits
	cost   int // with the segment as it is so far
	lo, hi int64
}

// cut is the end of a segment in units, and where the best one that ends there starts.
type cut struct {
	from int32
	cost int // 1/64 bits up to here
}

// planSegments cuts r into segments by dynamic programming over multiples of segmentUnit. Starts that can no longer
// be part of the best cut are dropped on the way: rows cost no less in a longer segment.
func (e *Encoder) planSegments(r []int64) plan {
	units := (len(r) + segmentUnit - 1) / segmentUnit
	head := 64 * (segmentHead + bits.Len(uint(units)))
	e.cuts = append(e.cuts[:0], cut{})
	e.starts = e.starts[:0]
	for u := range units {
		rows := r[u*segmentUnit : min((u+1)*segmentUnit, len(r))]
		lo, hi := extent(rows)
		e.starts = append(e.starts, candidate{at: u, before: e.cuts[u].cost, lo: math.MaxInt64, hi: math.MinInt64})
		best := cut{cost: math.MaxInt}
		for i := range e.starts {
			c := &e.starts[i]
			c.lo, c.hi = min(c.lo, lo), max(c.hi, hi)
			c.cost = c.before + (u-c.at+1)*segmentUnit*rowCost(c.lo, c.hi)
			if c.cost < best.cost {
				best = cut{int32(c.at), c.cost}
			}
		}
		best.cost += head
		kept := e.starts[:0]
		for _, c := range e.starts {
			if c.cost < best.cost {
				kept = append(kept, c)
			}
		}
		e.starts = kept
		e.cuts = append(e.cuts, best)
	}
	return e.layOut(r, units)
}

// segmentHead is about how many bits the head of a segment takes beside its length, and what another one costs the
// widths of all: found by trial on the host shapes.
const segmentHead = 28

// rowCost returns about how many 1/64 bits a number of [lo, hi] takes.
func rowCost(lo, hi int64) int {
	d := uint64(hi - lo)
	if d == 0 {
		return 0
	}
	shift := uint(max(bits.Len64(d), 6) - 6)
	return 64*int(shift) + 64/groupDigits*int(radixes[d>>(shift&63)+1][groupDigits])
}

// layOut makes the segments of the best cut and counts their bits.
func (e *Encoder) layOut(r []int64, units int) plan {
	e.ends = e.ends[:0]
	for u := units; u > 0; u = int(e.cuts[u].from) {
		e.ends = append(e.ends, min(u*segmentUnit, len(r)))
	}
	slices.Reverse(e.ends)
	e.segments = e.segments[:0]
	start := 0
	for i, end := range e.ends {
		if i+1 < len(e.ends) {
			end = shiftCut(r, start, end, e.ends[i+1])
		}
		if end > start {
			lo, hi := extent(r[start:end])
			e.segments = append(e.segments, fit(end-start, lo, hi))
			start = end
		}
	}
	w := measure(e.segments)
	n := 8*(varintLen(w.base)+uvarintLen(uint64(len(e.segments)))) + segmentWidths + w.total()*len(e.segments)
	for i := range e.segments {
		n += e.segments[i].bits()
	}
	e.planned++
	return plan{form: formSegments, bits: n, segments: e.planned}
}

// shiftCut moves the cut between the segments [start, at) and [at, end) by less than a unit to where they take the
// fewest bits.
func shiftCut(r []int64, start, at, end int) int {
	from, to := max(at-segmentUnit+1, start), min(at+segmentUnit-1, end)
	// What the second segment takes if it starts at from, from + 1, ...
	var second [2 * segmentUnit]int
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	if to < end {
		lo, hi = extent(r[to:end])
	}
	for t := to; ; t-- {
		if t < end {
			lo, hi = min(lo, r[t]), max(hi, r[t])
			second[t-from] = (end - t) * rowCost(lo, hi)
		}
		if t == from {
			break
		}
	}
	lo, hi = int64(math.MaxInt64), int64(math.MinInt64)
	if from > start {
		lo, hi = extent(r[start:from])
	}
	best, least := at, math.MaxInt
	for t := from; t <= to; t++ {
		cost := second[t-from]
		if t > start {
			cost += (t - start) * rowCost(lo, hi)
		}
		if cost < least {
			best, least = t, cost
		}
		if t < to {
			lo, hi = min(lo, r[t]), max(hi, r[t])
		}
	}
	return best
}

// extent returns the least and the greatest of r.
func extent(r []int64) (lo, hi int64) {
	lo, hi = r[0], r[0]
	for _, v := range r[1:] {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

// segmentFields are the widths of the fields that describe a segment.
type segmentFields struct {
	base                       int64 // the least
	shift                      uint  // the least
	rows, bases, shifts, limit uint
}

const segmentWidths = 5 + 6 + 3 + 3 + 7 // bits of: rows, least shift, shift, limit, base

func (f *segmentFields) total() int { return int(f.rows + f.bases + f.shifts + f.limit) }

func measure(s []segment) segmentFields {
	f := segmentFields{base: s[0].base, shift: s[0].shift}
	top, deep := s[0].base, s[0].shift
	var rows int
	var limit uint64
	for i := range s {
		f.base, f.shift = min(f.base, s[i].base), min(f.shift, s[i].shift)
		top, deep = max(top, s[i].base), max(deep, s[i].shift)
		limit = max(limit, s[i].limit)
		if i < len(s)-1 {
			rows = max(rows, s[i].rows)
		}
	}
	f.rows = uint(bits.Len(uint(rows)))
	f.bases = uint(bits.Len64(uint64(top - f.base)))
	f.shifts = uint(bits.Len(deep - f.shift))
	f.limit = uint(bits.Len64(limit - 1))
	return f
}

// appendSegments appends the form as layOut has left it.
func (e *Encoder) appendSegments(dst []byte, r []int64) []byte {
	f := measure(e.segments)
	dst = binary.AppendUvarint(dst, uint64(len(e.segments)))
	w := bitWriter{buf: binary.AppendVarint(dst, f.base)}
	w.put(uint64(f.rows), 5)
	w.put(uint64(f.shift), 6)
	w.put(uint64(f.shifts), 3)
	w.put(uint64(f.limit), 3)
	w.put(uint64(f.bases), 7)
	for i, s := range e.segments {
		if i < len(e.segments)-1 {
			w.put(uint64(s.rows), f.rows)
		}
		w.put(uint64(s.shift-f.shift), f.shifts)
		w.put(s.limit-1, f.limit)
		w.put(uint64(s.base-f.base), f.bases)
	}
	for i := range e.segments {
		s := &e.segments[i]
		s.put(&w, r[:s.rows])
		r = r[s.rows:]
	}
	return w.end()
}

// put writes the rows: their digits in groups, each group a fraction of the numbers that it could be, rounded up,
// so that multiplying by the range brings up one digit after the other; then their low bits.
func (s *segment) put(w *bitWriter, r []int64) {
	width, digits := s.layout()
	base := uint64(s.base) << s.shift
	if digits > 0 {
		for at := 0; at < len(r); at += groupDigits {
			part := r[at:min(at+groupDigits, len(r))]
			var v uint64
			whole := uint64(1)
			for _, x := range part {
				v = v*s.limit + (uint64(x)-base)>>s.shift
				whole *= s.limit
			}
			n := uint(bits.Len64(whole - 1))
			q, rest := bits.Div64(v>>(64-n), v<<n, whole)
			if rest > 0 {
				q++
			}
			w.put(q, n)
		}
	}
	if width > 0 {
		for _, x := range r {
			w.put((uint64(x)-base)&(1<<width-1), width)
		}
	}
}

func decodeSegments(x []int64, h *header, m, from int) error {
	count := h.size(max(m, 1))
	f := segmentFields{base: h.varint()}
	b := h.rest()
	if h.bad || count < 1 || len(b) < (segmentWidths+7)/8 {
		return h.corrupt("segments")
	}
	w := word(b, 0)
	f.rows, f.shift, f.shifts = uint(w&31), uint(w>>5&63), uint(w>>11&7)
	f.limit, f.bases = uint(w>>14&7), uint(w>>17&127)
	at := uint(segmentWidths)
	pos := at + uint(count*f.total()) - f.rows
	if f.limit > 6 || f.bases > 64 || pos > 8*uint(len(b)) {
		return h.corrupt("widths of segments")
	}
	row, to := 0, from+len(x)
	for i := range count {
		s := segment{rows: m - row}
		w, used := word(b, at>>3)>>(at&7), uint(0) // 57 bits, and how many of them were read
		if i < count-1 {
			s.rows, used = int(w&(1<<f.rows-1)), f.rows
		}
		s.shift = f.shift + uint(w>>used&(1<<f.shifts-1))
		used += f.shifts
		s.limit = w>>used&(1<<f.limit-1) + 1
		used += f.limit
		if used+f.bases <= 57 {
			s.base = f.base + int64(w>>used&(1<<f.bases-1))
		} else {
			s.base = f.base + int64(field(b, at+used, f.bases))
		}
		at += used + f.bases
		width, digits := s.layout()
		size := digits + uint(s.rows)*width
		if s.shift > 63 || s.rows > m-row || pos+size > 8*uint(len(b)) {
			return h.corrupt("segment")
		}
		if lo, hi := max(from, row), min(to, row+s.rows); lo < hi {
			lines := x[lo-from:]
			if full := (hi - lo + groupDigits - 1) &^ (groupDigits - 1); (lo-row)%groupDigits == 0 && full <= len(lines) {
				lines = lines[:full] // rows behind this segment are overwritten
			} else {
				lines = lines[:hi-lo]
			}
			unpack(lines, b, pos+digits+uint(lo-row)*width, width, s.base<<s.shift)
			if digits > 0 {
				s.addDigits(lines, b, pos, lo-row)
			}
		}
		pos += size
		if row += s.rows; row >= to {
			if to == m && i < count-1 {
				return h.corrupt("segments without rows")
			}
			break
		}
	}
	if row < to {
		return h.corrupt("fewer rows than promised")
	}
	h.used(pos, to == m)
	return nil
}

// addDigits adds the digits of the rows [from, from+len(x)), and of some that the last group has not.
func (s *segment) addDigits(x []int64, b []byte, pos uint, from int) {
	limit, shift := s.limit, s.shift&63
	sizes := &radixes[limit&(2*maxRange-1)]
	size := uint(sizes[groupDigits])
	pos += uint(from/groupDigits) * size
	row := from
	if skip := from % groupDigits; skip > 0 {
		part := x[:min(len(x), groupDigits-skip)]
		s.addGroup(part, b, pos, row-skip, skip)
		x, row, pos = x[len(part):], row+len(part), pos+size
	}
	half := limit * limit * limit * limit
	for ; len(x) >= groupDigits; x = x[groupDigits:] {
		out := (*[groupDigits]int64)(x)
		if left := s.rows - row; left < groupDigits {
			size = uint(sizes[left&(groupDigits-1)])
		}
		f := word(b, pos>>3) >> (pos & 7) << ((64 - size) & 63)
		g := f * half // four digits further on
		pos += size
		var d, h uint64
		d, f = bits.Mul64(f, limit)
		h, g = bits.Mul64(g, limit)
		out[0], out[4] = out[0]+int64(d<<shift), out[4]+int64(h<<shift)
		d, f = bits.Mul64(f, limit)
		h, g = bits.Mul64(g, limit)
		out[1], out[5] = out[1]+int64(d<<shift), out[5]+int64(h<<shift)
		d, f = bits.Mul64(f, limit)
		h, g = bits.Mul64(g, limit)
		out[2], out[6] = out[2]+int64(d<<shift), out[6]+int64(h<<shift)
		d, _ = bits.Mul64(f, limit)
		h, _ = bits.Mul64(g, limit)
		out[3], out[7] = out[3]+int64(d<<shift), out[7]+int64(h<<shift)
		row += groupDigits
	}
	if len(x) > 0 {
		s.addGroup(x, b, pos, row, 0)
	}
}

// addGroup adds digits of the group that starts at row, after the first few.
func (s *segment) addGroup(x []int64, b []byte, pos uint, row, skip int) {
	size := uint(radixes[s.limit][min(groupDigits, s.rows-row)])
	f := word(b, pos>>3) >> (pos & 7) << (64 - size)
	for range skip {
		f *= s.limit
	}
	for i := range x {
		var d uint64
		d, f = bits.Mul64(f, s.limit)
		x[i] += int64(d << s.shift)
	}
}
