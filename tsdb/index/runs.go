// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"math/bits"
	"slices"
	"sort"
)

// runs is a set of ids below 1<<31 as an ascending list: an id on its own is one entry; two or more ids in a
// row are two entries, the first id with runFlag set and the last id without. Ids of series that were created
// together follow each other, so most postings are far fewer entries than ids.
type runs []uint32

const (
	runFlag = 1 << 31
	maxID   = runFlag - 1
)

// above returns the index of the first entry that is greater than id.
func (r runs) above(id uint32) int {
	if k := len(r); k == 0 || r[k-1] <= id { // the last entry is never flagged
		return k
	}
	return sort.Search(len(r), func(i int) bool { return r[i]&^runFlag > id })
}

func (r runs) contains(id uint32) bool {
	i := r.above(id)
	return i > 0 && (r[i-1]&^runFlag == id || r[i-1]&runFlag != 0)
}

// insert adds id and reports whether it was not there.
func (r runs) insert(id uint32) (runs, bool) {
	i := r.above(id)
	if i > 0 && (r[i-1]&^runFlag == id || r[i-1]&runFlag != 0) {
		return r, false
	}
	joinPrev := i > 0 && r[i-1]+1 == id
	joinNext := i < len(r) && r[i]&^runFlag == id+1
	prevIsRun := i > 1 && r[i-2]&runFlag != 0
	nextIsRun := i < len(r) && r[i]&runFlag != 0
	switch {
	case joinPrev && joinNext && prevIsRun && nextIsRun:
		return slices.Delete(r, i-1, i+1), true
	case joinPrev && joinNext && prevIsRun:
		return slices.Delete(r, i-1, i), true // the single id after becomes the last of the run
	case joinPrev && joinNext && nextIsRun:
		r[i-1] |= runFlag
		return slices.Delete(r, i, i+1), true
	case joinPrev && joinNext:
		r[i-1] |= runFlag
		return r, true
	case joinPrev && prevIsRun:
		r[i-1] = id
		return r, true
	case joinPrev:
		r[i-1] |= runFlag
		return r.splice(i, id), true
	case joinNext && nextIsRun:
		r[i] = id | runFlag
		return r, true
	case joinNext:
		return r.splice(i, id|runFlag), true
	}
	return r.splice(i, id), true
}

// splice inserts one entry and lets the slice grow by a quarter where the runtime would double it.
func (r runs) splice(i int, entry uint32) runs {
	if len(r) == cap(r) {
		r = append(make(runs, 0, len(r)+max(2, len(r)/4)), r...)
	}
	return slices.Insert(r, i, entry)
}

// add appends the ids first..last, all above what r holds.
func (r runs) add(first, last uint32) runs {
	if k := len(r); k > 0 && r[k-1]+1 == first {
		if k > 1 && r[k-2]&runFlag != 0 {
			r[k-1] = last
			return r
		}
		r[k-1] |= runFlag
		return append(r, last)
	}
	if first == last {
		return append(r, first)
	}
	return append(r, first|runFlag, last)
}

// each calls f with every maximal run of ids, ascending, until f returns false.
func (r runs) each(f func(first, last uint32) bool) {
	for i := 0; i < len(r); i++ {
		first := r[i]
		last := first
		if first&runFlag != 0 {
			first &^= runFlag
			i++
			last = r[i]
		}
		if !f(first, last) {
			return
		}
	}
}

// count returns the number of ids.
func (r runs) count() int {
	n := 0
	r.each(func(first, last uint32) bool {
		n += int(last-first) + 1
		return true
	})
	return n
}

// appendTo adds the ids to dst.
func (r runs) appendTo(dst []uint32) []uint32 {
	r.each(func(first, last uint32) bool {
		dst = slices.Grow(dst, int(last-first)+1)
		for id := first; id <= last; id++ {
			dst = append(dst, id)
		}
		return true
	})
	return dst
}

