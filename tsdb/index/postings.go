// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

const (
	inlineIDs = 4
	// maxRuns is how many entries a run list may have before it goes into a bitmap: inserting into the
	// middle moves 4 KiB at most, and above it a bitmap needs less memory than the list.
	maxRuns = 1024
	// optimizeEvery is how often, in merges of the recent list, a bitmap looks for better containers.
	optimizeEvery = 8
	// longRun is from which length on a run is added as such, not id by id.
	longRun     = 256
	listBytes   = 40 // unsafe.Sizeof(list{})
	bitmapBytes = 120
)

// postings is the set of series of one pair. Up to four ids are in the record itself; of a larger set it holds
// the number of its list.
type postings struct {
	n   uint32 // series
	ids [inlineIDs]uint32
}

// list is a larger set: runs alone, or a bitmap and the ids that were added since the last merge.
type list struct {
	runs   runs
	bitmap *roaring.Bitmap
	merges int
}

// lists owns the larger sets of one index.
type lists struct {
	all   []list
	free  []uint32
	meter *meter
	// noBitmaps keeps every set in runs: good where ids only ever come in order.
	noBitmaps bool
}

// addRoom is the most that one add allocates for a set: a run list that grows, or a bitmap container.
const addRoom = 10 << 10

// add puts id into p and reports whether it was not there. The caller has ensured addRoom bytes.
func (ls *lists) add(p *postings, id uint32) bool {
	if p.n < inlineIDs {
		return p.insertInline(id)
	}
	if p.n == inlineIDs {
		if p.hasInline(id) {
			return false
		}
		var r runs
		for _, x := range p.ids {
			r = r.add(x, x)
		}
		p.ids[0] = ls.open(r)
	}
	l := &ls.all[p.ids[0]]
	if l.bitmap != nil && l.bitmap.Contains(id) {
		return false
	}
	before := cap(l.runs)
	r, fresh := l.runs.insert(id)
	l.runs = r
	ls.meter.add(int64(cap(r)-before) * 4)
	if !fresh {
		return false
	}
	p.n++
	if len(r) > maxRuns && !ls.noBitmaps {
		ls.merge(l)
	}
	return true
}

func (p *postings) hasInline(id uint32) bool { return slices.Contains(p.ids[:p.n], id) }

func (p *postings) insertInline(id uint32) bool {
	i := int(p.n)
	for i > 0 && p.ids[i-1] > id {
		i--
	}
	if i > 0 && p.ids[i-1] == id {
		return false
	}
	copy(p.ids[i+1:], p.ids[i:p.n])
	p.ids[i] = id
	p.n++
	return true
}

func (ls *lists) open(r runs) uint32 {
	ls.meter.add(int64(cap(r)) * 4)
	if k := len(ls.free); k > 0 {
		i := ls.free[k-1]
		ls.free = ls.free[:k-1]
		ls.all[i] = list{runs: r}
		return i
	}
	if len(ls.all) == cap(ls.all) {
		before := cap(ls.all)
		ls.all = slices.Grow(ls.all, 16+len(ls.all)/4)
		ls.meter.add(int64(cap(ls.all)-before) * listBytes)
	}
	ls.all = append(ls.all, list{runs: r})
	return uint32(len(ls.all) - 1)
}

func (ls *lists) close(i uint32) {
	l := &ls.all[i]
	ls.meter.add(-l.bytes())
	*l = list{}
	ls.free = append(ls.free, i)
}

// bytes returns what the set needs beside its list record.
func (l *list) bytes() int64 {
	n := int64(cap(l.runs)) * 4
	if l.bitmap != nil {
		n += bitmapBytes + int64(l.bitmap.GetSizeInBytes())
	}
	return n
}

// merge moves the runs into the bitmap.
func (ls *lists) merge(l *list) {
	before := l.bytes()
	if l.bitmap == nil {
		l.bitmap = roaring.New()
	}
	// One union with all of them costs each container once; adding them one by one would copy a container of
	// runs for each.
	fresh := roaring.New()
	var short []uint32
	l.runs.each(func(first, last uint32) bool {
		if last-first >= longRun {
			fresh.AddRange(uint64(first), uint64(last)+1)
			return true
		}
		for id := first; id <= last; id++ {
			short = append(short, id)
		}
		return true
	})
	fresh.AddMany(short)
	l.bitmap.Or(fresh)
	if l.merges%optimizeEvery == 0 {
		l.bitmap.RunOptimize()
	}
	l.merges++
	l.runs = nil
	ls.meter.add(l.bytes() - before)
}

