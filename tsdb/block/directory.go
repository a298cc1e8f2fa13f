// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"math"
	"sort"
)

const (
	// stripeTarget is when a stripe is full. A read of 64 KiB costs about what its seek does on a cloud
	// disk, and checking it 10 us; neighbouring series are usually wanted together.
	stripeTarget = 64 << 10
	// groupSeries is how many series a group has at most, so that the directory of a stripe stays small where pages
	// are of a few bytes each.
	groupSeries = 1024
	// groupTarget is when a group is full although none of its stripes is: it has very many of them.
	groupTarget = 16 << 20
	// maxStripe bounds what a reader allocates for a stripe. One series alone can be larger than the target.
	maxStripe = 1 << 30
)

// stripe is what the directory knows of one: where it is, its checksum, its times.
type stripe struct {
	off        int64
	size, crc  uint32
	cell       uint32 // whose columns of times its pages have
	minT, maxT int64  // of its rows
}

// group is neighbouring series and their stripes, which ascend in time and do not overlap.
type group struct {
	first, series uint32
	from, to      uint32 // its stripes in the directory
}

// timeStripe is what the directory knows of a stripe of times.
type timeStripe struct {
	off         int64
	size, crc   uint32
	cell        uint32
	first, cols uint32 // number of its first column, and how many it has
}

// directory lists the stripes of a block.
type directory struct {
	groups  []group
	stripes []stripe
	times   []timeStripe // by cell, then by number
	cells   []uint32     // where in times those of each cell begin, and the end of the last
}

// bytes returns the memory of the directory.
func (d *directory) bytes() int64 {
	return int64(cap(d.groups))*16 + int64(cap(d.stripes))*48 + int64(cap(d.times))*32 + int64(cap(d.cells))*4
}

// The kinds of entry, in the low two bits of its first number; the others are the size of the stripe.
const (
	entryGroup  = 0 // the first stripe of a group
	entryStripe = 1 // a further one
	entryTimes  = 2 // a stripe of times
	entryEmpty  = 3 // a group without rows: no stripe
)

// directoryWriter makes the directory while the stripes are written, in the order of the file.
type directoryWriter struct {
	b        []byte
	entries  int
	lastCell uint32
	lastT    int64
}

func (w *directoryWriter) entry(kind, size int, crc uint32) {
	w.entries++
	w.b = binary.AppendUvarint(w.b, uint64(size)<<2|uint64(kind))
	if kind != entryEmpty {
		w.b = binary.LittleEndian.AppendUint32(w.b, crc)
	}
}

// group begins a group of series without rows.
func (w *directoryWriter) emptyGroup(series int) {
	w.entry(entryEmpty, 0, 0)
	w.b = binary.AppendUvarint(w.b, uint64(series))
}

// stripe adds one of a group of that many series.
func (w *directoryWriter) stripe(s *stripe, series int, first bool) {
	kind := entryStripe
	if first {
		kind = entryGroup
	}
	w.entry(kind, int(s.size), s.crc)
	if first {
		w.b = binary.AppendUvarint(w.b, uint64(series))
	}
	w.b = binary.AppendVarint(w.b, int64(s.cell)-int64(w.lastCell))
	w.b = binary.AppendVarint(w.b, s.minT-w.lastT)
	w.b = binary.AppendUvarint(w.b, uint64(s.maxT-s.minT))
	w.lastCell, w.lastT = s.cell, s.minT
}

func (w *directoryWriter) times(s *timeStripe) {
	w.entry(entryTimes, int(s.size), s.crc)
	w.b = binary.AppendUvarint(binary.AppendUvarint(w.b, uint64(s.cell)), uint64(s.cols))
}

func (w *directoryWriter) appendTo(dst []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(w.entries)), w.b...)
}

// directoryParser reads what directoryWriter made.
type directoryParser struct {
	*cursor
	directory
	off      int64 // of the next stripe
	lastCell uint32
	lastT    int64
	maxCell  int // no entry may name a higher one
	series   int
}

