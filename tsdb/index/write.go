// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
)

// dictionary is one label name with its pairs in the order of their values.
type dictionary struct {
	name   string
	sym    uint32
	pairs  []uint32
	series uint32
}

// writePairBytes is what writing takes for each pair: its entry of a dictionary, its rank, where its list is, and who
// has the same.
const writePairBytes = 4 + 4 + 4 + 24

// AppendTo appends the index to dst. It does not change the builder.
func (b *Builder) AppendTo(dst []byte) ([]byte, error) {
	room := writePairBytes * int64(b.pairs.n)
	if err := b.meter.account.Reserve(room); err != nil {
		return dst, fmt.Errorf("write index: %w", err)
	}
	defer b.meter.account.Release(room)
	dicts := b.dictionaries()
	nameOf := make(map[uint32]uint32, len(dicts)) // symbol to number of the name
	rankOf := make([]uint32, b.pairs.n)           // pair to rank of its value
	for i, d := range dicts {
		nameOf[d.sym] = uint32(i)
		for rank, num := range d.pairs {
			rankOf[num] = uint32(rank)
		}
	}
	start := len(dst)
	dst = append(dst, make([]byte, headerBytes)...)
	var ends [5]int
	dst = appendNames(dst, dicts)
	ends[0] = len(dst)
	dst = b.appendDictionaries(dst, dicts)
	ends[1] = len(dst)
	dst = b.appendSets(dst, nameOf)
	ends[2] = len(dst)
	dst = b.appendSeries(dst, rankOf)
	ends[3] = len(dst)
	dst = b.appendPostings(dst, dicts)
	ends[4] = len(dst)
	if uint64(len(dst)-start) > math.MaxUint32 {
		return dst[:start], fmt.Errorf("index of %d bytes is larger than 4 GiB: write fewer series per block", len(dst)-start)
	}
	h := binary.LittleEndian.AppendUint32(dst[start:start], formatVersion)
	h = binary.LittleEndian.AppendUint32(h, b.n)
	h = binary.LittleEndian.AppendUint32(h, uint32(len(dicts)))
	h = binary.LittleEndian.AppendUint32(h, b.pairs.n)
	h = binary.LittleEndian.AppendUint32(h, uint32(len(b.sets)))
	from := start + headerBytes
	for _, end := range ends {
		h = binary.LittleEndian.AppendUint32(h, uint32(end-from))
		from = end
	}
	return dst, nil
}

func (b *Builder) dictionaries() []dictionary {
	byName := map[uint32]*dictionary{}
	for num := range b.pairs.n {
		p := b.pairs.at(num)
		d := byName[p.name]
		if d == nil {
			d = &dictionary{name: b.symbols.text(p.name), sym: p.name}
			byName[p.name] = d
		}
		d.pairs = append(d.pairs, num)
		d.series += p.n
	}
	dicts := make([]dictionary, 0, len(byName))
	for _, d := range byName {
		slices.SortFunc(d.pairs, func(x, y uint32) int {
			return strings.Compare(b.symbols.text(b.pairs.at(x).value), b.symbols.text(b.pairs.at(y).value))
		})
		dicts = append(dicts, *d)
	}
	slices.SortFunc(dicts, func(x, y dictionary) int { return strings.Compare(x.name, y.name) })
	return dicts
}

func appendNames(dst []byte, dicts []dictionary) []byte {
	for _, d := range dicts {
		dst = appendText(dst, d.name)
		dst = binary.AppendUvarint(dst, uint64(len(d.pairs)))
		dst = binary.AppendUvarint(dst, uint64(d.series))
	}
	return dst
}

func (b *Builder) appendDictionaries(dst []byte, dicts []dictionary) []byte {
	for _, d := range dicts {
		previous := ""
		for rank, num := range d.pairs {
			text := b.symbols.text(b.pairs.at(num).value)
			shared := 0
			if rank%groupSize != 0 {
				for shared < len(text) && shared < len(previous) && text[shared] == previous[shared] {
					shared++
				}
				dst = binary.AppendUvarint(dst, uint64(shared))
			}
			dst = appendText(dst, text[shared:])
			previous = text
		}
	}
	return dst
}