// mergeInto brings the ids among those of dst from start on, which ascend and have none of them.
func (r runs) mergeInto(dst []uint32, start int) []uint32 {
	i, n := len(dst)-1, r.count()
	dst = slices.Grow(dst, n)[:len(dst)+n]
	k := len(dst) - 1 // from the end: what is moved has not been overwritten
	for e := len(r) - 1; e >= 0; e-- {
		last, first := int(r[e]), int(r[e])
		if e > 0 && r[e-1]&runFlag != 0 {
			e--
			first = int(r[e] &^ runFlag)
		}
		for id := last; id >= first; id-- {
			for ; i >= start && int(dst[i]) > id; i, k = i-1, k-1 {
				dst[k] = dst[i]
			}
			dst[k] = uint32(id)
			k--
		}
	}
	return dst
}

// subtract returns r without ids, which ascend. The result shares nothing with r.
func (r runs) subtract(ids []uint32) runs {
	var out runs
	r.each(func(first, last uint32) bool {
		ids = ids[gallop(ids, first):]
		for len(ids) > 0 && ids[0] <= last {
			if ids[0] > first {
				out = out.add(first, ids[0]-1)
			}
			first = ids[0] + 1
			ids = ids[1:]
		}
		if first <= last {
			out = out.add(first, last)
		}
		return true
	})
	return slices.Clip(out)
}

// mark sets the bit of every index i for which ids[i] is in r.
func (r runs) mark(ids []uint32, hit bitset) { r.each(markRuns(ids, hit)) }

// overlaps reports whether one of ids is in r.
func (r runs) overlaps(ids []uint32) (found bool) {
	r.each(findRun(ids, &found))
	return found
}

// markRuns returns a function that takes ascending runs and sets the bit of every index i for which ids[i] is
// in one of them. It returns false when no further run can matter.
func markRuns(ids []uint32, hit bitset) func(first, last uint32) bool {
	base := 0
	return func(first, last uint32) bool {
		base += gallop(ids[base:], first)
		for base < len(ids) && ids[base] <= last {
			hit.set(base)
			base++
		}
		return base < len(ids)
	}
}

// findRun returns a function that takes ascending runs and sets found at the first that has one of ids. It
// returns false when no further run can matter.
func findRun(ids []uint32, found *bool) func(first, last uint32) bool {
	return func(first, last uint32) bool {
		ids = ids[gallop(ids, first):]
		*found = len(ids) > 0 && ids[0] <= last
		return !*found && len(ids) > 0
	}
}

// overlapSorted reports whether list and ids, which both ascend, have an id in common.
func overlapSorted(list, ids []uint32) bool {
	for len(list) > 0 && len(ids) > 0 {
		switch {
		case list[0] == ids[0]:
			return true
		case list[0] < ids[0]:
			list = list[gallop(list, ids[0]):]
		default:
			ids = ids[gallop(ids, list[0]):]
		}
	}
	return false
}

// bitset is a row of bits.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]>>(i%64)&1 != 0 }

// gallop returns the index of the first of ids that is not below id. It costs the logarithm of that index, so
// walking a list from match to match costs little however far they are apart.
func gallop(ids []uint32, id uint32) int {
	if len(ids) == 0 || ids[0] >= id {
		return 0
	}
	step := 1
	for step < len(ids) && ids[step] < id {
		step *= 2
	}
	lo, hi := step/2, min(step, len(ids)) // ids[lo] < id, and ids[hi] >= id or hi is the end
	for lo+1 < hi {
		if mid := int(uint(lo+hi) / 2); ids[mid] < id {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// markSorted sets the bit base+i for every ids[i] that is in list; both ascend.
func markSorted(list, ids []uint32, hit bitset, base int) {
	i, j := 0, 0
	for i < len(ids) && j < len(list) {
		switch {
		case ids[i] == list[j]:
			hit.set(base + i)
			i, j = i+1, j+1
		case ids[i] < list[j]:
			i += gallop(ids[i:], list[j])
		default:
			j += gallop(list[j:], ids[i])
		}
	}
}

// appendTo adds the index of every set bit to dst.
func (b bitset) appendTo(dst []uint32) []uint32 {
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			dst = append(dst, uint32(i*64+bits.TrailingZeros64(w)))
		}
	}
	return dst
}
