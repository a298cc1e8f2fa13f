// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"unsafe"
)

// Codecs of times: the first byte of a column. Numbers are on disk.
const (
	timesAffine = 0 // first, first + step, ...
	timesLine   = 1 // the same with steps left out and numbers beside the line
	timesList   = 2 // a column of integers
)

// maxTimes is the most rows that a column of times may have.
const maxTimes = math.MaxInt32

// listed returns how many rows a column of that many bytes may have if it is not affine, so that few bytes cannot ask
// for much memory.
func listed(size int) int { return 1<<14 + size<<10 }

// slopeBits is how many bits behind the point the slope of a line has.
const slopeBits = 16

// Times is a column of times in milliseconds, strictly ascending. It is immutable.
type Times struct {
	n           int
	first, step int64
	list        []int64 // nil: affine
}

// AppendTimes appends t, which ascends strictly, as a self-describing column and returns the longer slice.
func (e *Encoder) AppendTimes(dst []byte, t []int64) []byte {
	if step, ok := affine(t); ok {
		dst = binary.AppendUvarint(append(dst, timesAffine), uint64(len(t)))
		if len(t) > 0 {
			dst = binary.AppendVarint(dst, t[0])
		}
		if len(t) > 1 {
			dst = binary.AppendUvarint(dst, step)
		}
		return dst
	}
	start := len(dst)
	dst = binary.AppendUvarint(append(dst, timesList), uint64(len(t)))
	dst = e.AppendInts(dst, t)
	if step, ok := e.skips(t); ok {
		slopes := [2]uint64{step << slopeBits, slopeOf(t, e.apart[len(t)-1])}
		for i, slope := range slopes {
			if i > 0 && slope == slopes[0] || slope == 0 {
				continue
			}
			e.trial = e.appendLine(e.trial[:0], t, slope)
			if len(e.trial) < len(dst)-start {
				dst = append(dst[:start], e.trial...)
			}
			e.skips(t) // appendLine has used its memory
		}
	}
	if len(t) > listed(len(dst)-start) {
		dst = binary.AppendUvarint(append(dst[:start], timesList), uint64(len(t)))
		lo, hi := t[0], t[len(t)-1]
		dst = appendPack(append(dst, formPack<<formShift), t, lo, uint(bits.Len64(uint64(hi-lo))))
	}
	return dst
}

func affine(t []int64) (step uint64, ok bool) {
	if len(t) < 2 {
		return 0, true
	}
	step = uint64(t[1] - t[0])
	for i, x := range t[1:] {
		if uint64(x-t[i]) != step {
			return 0, false
		}
	}
	return step, true
}

// skips finds the step that most rows are apart, and writes to e.apart how many steps each row is behind the first.
// There is none if rows are closer than half of it.
func (e *Encoder) skips(t []int64) (step uint64, ok bool) {
	e.apart = append(e.apart[:0], t...)
	for i := range t[1:] {
		e.apart[i] = t[i+1] - t[i]
	}
	step = uint64(middle(e.apart[:len(t)-1]))
	if step >= 1<<(62-slopeBits) {
		return 0, false
	}
	k := int64(0)
	e.apart[0] = 0
	for i := range t[1:] {
		steps := (uint64(t[i+1]-t[i]) + step/2) / step
		if steps == 0 || steps > math.MaxInt32 {
			return 0, false
		}
		k += int64(steps)
		e.apart[i+1] = k
	}
	return step, true
}

// slopeOf returns the slope from the first row to the last, which is so many steps behind it, 0 if it is too much.
func slopeOf(t []int64, steps int64) uint64 {
	d := uint64(t[len(t)-1] - t[0])
	if d >= 1<<(63-slopeBits) || steps == 0 {
		return 0
	}
	return (d<<slopeBits + uint64(steps)/2) / uint64(steps)
}

// onLine returns the time so many steps behind first.
func onLine(first int64, slope uint64, steps int64) int64 {
	return first + int64(uint64(steps)*slope>>slopeBits)
}

// appendLine appends the column as a line: number of rows, first time, slope, the rows before which steps are left
// out, how many, and the numbers beside the line.
func (e *Encoder) appendLine(dst []byte, t []int64, slope uint64) []byte {
	dst = binary.AppendUvarint(append(dst, timesLine), uint64(len(t)))
	dst = binary.AppendUvarint(binary.AppendVarint(dst, t[0]), slope)
	e.ints = room(e.ints, len(t))
	e.gaps = e.gaps[:0]
	left := e.apart[:0] // overwrites only what was read
	k, last := int64(0), 0
	for i := range t {
		steps := e.apart[i]
		e.ints[i] = t[i] - onLine(t[0], slope, steps)
		if i > 0 && steps != k+1 {
			e.gaps = append(e.gaps, int64(i-last-1))
			left = append(left, steps-k-2)
			last = i
		}
		k = steps
	}
	dst = binary.AppendUvarint(dst, uint64(len(left)))
	if len(left) > 0 {
		g := e.choosePart(e.gaps)
		dst = e.appendPart(append(dst, g.form), e.gaps, &g)
		g = e.choosePart(left)
		dst = e.appendPart(append(dst, g.form), left, &g)
	}
	p := e.choose(e.ints)
	return e.appendResidual(append(dst, p.form), e.ints, &p)
}