func (b *Builder) appendSets(dst []byte, nameOf map[uint32]uint32) []byte {
	for _, set := range b.sets {
		dst = binary.AppendUvarint(dst, uint64(len(set)))
		for _, sym := range set {
			dst = binary.AppendUvarint(dst, uint64(nameOf[sym]))
		}
	}
	return dst
}

// appendSeries writes each series as what differs from the one before: 0, its set and all ranks; or how many
// leading pairs it shares with a series of the same set, plus one, and the other ranks.
func (b *Builder) appendSeries(dst []byte, rankOf []uint32) []byte {
	var last, pairs []uint32
	lastSet := uint32(0)
	at := 0
	for id := range b.n {
		set := b.series.at(at)
		pairs = b.series.copy(pairs[:0], at+1, len(b.sets[set]))
		at += 1 + len(pairs)
		shared := 0
		if id%groupSize == 0 || set != lastSet {
			dst = append(dst, 0)
			dst = binary.AppendUvarint(dst, uint64(set))
		} else {
			for shared < len(pairs) && pairs[shared] == last[shared] {
				shared++
			}
			dst = binary.AppendUvarint(dst, uint64(shared)+1)
		}
		for _, num := range pairs[shared:] {
			dst = binary.AppendUvarint(dst, uint64(rankOf[num]))
		}
		last, pairs, lastSet = pairs, last, set
	}
	return dst
}

// postingsWriter writes the lists of postings, each distinct one once.
type postingsWriter struct {
	dst    []byte
	starts []uint32          // where the list of each pair so far is in dst, or the one it is equal to
	first  map[uint64]uint32 // pair that a list is written for, by the hash of its bytes
	seed   maphash.Seed
}

// shareFrom is from how many bytes on a list is looked for among those before: a reference takes two or three.
const shareFrom = 5

// appendPostings writes each list as the number of its ids and its runs: the distance from the end of the run
// before, doubled, plus one where a length less two follows. A list that is there already is a 0 and how many pairs
// before.
func (b *Builder) appendPostings(dst []byte, dicts []dictionary) []byte {
	w := postingsWriter{dst: dst, starts: make([]uint32, 0, b.pairs.n), first: map[uint64]uint32{}, seed: maphash.MakeSeed()}
	for _, d := range dicts {
		for _, num := range d.pairs {
			w.add(&b.lists, &b.pairs.at(num).postings)
		}
	}
	return w.dst
}

func (w *postingsWriter) add(lists *lists, p *postings) {
	start := len(w.dst)
	w.dst = binary.AppendUvarint(w.dst, uint64(p.n))
	end := uint32(0) // first id that the next run may begin with
	lists.each(p, func(first, last uint32) bool {
		gap := uint64(first-end) << 1
		if last == first {
			w.dst = binary.AppendUvarint(w.dst, gap)
		} else {
			w.dst = binary.AppendUvarint(w.dst, gap|1)
			w.dst = binary.AppendUvarint(w.dst, uint64(last-first-1))
		}
		end = last + 1
		return true
	})
	pair := uint32(len(w.starts))
	w.starts = append(w.starts, uint32(start))
	list := w.dst[start:]
	if len(list) < shareFrom {
		return
	}
	hash := maphash.Bytes(w.seed, list)
	if before, ok := w.first[hash]; !ok {
		w.first[hash] = pair
	} else if at := w.starts[before]; bytes.HasPrefix(w.dst[at:start], list) {
		// A list says how long it is: what begins with its bytes is it.
		w.dst = append(w.dst[:start], 0)
		w.dst = binary.AppendUvarint(w.dst, uint64(pair-before))
	}
}