// subtract takes ids, which ascend, out of p.
func (ls *lists) subtract(p *postings, ids []uint32) {
	if p.n <= inlineIDs {
		keep := p.ids[:0]
		for _, id := range p.ids[:p.n] {
			if _, found := slices.BinarySearch(ids, id); !found {
				keep = append(keep, id)
			}
		}
		p.n = uint32(len(keep))
		return
	}
	i := p.ids[0]
	l := &ls.all[i]
	before := l.bytes()
	l.runs = l.runs.subtract(ids)
	n := l.runs.count()
	if len(l.runs) > maxRuns && l.bitmap == nil {
		ls.merge(l) // gaps in long runs have made many short ones
		n = 0
	}
	if l.bitmap != nil {
		l.bitmap.AndNot(roaring.BitmapOf(ids...))
		l.bitmap.RunOptimize()
		if k := int(l.bitmap.GetCardinality()); k < maxRuns/2 {
			l.runs = runsOf(append(l.bitmap.ToArray(), l.runs.appendTo(nil)...))
			l.bitmap, l.merges = nil, 0
			n = l.runs.count()
		} else {
			n += k
		}
	}
	ls.meter.add(l.bytes() - before)
	p.n = uint32(n)
	if n <= inlineIDs {
		var keep [inlineIDs]uint32
		copy(keep[:], l.runs.appendTo(nil))
		ls.close(i)
		p.ids = keep
	}
}

// runsOf makes runs of ids in any order.
func runsOf(ids []uint32) runs {
	slices.Sort(ids)
	var r runs
	for _, id := range slices.Compact(ids) {
		r = r.add(id, id)
	}
	return slices.Clip(r)
}

// appendTo adds the ids of p to dst, ascending.
func (ls *lists) appendTo(dst []uint32, p *postings) []uint32 {
	if p.n <= inlineIDs {
		return append(dst, p.ids[:p.n]...)
	}
	dst = slices.Grow(dst, int(p.n))
	l := &ls.all[p.ids[0]]
	if l.bitmap == nil {
		return l.runs.appendTo(dst)
	}
	start := len(dst)
	dst = appendBitmap(dst, l.bitmap)
	if len(l.runs) == 0 {
		return dst
	}
	if len(dst) == start || dst[len(dst)-1] < l.runs[0]&^runFlag {
		return l.runs.appendTo(dst)
	}
	return l.runs.mergeInto(dst, start)
}

func appendBitmap(dst []uint32, b *roaring.Bitmap) []uint32 {
	it := b.ManyIterator()
	for {
		dst = slices.Grow(dst, 256)
		n := it.NextMany(dst[len(dst):cap(dst)])
		if n == 0 {
			return dst
		}
		dst = dst[:len(dst)+n]
	}
}

// mark sets the bit of every index i for which ids[i] is in p.
func (ls *lists) mark(p *postings, ids []uint32, hit bitset) {
	if p.n <= inlineIDs {
		markSorted(p.ids[:p.n], ids, hit, 0)
		return
	}
	l := &ls.all[p.ids[0]]
	l.runs.mark(ids, hit)
	if l.bitmap == nil {
		return
	}
	// Where most of the set is looked at, decoding it in order is an order of magnitude cheaper than
	// searching it once per id.
	if int(p.n) < 8*len(ids) {
		var buf [1024]uint32
		it := l.bitmap.ManyIterator()
		for base := 0; base < len(ids); {
			n := it.NextMany(buf[:])
			if n == 0 {
				return
			}
			end := base + gallop(ids[base:], buf[n-1]+1)
			markShifted(buf[:n], ids[base:end], hit, base)
			base = end
		}
		return
	}
	it := l.bitmap.Iterator() // which stays in the container it is in, where Contains looks for it again
	for i, id := range ids {
		it.AdvanceIfNeeded(id)
		if !it.HasNext() {
			return
		}
		if it.PeekNext() == id {
			hit.set(i)
		}
	}
}

// markShifted is markSorted for an id of ids for nearly every one of list.
func markShifted(list, ids []uint32, hit bitset, base int) {
	j := 0
	for i, id := range ids {
		for j < len(list) && list[j] < id {
			j++
		}
		if j == len(list) {
			return
		}
		if list[j] == id {
			hit.set(base + i)
		}
	}
}

// overlaps reports whether one of ids is in p.
func (ls *lists) overlaps(p *postings, ids []uint32) bool {
	if p.n <= inlineIDs {
		return overlapSorted(p.ids[:p.n], ids)
	}
	l := &ls.all[p.ids[0]]
	if l.runs.overlaps(ids) {
		return true
	}
	if l.bitmap == nil {
		return false
	}
	it := l.bitmap.Iterator()
	for len(ids) > 0 {
		it.AdvanceIfNeeded(ids[0])
		if !it.HasNext() {
			return false
		}
		next := it.PeekNext()
		if next == ids[0] {
			return true
		}
		ids = ids[gallop(ids, next):]
		if len(ids) > 0 && ids[0] == next {
			return true
		}
	}
	return false
}

// each calls f with the runs of p, ascending, until f returns false. All runs are maximal.
func (ls *lists) each(p *postings, f func(first, last uint32) bool) {
	if p.n <= inlineIDs || ls.all[p.ids[0]].bitmap != nil {
		var r runs
		for _, id := range ls.appendTo(nil, p) {
			r = r.add(id, id)
		}
		r.each(f)
		return
	}
	ls.all[p.ids[0]].runs.each(f)
}
