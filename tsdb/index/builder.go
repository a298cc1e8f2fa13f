// Copyright The Tidemark Authors
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/tidemarkdb/tidemark/tsdb/budget"
)

const (
	formatVersion = 1
	headerBytes   = 40 // see docs/format-block.md, index section
	groupSize     = 16 // values of a dictionary, and series, between two restarts of the front coding
	hashSize      = 16
)

// Builder makes the index of a block. It is used by one goroutine: AddSeries for every series in label order,
// then AppendTo, then Close.
type Builder struct {
	meter   meter
	symbols symbols
	pairs   pairTable
	lists   lists

	n      uint32            // series
	set    uint32            // name set of the last series
	sets   [][]uint32        // name symbols of each set
	setOf  map[string]uint32 // set of the name symbols, as bytes
	series pages             // of each series: its set, then its pairs
	last   []uint32          // pairs of the last series
	hashes []byte
	key    []byte
	next   []uint32
}

// ErrOrder is returned by AddSeries for a series that is not after the one before.
var ErrOrder = errors.New("index: series out of order")

// ErrLabels is returned by AddSeries for labels that are not sorted or have an empty name or value.
var ErrLabels = errors.New("index: malformed labels")

// NewBuilder returns an empty builder whose memory is charged to account until Close.
func NewBuilder(account *budget.Account) *Builder {
	b := &Builder{setOf: map[string]uint32{}}
	b.meter.account = account
	b.symbols = newSymbols(&b.meter)
	b.pairs.meter = &b.meter
	b.lists.meter = &b.meter
	b.lists.noBitmaps = true // ids ascend
	return b
}

// N returns the number of series added.
func (b *Builder) N() int { return int(b.n) }

// AddSeries adds the next series; its id is the number of series before it. Strings are copied. After an error
// the builder is of no use but to Close.
func (b *Builder) AddSeries(ls labels.Labels) error {
	if b.n > maxID {
		return ErrID
	}
	if b.n > 0 && b.compareLast(ls) <= 0 {
		return fmt.Errorf("%w: %s", ErrOrder, ls)
	}
	b.next, b.key = b.next[:0], b.key[:0]
	lastName := ""
	err := ls.Validate(func(l labels.Label) error {
		if l.Name <= lastName || l.Value == "" {
			return fmt.Errorf("%w: %s", ErrLabels, ls)
		}
		lastName = l.Name
		return b.addLabel(l)
	})
	if err != nil {
		return err
	}
	if err := b.meter.ensure(int64(len(b.next)+1)*addRoom + pageEntries*4 + int64(cap(b.hashes))); err != nil {
		return fmt.Errorf("build index: %w", err)
	}
	for _, num := range b.next {
		b.lists.add(&b.pairs.at(num).postings, b.n)
	}
	b.chooseSet()
	b.meter.add(b.series.append(b.set))
	b.meter.add(b.series.append(b.next...))
	before := cap(b.hashes)
	h := HashLabels(ls)
	b.hashes = binary.LittleEndian.AppendUint64(b.hashes, h.Hi)
	b.hashes = binary.LittleEndian.AppendUint64(b.hashes, h.Lo)
	b.meter.add(int64(cap(b.hashes) - before))
	b.last = append(b.last[:0], b.next...)
	b.n++
	return nil
}

// addLabel appends the pair of l to next and its name to key.
func (b *Builder) addLabel(l labels.Label) error {
	name, err := b.symbols.intern(l.Name)
	if err != nil {
		return fmt.Errorf("build index: %w", err)
	}
	value, err := b.symbols.intern(l.Value)
	if err != nil {
		return fmt.Errorf("build index: %w", err)
	}
	num, ok := b.pairs.find(name, value)
	if !ok {
		if num, err = b.pairs.open(name, value); err != nil {
			return fmt.Errorf("build index: %w", err)
		}
	}
	b.next = append(b.next, num)
	b.key = binary.LittleEndian.AppendUint32(b.key, name)
	return nil
}

// chooseSet finds the name set of the series whose name symbols are in key.
func (b *Builder) chooseSet() {
	set, ok := b.setOf[string(b.key)]
	if !ok {
		set = uint32(len(b.sets))
		names := make([]uint32, 0, len(b.next))
		for _, num := range b.next {
			names = append(names, b.pairs.at(num).name)
		}
		b.sets = append(b.sets, names)
		b.setOf[string(b.key)] = set
	}
	b.set = set
}

// compareLast compares ls with the series added last, as labels.Compare does.
func (b *Builder) compareLast(ls labels.Labels) int {
	i, c := 0, 0
	err := ls.Validate(func(l labels.Label) error {
		if i == len(b.last) {
			c = 1
			return ErrOrder
		}
		p := b.pairs.at(b.last[i])
		if c = strings.Compare(l.Name, b.symbols.text(p.name)); c == 0 {
			c = strings.Compare(l.Value, b.symbols.text(p.value))
		}
		if c != 0 {
			return ErrOrder
		}
		i++
		return nil
	})
	if err == nil && i < len(b.last) {
		return -1
	}
	return c
}

// Close gives the memory back to the account.
func (b *Builder) Close() {
	b.meter.account.Release(b.meter.reserved)
	*b = Builder{}
}

// dictionary is one label name with its pairs in the order of their values.
type dictionary struct {
	name   string
	sym    uint32
	pairs  []uint32
	series uint32
}

// AppendTo appends the index to dst. It does not change the builder.
func (b *Builder) AppendTo(dst []byte) ([]byte, error) {
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
	dst = append(dst, b.hashes...)
	if len(dst)-start > math.MaxUint32 {
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

// appendPostings writes each list as the number of its ids and its runs: the distance from the end of the run
// before, doubled, plus one where a length less two follows.
func (b *Builder) appendPostings(dst []byte, dicts []dictionary) []byte {
	for _, d := range dicts {
		for _, num := range d.pairs {
			p := &b.pairs.at(num).postings
			dst = binary.AppendUvarint(dst, uint64(p.n))
			end := uint32(0) // first id that the next run may begin with
			b.lists.each(p, func(first, last uint32) bool {
				gap := uint64(first-end) << 1
				if last == first {
					dst = binary.AppendUvarint(dst, gap)
				} else {
					dst = binary.AppendUvarint(dst, gap|1)
					dst = binary.AppendUvarint(dst, uint64(last-first-1))
				}
				end = last + 1
				return true
			})
		}
	}
	return dst
}

// pages is a growing list that never moves what it holds.
type pages struct {
	all []*[pageEntries]uint32
	n   int
}

// append adds numbers and returns how many bytes the list grew by.
func (p *pages) append(numbers ...uint32) (grown int64) {
	for _, x := range numbers {
		if p.n == len(p.all)*pageEntries {
			p.all = append(p.all, new([pageEntries]uint32))
			grown += pageEntries * 4
		}
		p.all[p.n/pageEntries][p.n%pageEntries] = x
		p.n++
	}
	return grown
}

func (p *pages) at(i int) uint32 { return p.all[i/pageEntries][i%pageEntries] }

func (p *pages) copy(dst []uint32, from, n int) []uint32 {
	for i := range n {
		dst = append(dst, p.at(from+i))
	}
	return dst
}