// ParseTimes reads and checks a column of times. The answer does not keep src.
func ParseTimes(src []byte) (Times, error) {
	h := header{src: src}
	codec := h.u8()
	n := h.size(maxTimes)
	if h.bad || codec > timesList {
		return Times{}, h.corrupt("head of a column of times")
	}
	if codec == timesAffine {
		return parseAffine(&h, n)
	}
	if n < 1 || n > listed(len(src)) {
		return Times{}, h.corrupt("number of times")
	}
	t := Times{n: n}
	var err error
	if codec == timesLine {
		t.list, err = parseLine(&h, n)
	} else {
		t.list, err = DecodeInts(nil, h.rest(), n, 0, n)
	}
	if err != nil {
		return Times{}, err
	}
	for i, x := range t.list[1:] {
		if x <= t.list[i] {
			return Times{}, h.corrupt("times do not ascend")
		}
	}
	t.first = t.list[0]
	return t, nil
}

func parseAffine(h *header, n int) (Times, error) {
	t := Times{n: n}
	var step uint64
	if n > 0 {
		t.first = h.varint()
	}
	if n > 1 {
		step = h.uvarint()
		hi, lo := bits.Mul64(step, uint64(n-1))
		if step == 0 || hi != 0 || lo > uint64(math.MaxInt64)-uint64(t.first) {
			return Times{}, h.corrupt("step of times")
		}
	}
	if h.bad || h.off != len(h.src) {
		return Times{}, h.corrupt("affine times")
	}
	t.step = int64(step)
	return t, nil
}

func parseLine(h *header, n int) ([]int64, error) {
	first, slope := h.varint(), h.uvarint()
	count := h.size(n - 1)
	gaps, left := make([]int64, count), make([]int64, count)
	if h.bad {
		return nil, h.corrupt("line of times")
	}
	if count > 0 {
		for _, list := range [2][]int64{gaps, left} {
			form := h.u8()
			if h.bad {
				return nil, h.corrupt("gaps between times")
			}
			if err := h.part(list, form); err != nil {
				return nil, err
			}
		}
	}
	t := make([]int64, n)
	if form := h.u8(); h.bad {
		return nil, h.corrupt("line of times")
	} else if err := decodeResidual(t, form, h.rest(), n, 0); err != nil {
		return nil, err
	}
	steps, from := int64(0), 0
	for k := 0; k <= count; k++ {
		to := n
		if k < count {
			if uint64(gaps[k]) >= uint64(n-from-1) || left[k] < 0 || left[k] > math.MaxInt32 {
				return nil, h.corrupt("gap between times")
			}
			to = from + int(gaps[k]) + 1
		}
		for i := from; i < to; i++ {
			t[i] += onLine(first, slope, steps)
			steps++
		}
		if k < count {
			steps += left[k] + 1
		}
		from = to
	}
	return t, nil
}

// Pick returns the column of some rows of t, which must ascend; else the error is a *CorruptError.
func (t *Times) Pick(rows []int64) (Times, error) {
	list := make([]int64, 0, len(rows))
	last := int64(-1)
	for _, r := range rows {
		if r <= last || r >= int64(t.n) {
			return Times{}, &CorruptError{Msg: "rows of another column of times out of order, or beyond its end"}
		}
		list = t.AppendTo(list, int(r), int(r)+1)
		last = r
	}
	if len(list) == 0 {
		return Times{}, nil
	}
	return Times{n: len(list), first: list[0], list: list}, nil
}

// TimesLen returns how many rows a column of times says it has, so that who knows better need not take memory for them; -1
// where it does not say.
func TimesLen(src []byte) int {
	h := header{src: src}
	h.u8()
	n := h.size(maxTimes)
	if h.bad {
		return -1
	}
	return n
}

// TimesMemory returns how many bytes a column of n times takes when it is parsed, as far as its first byte tells.
func TimesMemory(src []byte, n int) int64 {
	size := int64(unsafe.Sizeof(Times{}))
	if len(src) > 0 && src[0] == timesAffine {
		return size
	}
	return size + 8*int64(n)
}

// Len returns the number of rows.
func (t *Times) Len() int { return t.n }

// First returns the first time, 0 if there is none.
func (t *Times) First() int64 { return t.first }

// Last returns the last time, 0 if there is none.
func (t *Times) Last() int64 {
	if t.list != nil {
		return t.list[t.n-1]
	}
	return t.first + t.step*int64(max(t.n-1, 0))
}

// Search returns the first row whose time is at least x, Len if there is none.
func (t *Times) Search(x int64) int {
	switch {
	case t.n == 0 || x <= t.first:
		return 0
	case x > t.Last():
		return t.n
	case t.list != nil:
		i, _ := slices.BinarySearch(t.list, x)
		return i
	}
	return int((uint64(x-t.first)-1)/uint64(t.step)) + 1
}

// AppendTo appends the times of the rows [from, to) to dst; 0 <= from <= to <= Len.
func (t *Times) AppendTo(dst []int64, from, to int) []int64 {
	if t.list != nil {
		return append(dst, t.list[from:to]...)
	}
	at := len(dst)
	dst = grow(dst, to-from)
	x := t.first + t.step*int64(from)
	for i := range dst[at:] {
		dst[at+i] = x
		x += t.step
	}
	return dst
}
