// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"
)

const (
	slabBytes      = 64 << 10
	slabEntryBytes = 8 // the symbol's number and its length, in front of the text
	pageEntries    = 1024
	symbolBytes    = 12 // unsafe.Sizeof(symbol{})
)

// symbols interns strings and counts who uses them. Texts live in slabs that are written once: a string handed
// out stays valid whatever happens to its symbol, because it keeps its slab alive. A slab of which more than
// half is dead is emptied into the current one and left to the garbage collector.
//
// All methods want the owner's lock, for reading where they only read.
type symbols struct {
	seed    maphash.Seed
	table   table
	pages   []*[pageEntries]symbol
	n       uint32 // numbers given out so far
	free    []uint32
	slabs   []slab
	current int // index of the slab being filled; -1: none
	holes   []uint32
	meter   *meter
}

// symbol says where a text is and how many uses it has. refs 0 means that the number is free.
type symbol struct {
	slab, off uint32
	refs      uint32
}

// slab is a run of entries: number u32 | length u32 | text.
type slab struct {
	buf  []byte
	dead int // bytes of entries whose symbol is gone
}

func newSymbols(m *meter) symbols {
	return symbols{seed: maphash.MakeSeed(), current: -1, meter: m}
}

func (s *symbols) at(sym uint32) *symbol { return &s.pages[sym/pageEntries][sym%pageEntries] }

// text returns the string of a live symbol.
func (s *symbols) text(sym uint32) string {
	e := s.at(sym)
	b := s.slabs[e.slab].buf
	n := binary.LittleEndian.Uint32(b[e.off+4:])
	if n == 0 {
		return ""
	}
	return unsafe.String(&b[e.off+slabEntryBytes], int(n))
}

// live reports whether sym names a text at present.
func (s *symbols) live(sym uint32) bool { return sym < s.n && s.at(sym).refs > 0 }

func (s *symbols) find(text string) (uint32, bool) {
	return s.table.find(maphash.String(s.seed, text), func(sym uint32) bool { return s.text(sym) == text })
}

// intern returns the number of text and counts one more use of it.
func (s *symbols) intern(text string) (uint32, error) {
	hash := maphash.String(s.seed, text)
	sym, ok := s.table.find(hash, func(sym uint32) bool { return s.text(sym) == text })
	if ok {
		s.at(sym).refs++
		return sym, nil
	}
	size := slabEntryBytes + len(text)
	room := int64(max(size, slabBytes)) + pageEntries*symbolBytes + s.table.growth(hash)
	if err := s.meter.ensure(room); err != nil {
		return 0, err
	}
	sym = s.number()
	slab, off := s.store(sym, text)
	*s.at(sym) = symbol{slab: slab, off: off, refs: 1}
	s.meter.add(s.table.insert(hash, sym))
	return sym, nil
}

func (s *symbols) number() uint32 {
	if k := len(s.free); k > 0 {
		sym := s.free[k-1]
		s.free = s.free[:k-1]
		return sym
	}
	if s.n%pageEntries == 0 {
		s.pages = append(s.pages, new([pageEntries]symbol))
		s.meter.add(pageEntries * symbolBytes)
	}
	s.n++
	return s.n - 1
}

// store copies text into the current slab, or into a new one where it does not fit.
func (s *symbols) store(sym uint32, text string) (slabIdx, off uint32) {
	size := slabEntryBytes + len(text)
	if s.current < 0 || len(s.slabs[s.current].buf)+size > cap(s.slabs[s.current].buf) {
		s.openSlab(max(size, slabBytes))
	}
	b := &s.slabs[s.current].buf
	off = uint32(len(*b))
	*b = binary.LittleEndian.AppendUint32(*b, sym)
	*b = binary.LittleEndian.AppendUint32(*b, uint32(len(text)))
	*b = append(*b, text...)
	return uint32(s.current), off
}

func (s *symbols) openSlab(size int) {
	full := s.current
	fresh := slab{buf: make([]byte, 0, size)}
	s.meter.add(int64(size))
	if k := len(s.holes); k > 0 {
		s.current = int(s.holes[k-1])
		s.holes = s.holes[:k-1]
		s.slabs[s.current] = fresh
	} else {
		s.slabs = append(s.slabs, fresh)
		s.current = len(s.slabs) - 1
	}
	if full >= 0 {
		s.compact(full) // its dead share was not looked at while it was the current one
	}
}

// retain counts one more use of a live symbol.
func (s *symbols) retain(sym uint32) { s.at(sym).refs++ }

// release takes back one use of sym and frees it after the last.
func (s *symbols) release(sym uint32) {
	if !s.live(sym) {
		return
	}
	e := s.at(sym)
	if e.refs--; e.refs > 0 {
		return
	}
	text := s.text(sym)
	s.meter.add(s.table.remove(maphash.String(s.seed, text), sym))
	s.free = append(s.free, sym)
	s.slabs[e.slab].dead += slabEntryBytes + len(text)
	s.compact(int(e.slab))
}

// compact moves the live entries of a mostly dead slab to the current one and drops it.
func (s *symbols) compact(idx int) {
	old := s.slabs[idx]
	if idx == s.current || 2*old.dead <= len(old.buf) {
		return
	}
	for off := 0; off < len(old.buf); {
		sym := binary.LittleEndian.Uint32(old.buf[off:])
		end := off + slabEntryBytes + int(binary.LittleEndian.Uint32(old.buf[off+4:]))
		if e := s.at(sym); e.refs > 0 && e.slab == uint32(idx) && e.off == uint32(off) {
			e.slab, e.off = s.store(sym, s.text(sym))
		}
		off = end
	}
	s.slabs[idx] = slab{}
	s.holes = append(s.holes, uint32(idx))
	s.meter.add(-int64(cap(old.buf)))
}