// parseGroups reads the directory of a block of n series whose stripes are in area.
func parseGroups(b []byte, n int, area section) (directory, *cursor) {
	p := &directoryParser{cursor: newCursor(b, 0), off: area.off}
	count := p.Count(2)
	p.maxCell = count
	for range count {
		p.entry(n)
		if p.Failed() {
			return directory{}, p.cursor
		}
	}
	if p.Finish(); !p.Failed() && (p.series != n || p.off != area.off+area.size) {
		p.Fail("stripes do not hold the series of the index, or do not fill their section")
	}
	if p.Failed() {
		return directory{}, p.cursor
	}
	p.sortTimes()
	return p.directory, p.cursor
}

func (p *directoryParser) entry(n int) {
	head := p.Uvarint()
	size, kind := head>>2, head&3
	if size > maxStripe || kind == entryEmpty && size > 0 {
		p.Fail("stripe size out of range")
	}
	crc := uint32(0)
	if kind != entryEmpty {
		crc = p.LE32()
	}
	switch kind {
	case entryTimes:
		s := timeStripe{off: p.off, size: uint32(size), crc: crc}
		s.cell = uint32(p.atMost(p.maxCell, "cell"))
		s.cols = uint32(p.atMost(min(int(size), groupSeries), "columns of times"))
		p.times = append(p.times, s)
	case entryGroup, entryEmpty:
		series := p.atMost(min(n-p.series, groupSeries), "series of a group")
		if series == 0 {
			p.Fail("group without series")
		}
		at := uint32(len(p.stripes))
		p.groups = append(p.groups, group{first: uint32(p.series), series: uint32(series), from: at, to: at})
		p.series += series
	}
	if kind == entryGroup || kind == entryStripe {
		p.stripe(stripe{off: p.off, size: uint32(size), crc: crc}, kind == entryGroup)
	}
	p.off += int64(size)
}

// stripe reads the rest of an entry for a stripe of the last group, of which it must be the first or must not.
func (p *directoryParser) stripe(s stripe, first bool) {
	cell := int64(p.lastCell) + p.Varint()
	s.minT = p.lastT + p.Varint()
	s.maxT = s.minT + int64(p.Uvarint())
	if cell < 0 || cell > int64(p.maxCell) {
		p.Fail("cell out of range")
	}
	if s.maxT < s.minT || len(p.groups) == 0 {
		p.Fail("stripe out of place")
	}
	if p.Failed() {
		return
	}
	g := &p.groups[len(p.groups)-1]
	if first != (g.to == g.from) {
		p.Fail("further stripe of a group without a first")
		return
	}
	if !first && s.minT <= p.stripes[g.to-1].maxT {
		p.Fail("stripes of a group overlap in time")
		return
	}
	s.cell = uint32(cell)
	p.lastCell, p.lastT = s.cell, s.minT
	p.stripes = append(p.stripes, s)
	g.to++
}

// sortTimes brings the stripes of times into the order of their cells and numbers their columns.
func (p *directoryParser) sortTimes() {
	sort.SliceStable(p.times, func(i, k int) bool { return p.times[i].cell < p.times[k].cell })
	next, number := 0, uint32(0)
	for i := range p.times {
		s := &p.times[i]
		if i == 0 || s.cell != p.times[i-1].cell {
			number = 0
		}
		for ; next <= int(s.cell); next++ {
			p.cells = append(p.cells, uint32(i))
		}
		if uint64(number)+uint64(s.cols) > math.MaxUint32 {
			s.cols = 0 // more columns than numbers: hostile, and out of anybody's reach
		}
		s.first = number
		number += s.cols
	}
	p.cells = append(p.cells, uint32(len(p.times)))
}

// ofCell returns the range of the stripes of times of a cell.
func (d *directory) ofCell(cell uint32) (from, to uint32) {
	if int(cell)+1 >= len(d.cells) {
		return 0, 0
	}
	return d.cells[cell], d.cells[cell+1]
}

// find returns the index of the group that holds a series.
func (d *directory) find(id uint32) int {
	return sort.Search(len(d.groups), func(i int) bool { return d.groups[i].first > id }) - 1
}
